"""Training data that can start at any step of any epoch."""

from keras_normface.data.in_memory import InMemory
from keras_normface.data.protocol import ResumableData

__all__ = ["InMemory", "ResumableData"]
