"""What goes along with `fit`."""

from keras_normface.training.checkpoints import Checkpoints
from keras_normface.training.event_log import EventLog
from keras_normface.training.nan_guard import NanGuard
from keras_normface.training.pair_evaluation import PairEvaluation
from keras_normface.training.resume import fit_resumable
from keras_normface.training.scale_monitor import ScaleMonitor
from keras_normface.training.snapshots import Snapshots, average_snapshots

__all__ = [
    "Checkpoints",
    "EventLog",
    "NanGuard",
    "PairEvaluation",
    "ScaleMonitor",
    "Snapshots",
    "average_snapshots",
    "fit_resumable",
]
