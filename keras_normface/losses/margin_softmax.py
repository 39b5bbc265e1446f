"""The softmax loss with a margin: the one formula behind every named softmax loss."""

import keras
from keras import ops

from keras_normface import margins
from keras_normface.losses.base import SphereLoss
from keras_normface.margins import NoMargin


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


def margin_cosines(cosines, ids, margin, *, value=None):
    """Cosines with the margin in place: ψ(θ_y) at the own class, η(θ_j) at the others.

    Args:
        cosines: Tensor `(..., num_classes)`.
        ids: Valid class ids `(...)`, int32.
        margin: A `Margin`.
        value: Replaces the margin's number: a number or a scalar tensor.

    Returns:
        Tensor `(..., num_classes)`.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame.

    Example:
    >>> from keras import ops
    >>> from keras_normface.margins import AdditiveCosine
    >>> m = margin_cosines(ops.array([[0.5, 0.25]]), ops.array([0]), AdditiveCosine(0.25))
    >>> ops.convert_to_numpy(m).tolist()
    [[0.25, 0.25]]
    """
    if isinstance(margin, NoMargin):
        return cosines
    ids = ops.expand_dims(ids, axis=-1)
    target = margin.target(ops.take_along_axis(cosines, ids, axis=-1), value)
    is_target = ops.equal(ops.arange(cosines.shape[-1], dtype="int32"), ops.cast(ids, "int32"))
    return ops.where(is_target, target, margin.non_target(cosines, value))


@keras.saving.register_keras_serializable(package="keras_normface")
class MarginSoftmaxLoss(SphereLoss):
    """Cross-entropy of `scale · (ψ(θ_y) at the own class, η(θ_j) at the others)`, on cosines.

    Args:
        margin: A `Margin`; `None` means `NoMargin()`.
        scale: Factor s. Positive.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)` or one-hot rows `(B, C)`; `y_pred` cosines `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame with hard feature normalisation, λ/s = 1.

    Example:
    >>> import numpy as np
    >>> from keras_normface.margins import AdditiveCosine
    >>> loss = MarginSoftmaxLoss(AdditiveCosine(0.25), scale=4.0)
    >>> round(float(loss(np.array([0]), np.array([[0.5, 0.25]]))), 4)  # both logits are 1: log 2
    0.6931
    """

    def __init__(
        self,
        margin=None,
        scale=30.0,
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="margin_softmax_loss",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not scale > 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing=}")
        self.margin = margins.get(margin)
        self.scale = float(scale)
        self.label_smoothing = float(label_smoothing)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids."""
        logits = self.scale * margin_cosines(y_pred, ids, self.margin)
        return softmax_loss(logits, ids, label_smoothing=self.label_smoothing)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "margin": keras.saving.serialize_keras_object(self.margin),
            "scale": self.scale,
            "label_smoothing": self.label_smoothing,
        }
