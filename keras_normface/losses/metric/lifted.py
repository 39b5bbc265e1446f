"""The lifted structured loss."""

import keras
from keras import ops

from keras_normface.losses.metric.base import EmbeddingLoss, finite, positive_pairs


@keras.saving.register_keras_serializable(package="keras_normface")
class LiftedStructLoss(EmbeddingLoss):
    """Lifted structured loss: every positive pair against all negatives of both its ends, smoothly.

    `J_ij = log(Σ_{k∉class} e^{m − d_ik} + Σ_{k∉class} e^{m − d_jk}) + d_ij` for each positive pair, on
    Euclidean distances; `L_i = B/(2P) · Σ_j max(0, J_ij)²` over the positives j of i, with P ordered positive
    pairs in the batch. The mean over the batch is the paper's. An anchor without positives has loss 0, and
    so have all where the batch holds one class (addons: NaN).

    The count P is that of the batch, or of the replica's part of it; see `MetricLoss`.

    Args:
        margin: m. Finite.
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`; `y_pred` embeddings `(B, dim)`, which the paper does
    not normalise.

    Raises:
        ValueError: If the margin is not finite, or the shapes are others.

    Source: Lifted structure (arXiv 1511.06452), Eq. 4.

    Example:
    >>> import numpy as np
    >>> loss = LiftedStructLoss(margin=1.0)
    >>> embeddings = np.array([[0.0], [1.0], [2.0]])  # J = log(e^(1 − 2) + e^(1 − 1)) + 1; L = J²/2
    >>> round(float(loss(np.array([0, 0, 1]), embeddings)), 4)
    0.8623
    """

    def __init__(
        self,
        margin=1.0,
        name="lifted_struct_loss",
        reduction="sum_over_batch_size",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = finite("margin", margin)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        positives, factor = positive_pairs(is_same)
        is_pushed = ops.logical_not(ops.all(is_same, axis=-1, keepdims=True))
        # Rows without a negative are left out BEFORE the logarithm, whose gradient there would be NaN.
        kept = ops.logical_and(is_pushed, ops.logical_not(is_same))
        gaps = ops.where(kept, self.margin - distances, ops.full_like(distances, float("-inf")))
        gaps = ops.where(is_pushed, gaps, ops.zeros_like(gaps))
        push = ops.logsumexp(gaps, axis=-1, keepdims=True)
        # log(e^a + e^b) = a + softplus(b − a): unlike logaddexp, it shares the gradient where a = b.
        lifted = push + ops.softplus(ops.transpose(push) - push) + distances
        counted = ops.logical_and(positives, is_pushed)
        hinges = ops.where(counted, ops.relu(lifted), ops.zeros_like(lifted))
        return 0.5 * ops.cast(factor, hinges.dtype) * ops.sum(ops.square(hinges), axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}
