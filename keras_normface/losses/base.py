"""What all losses on class labels share."""

import keras

from keras_normface.losses import labels


class SphereLoss(keras.losses.Loss):
    """Base of the losses on cosines or logits: checks labels, returns one loss a sample, computes in float32.

    A label out of range is a `ValueError` when the loss is called eagerly; inside a graph (which `fit`
    always makes) it makes the loss of that sample NaN.
    `reduction="mean_with_sample_weight"` divides by the sum of the weights on each replica by itself, so
    under several replicas it is not the mean over the global batch; the other reductions are.

    Args:
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`. Halves are refused: they would round the class ids.

    Raises:
        ValueError: If `dtype` is another one.
    """

    expects_cosines = True
    """Whether `y_pred` must be cosines (`CosineDense`), and not logits (`LearnableScale`)."""

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'`dtype` must be "float32" or "float64". Received: dtype={dtype!r}')

    def call(self, y_true, y_pred):
        """Return the loss of each sample.

        Args:
            y_true: Class ids `(...)` or `(..., 1)`, or one-hot rows `(..., num_classes)`.
            y_pred: Cosines or logits, `(..., num_classes)`.

        Returns:
            Tensor of shape `(...)`.

        Raises:
            ValueError: For labels that do not fit (see the class).
        """
        ids, valid = labels.class_ids(y_true, tuple(y_pred.shape))
        return labels.nan_where_invalid(self.loss_of_ids(ids, y_pred), valid)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids `(...)` and `y_pred` `(..., num_classes)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `loss_of_ids`.")

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dtype": self.dtype}
