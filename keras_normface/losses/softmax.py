"""The normalised softmax loss."""

import keras
from keras import ops

from keras_normface.losses import labels
from keras_normface.losses.base import SphereLoss


def softmax_loss(logits, ids, *, label_smoothing=0.0):
    """Cross-entropy of each sample with its class, `logΣe^{z_j} − z_y`, from logits.

    Args:
        logits: Tensor `(..., num_classes)`.
        ids: Valid class ids `(...)`, integers.
        label_smoothing: Share ε of the target that is spread evenly over all classes.

    Returns:
        Tensor `(...)`, in nats.

    Source: NormFace (arXiv 1704.06369), Eq. 1.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(softmax_loss(ops.zeros((1, 4)), ops.array([2]))).round(4).tolist()
    [1.386299967765808]
    """
    losses = ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)
    if not label_smoothing:
        return losses
    target = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1), axis=-1)
    return losses + label_smoothing * (target - ops.mean(logits, axis=-1))


@keras.saving.register_keras_serializable(package="keras_normface")
class NormFaceLoss(SphereLoss):
    """Normalised softmax: cross-entropy of `scale · y_pred`.

    On the logits of `LearnableScale` leave `scale` at 1. On bare cosines give a fixed scale, 20 to 30: at
    scale 1 the loss cannot fall below `softmax_loss_lower_bound`, and training stands still.

    Args:
        scale: Factor s on `y_pred`. Positive.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`, or rows of probabilities `(B, C)`; `y_pred` `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 6.

    Example:
    >>> import numpy as np
    >>> loss = NormFaceLoss(scale=20.0)
    >>> value = float(loss(np.array([0]), np.array([[0.9, 0.1, -0.2]])))
    >>> value < 1e-6
    True
    """

    def __init__(
        self,
        scale=1.0,
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="normface_loss",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not scale > 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing=}")
        self.scale = float(scale)
        self.label_smoothing = float(label_smoothing)

    @property
    def expects_cosines(self):
        """Whether `y_pred` must be cosines: only with a scale of its own."""
        return self.scale != 1.0

    def call(self, y_true, y_pred):
        """Return the loss of each sample; see `SphereLoss.call`. Dense labels may be soft."""
        shape = tuple(y_pred.shape)
        if labels.is_sparse(y_true, shape):
            return super().call(y_true, y_pred)
        targets, valid = labels.class_probabilities(y_true, shape)
        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / shape[-1]
        losses = ops.categorical_crossentropy(smooth, self.scale * y_pred, from_logits=True)
        return labels.nan_where_invalid(losses, valid)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids."""
        return softmax_loss(self.scale * y_pred, ids, label_smoothing=self.label_smoothing)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "scale": self.scale, "label_smoothing": self.label_smoothing}
