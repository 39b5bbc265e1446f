"""Keras models and the checks on them."""

from keras_normface.models.checks import check_losses

__all__ = ["check_losses"]
