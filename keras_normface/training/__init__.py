"""What goes along with `fit`."""

from keras_normface.training.scale_monitor import ScaleMonitor

__all__ = ["ScaleMonitor"]
