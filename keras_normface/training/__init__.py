"""What goes along with `fit`."""

from keras_normface.training.checkpoints import Checkpoints
from keras_normface.training.nan_guard import NanGuard
from keras_normface.training.resume import fit_resumable
from keras_normface.training.scale_monitor import ScaleMonitor

__all__ = ["Checkpoints", "NanGuard", "ScaleMonitor", "fit_resumable"]
