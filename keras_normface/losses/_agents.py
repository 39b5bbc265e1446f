"""Agent-based metric losses: a class is stood for by its agent, so a batch meets every class at once."""

import keras
from keras import ops

from keras_normface import _validation
from keras_normface.losses._softmax import SphereLoss
from keras_normface.sphere import squared_distance


def split_distances(ids, cosines):
    """(...) ids, (..., C) cosines → squared distances to the own agent (..., 1), to all (..., C), mask of others."""
    distances = squared_distance(cosines)
    ids = ops.expand_dims(ids, axis=-1)
    is_negative = ops.not_equal(ops.arange(cosines.shape[-1], dtype="int32"), ids)
    return ops.take_along_axis(distances, ids, axis=-1), distances, is_negative


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentContrastiveLoss(SphereLoss):
    """C-contrastive loss: pull to the own agent, push from all others.

    `L_i = w⁺·min(T, max(0, d_iy − m⁺)) + Σ_{j≠y} w⁻·max(0, m⁻ − d_ij)` with squared distances
    `d = 2 − 2 cos`; the sum runs over classes, the reduction over the batch.
    `negative_margin=0` leaves the "center" loss.

    Args:
        positive_margin: m⁺, the distance below which a sample is not pulled any more. At least 0.
        negative_margin: m⁻, the distance above which an agent does not push any more. At least 0.
        positive_weight: w⁺, at least 0.
        negative_weight: w⁻, at least 0.
        positive_cap: T, where the pull saturates. Positive. At 4 it is no cap, since d ≤ 4.
        hardest_negative_only: Whether only the nearest other agent pushes.
        exponential_negatives: Whether a push inside the margin is `w⁻·exp(−d)`, not `w⁻·(m⁻ − d)`.
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)` or one-hot rows `(B, C)`; `y_pred` cosines `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 10; options from the authors' code.

    Example:
    >>> import numpy as np
    >>> loss = AgentContrastiveLoss()
    >>> round(float(loss(np.array([0]), np.array([[0.75, 0.75, -1.0]]))), 6)  # 0.5 + (1 − 0.5)
    1.0
    """

    def __init__(
        self,
        *,
        positive_margin=0.0,
        negative_margin=1.0,
        positive_weight=1.0,
        negative_weight=1.0,
        positive_cap=4.0,
        hardest_negative_only=False,
        exponential_negatives=False,
        reduction="sum_over_batch_size",
        name="agent_contrastive_loss",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.positive_margin = _validation.number("positive_margin", positive_margin, at_least=0)
        self.negative_margin = _validation.number("negative_margin", negative_margin, at_least=0)
        self.positive_weight = _validation.number("positive_weight", positive_weight, at_least=0)
        self.negative_weight = _validation.number("negative_weight", negative_weight, at_least=0)
        self.positive_cap = _validation.number("positive_cap", positive_cap, above=0)
        self.hardest_negative_only = bool(hardest_negative_only)
        self.exponential_negatives = bool(exponential_negatives)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids and cosines."""
        positive, distances, is_negative = split_distances(ids, y_pred)
        pull = ops.minimum(ops.relu(positive[..., 0] - self.positive_margin), self.positive_cap)
        if self.exponential_negatives:
            inside = distances < self.negative_margin
            push = ops.where(inside, ops.exp(-distances), ops.zeros_like(distances))
        else:
            push = ops.relu(self.negative_margin - distances)
        push = ops.where(is_negative, push, ops.zeros_like(push))
        over_agents = ops.max if self.hardest_negative_only else ops.sum
        return self.positive_weight * pull + self.negative_weight * over_agents(push, axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "positive_margin": self.positive_margin,
            "negative_margin": self.negative_margin,
            "positive_weight": self.positive_weight,
            "negative_weight": self.negative_weight,
            "positive_cap": self.positive_cap,
            "hardest_negative_only": self.hardest_negative_only,
            "exponential_negatives": self.exponential_negatives,
        }


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentTripletLoss(SphereLoss):
    """C-triplet loss: the own agent must be nearer than every other one by a margin.

    `L_i = Σ_{j≠y} max(0, m + d_iy − d_ij)` with squared distances `d = 2 − 2 cos`, plus `d_iy` with the
    positive pull. The recipe of the paper is `hardest_negative_only=True, positive_pull=True`.

    Args:
        margin: m, at least 0.
        hardest_negative_only: Whether only the nearest other agent counts.
        positive_pull: Whether `d_iy` is added, also where no triplet violates (`add_center_loss`).
        gradient: `"exact"`: the gradient of the value above. `"caffe"`: the original code's pair: the value
            is `Σ hinge` with or without the pull, its derivative is 1 in `d_iy` if any agent violates (or
            always, with the pull), and −1 in each violating `d_ij`.
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)` or one-hot rows `(B, C)`; `y_pred` cosines `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 11; options and `"caffe"` from the authors' code.

    Example:
    >>> import numpy as np
    >>> loss = AgentTripletLoss(margin=0.75)
    >>> round(float(loss(np.array([0]), np.array([[0.75, 0.5, -1.0]]))), 6)  # 0.75 + 0.5 − 1
    0.25
    """

    def __init__(
        self,
        margin=0.8,
        *,
        hardest_negative_only=False,
        positive_pull=False,
        gradient="exact",
        reduction="sum_over_batch_size",
        name="agent_triplet_loss",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if gradient not in ("exact", "caffe"):
            raise ValueError(f'`gradient` must be "exact" or "caffe". Received: gradient={gradient!r}')
        self.margin = _validation.number("margin", margin, at_least=0)
        self.hardest_negative_only = bool(hardest_negative_only)
        self.positive_pull = bool(positive_pull)
        self.gradient = gradient

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids and cosines."""
        positive, distances, is_negative = split_distances(ids, y_pred)
        if self.hardest_negative_only:
            far = ops.full_like(distances, float("inf"))
            distances = ops.min(ops.where(is_negative, distances, far), axis=-1, keepdims=True)
            is_negative = ops.not_equal(distances, float("inf"))
        hinges = ops.relu(self.margin + positive - distances)
        hinges = ops.where(is_negative, hinges, ops.zeros_like(hinges))
        positive, value = positive[..., 0], ops.sum(hinges, axis=-1)
        if self.gradient == "caffe":
            return self._with_caffe_gradient(value, positive, distances, hinges > 0)
        return value + positive if self.positive_pull else value

    def _with_caffe_gradient(self, value, positive, distances, violates):
        pulled = ops.ones_like(positive)
        if not self.positive_pull:
            pulled = ops.cast(ops.any(violates, axis=-1), positive.dtype)
        pushes = ops.sum(ops.where(violates, distances, ops.zeros_like(distances)), axis=-1)
        surrogate = pulled * positive - pushes
        return ops.stop_gradient(value) + surrogate - ops.stop_gradient(surrogate)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "hardest_negative_only": self.hardest_negative_only,
            "positive_pull": self.positive_pull,
            "gradient": self.gradient,
        }
