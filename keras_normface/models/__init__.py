"""Keras models and the checks on them."""

from keras_normface.models.checks import check_losses
from keras_normface.models.embedding_model import EmbeddingModel

__all__ = ["EmbeddingModel", "check_losses"]
