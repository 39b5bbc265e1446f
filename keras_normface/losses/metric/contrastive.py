"""The contrastive loss on distances of pairs."""

import keras
from keras import ops

from keras_normface.losses import labels
from keras_normface.losses.metric.base import MetricLoss, finite


@keras.saving.register_keras_serializable(package="keras_normface")
class ContrastiveLoss(MetricLoss):
    """Contrastive loss of pairs: pull equal ones together, push others a margin apart.

    `L_i = y_i·d_i² + (1 − y_i)·max(0, m − d_i)²`, with `y_i = 1` for a pair of one class. Pairs do not meet
    each other here, so replicas change nothing.

    Args:
        margin: m, the distance above which a pair of two classes is not pushed any more. Finite.
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` `(B,)` or `(B, 1)`, in [0, 1] (another value makes the loss of that pair NaN);
    `y_pred` the Euclidean (not squared) distances of the pairs, `(B,)` or `(B, 1)`.

    Raises:
        ValueError: If the margin is not finite, or the shapes are others.

    Source: Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping, CVPR 2006,
    without its factor 1/2, as in tensorflow-addons.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> loss = ContrastiveLoss(margin=1.0, reduction="none")
    >>> ops.convert_to_numpy(loss(np.array([1, 0, 0]), np.array([0.5, 0.5, 3.0]))).tolist()
    [0.25, 0.25, 0.0]
    """

    def __init__(self, margin=1.0, reduction="sum_over_batch_size", name="contrastive_loss", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = finite("margin", margin)

    def call(self, y_true, y_pred):
        """Return the loss of each pair, `(B,)`; see the class for the shapes."""
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        fit = [len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) for shape in shapes]
        sizes = [shape[0] for shape in shapes if shape and shape[0] is not None]
        if not all(fit) or len(set(sizes)) > 1:
            raise ValueError(
                "`y_true` and `y_pred` must both have shape (B,) or (B, 1). "
                f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
            )
        is_pair = ops.cast(ops.reshape(y_true, (-1,)), self.dtype)
        distance = ops.cast(ops.reshape(y_pred, (-1,)), self.dtype)
        gap = ops.maximum(self.margin - distance, 0.0)
        losses = is_pair * ops.square(distance) + (1.0 - is_pair) * ops.square(gap)
        return labels.nan_where_invalid(losses, ops.logical_and(is_pair >= 0, is_pair <= 1))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}
