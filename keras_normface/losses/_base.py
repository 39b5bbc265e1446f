"""What all losses share: the types they take and compute in."""

import keras
from keras import ops

from keras_normface import _labels


def in_float32_at_least(embeddings):
    """Tensor, array or lists → tensor of float32, or float64 if it was."""
    embeddings = ops.convert_to_tensor(embeddings)
    return ops.cast(embeddings, keras.backend.result_type(embeddings.dtype, "float32"))


class CheckedLoss(keras.losses.Loss):
    """Base of the losses: float32 or float64, on tensors, variables, arrays or lists of numbers."""

    def __init__(self, *, name=None, reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'`dtype` must be "float32" or "float64". Received: dtype={dtype!r}')

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Return the reduced loss; what is not numbers is refused before Keras casts it to the loss's type."""
        y_true = _labels.as_tensor("y_true", y_true)
        _labels.check_numeric("y_pred", y_pred)
        # A tensor is handed on as it is, since Keras keeps its mask as an attribute of it.
        if isinstance(y_pred, list | tuple):
            y_pred = _labels.as_tensor("y_pred", y_pred, self.dtype)
        return super().__call__(y_true, y_pred, sample_weight)

    def tensors(self, y_true, y_pred):
        """Labels as a tensor of their own type, and predictions as one of the loss's type."""
        return _labels.as_tensor("y_true", y_true), _labels.as_tensor("y_pred", y_pred, self.dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dtype": self.dtype}
