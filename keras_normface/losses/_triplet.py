"""Triplet losses that mine inside the batch."""

import keras
from keras import ops

from keras_normface.losses._metric import EmbeddingLoss, finite, positive_pairs
from keras_normface.losses._pairwise import (
    masked_max,
    masked_min,
    other_positions,
    resolve_distance,
    semi_hard_negatives,
)


class TripletLoss(EmbeddingLoss):
    """Base of the triplet losses: a finite margin and a distance, as `resolve_distance` takes it."""

    def __init__(self, margin, distance_metric, name, reduction, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = finite("margin", margin)
        self.distance_metric = distance_metric
        self.distances_of = resolve_distance(distance_metric)

    def distances(self, embeddings):
        """Return the distances `(B, B)` of embeddings `(B, dim)`, by the `distance_metric`."""
        return ops.cast(self.distances_of(embeddings), self.dtype)

    def get_config(self):
        """Return the arguments of the constructor; a callable distance as Keras serialises it."""
        metric = self.distance_metric
        metric = metric if isinstance(metric, str) else keras.saving.serialize_keras_object(metric)
        return {**super().get_config(), "margin": self.margin, "distance_metric": metric}

    @classmethod
    def from_config(cls, config):
        """Return the loss that `get_config` describes."""
        metric = config.get("distance_metric")
        if isinstance(metric, dict):
            config = {**config, "distance_metric": keras.saving.deserialize_keras_object(metric)}
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_normface")
class TripletSemiHardLoss(TripletLoss):
    """Triplet loss with semi-hard negatives, over all positive pairs of the batch.

    For anchor a and positive p, n(a, p) is the nearest negative that is farther than p, or the farthest one
    if none is: `L_a = B/P · Σ_p max(0, m + d_ap − d_an(a,p))` over the positives p of a, with P ordered
    positive pairs in the batch. The mean over the batch is the mean over pairs; an anchor without positives
    has loss 0, and so has a batch without positive pairs (addons: NaN). In a batch of one class the "negative
    distance" is the row's minimum, which is 0 on Euclidean ones: positives are pulled, as in addons.

    Pairs are mined and counted (P) inside the batch, or the replica's part of it; see `MetricLoss`.

    Args:
        margin: m. Finite.
        distance_metric: `"L2"`, `"squared-L2"`, `"angular"`, or a callable; see `resolve_distance`. To save
            a model with a callable, register it with Keras.
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`; `y_pred` embeddings `(B, dim)`, normalised by
    the model.

    Raises:
        ValueError: If an argument is out of its range, or the shapes are others.

    Source: FaceNet (arXiv 1503.03832), §3.2.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> loss = TripletSemiHardLoss(margin=1.0, reduction="none")
    >>> embeddings = np.array([[0.0], [1.0], [1.5], [9.0]])  # 1 + 1 − 1.5, and 1 + 1 − 8; twice B/P = 2
    >>> ops.convert_to_numpy(loss(np.array([0, 0, 1, 2]), embeddings)).tolist()
    [1.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        margin=1.0,
        *,
        distance_metric="L2",
        name="triplet_semihard_loss",
        reduction="sum_over_batch_size",
        dtype="float32",
    ):
        super().__init__(margin, distance_metric, name, reduction, dtype)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        positives, factor = positive_pairs(is_same, distances.dtype)
        negative = semi_hard_negatives(distances, ops.logical_not(is_same))
        hinges = ops.relu(self.margin + (distances - negative))
        hinges = ops.where(positives, hinges, ops.zeros_like(hinges))
        return factor * ops.sum(hinges, axis=-1)


@keras.saving.register_keras_serializable(package="keras_normface")
class TripletHardLoss(TripletLoss):
    """Triplet loss with each anchor's farthest positive and nearest negative.

    `L_a = max(0, m + max_p d_ap − min_n d_an)`, or `log(1 + e^{max_p d_ap − min_n d_an})` with the soft
    margin. As in addons, the row's extremes step in: an anchor without positives has the row's minimum as
    its positive distance (0, its own, on Euclidean ones), so its nearest negative is still pushed away;
    without negatives the negative distance is the row's maximum, so `L_a` is m, or log 2, with no gradient.

    Triplets are mined inside the batch, or the replica's part of it; see `MetricLoss`.

    Args:
        margin: m. Finite; unused by the soft margin.
        soft: Whether the margin is soft.
        distance_metric: `"L2"`, `"squared-L2"`, `"angular"`, or a callable; see `resolve_distance`. To save
            a model with a callable, register it with Keras.
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`; `y_pred` embeddings `(B, dim)`, normalised by
    the model.

    Raises:
        ValueError: If an argument is out of its range, or the shapes are others.

    Source: In defense of the triplet loss (arXiv 1703.07737), Eq. 5.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> loss = TripletHardLoss(margin=1.0, reduction="none")
    >>> embeddings = np.array([[0.0], [1.0], [1.5], [9.0]])
    >>> ops.convert_to_numpy(loss(np.array([0, 0, 1, 2]), embeddings)).tolist()
    [0.5, 1.5, 0.5, 0.0]
    """

    def __init__(
        self,
        margin=1.0,
        *,
        soft=False,
        distance_metric="L2",
        name="triplet_hard_loss",
        reduction="sum_over_batch_size",
        dtype="float32",
    ):
        super().__init__(margin, distance_metric, name, reduction, dtype)
        self.soft = bool(soft)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        positives = ops.logical_and(is_same, other_positions(is_same))
        excess = masked_max(distances, positives) - masked_min(distances, ops.logical_not(is_same))
        losses = ops.softplus(excess) if self.soft else ops.relu(excess + self.margin)
        return losses[:, 0]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "soft": self.soft}
