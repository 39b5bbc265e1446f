"""Keras's trainer under `tf.distribute`, with XLA inside each replica."""

from keras_normface.distribute._functions import is_chief, is_multi_worker, same_everywhere
from keras_normface.distribute._mixin import ReplicaXLA

__all__ = [
    "ReplicaXLA",
    "is_chief",
    "is_multi_worker",
    "same_everywhere",
]
