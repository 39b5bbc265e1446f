"""Margins whose η sees the sample's own ψ: other classes that lie above it are hard, and count for more."""

import math

import keras
from keras import ops

from keras_normface import _validation
from keras_normface.margins._base import Margin, in_range, pair
from keras_normface.margins._fixed import AdditiveCosine, Wrapped


class _HardClasses(Margin):
    """η differs from the cosine where that exceeds the sample's own ψ; its gradient is always exact."""

    changes_others = True
    sees_own = True

    def non_target(self, cosine, value=None, own=None):
        """η, with its exact derivative: no angle is in it. Without `own` no class is hard."""
        cosine = ops.convert_to_tensor(cosine)
        if own is None:
            return cosine
        return ops.where(cosine > own, self._hard(cosine, self._number(value, cosine)), cosine)

    def non_target_slope(self, cosine, value=None, own=None):
        """dη/dcos: 1 at classes that are not hard."""
        ones = ops.ones_like(cosine)
        if own is None:
            return ones
        return ops.where(cosine > own, self._hard_slope(cosine, self._number(value, cosine)), ones)


@keras.saving.register_keras_serializable(package="keras_normface")
class CurricularFace(_HardClasses):
    """ψ = cos(min(π, θ + m)); η = cos·(t + cos) at hard classes, those with cos > ψ, and cos at the others.

    A head keeps t, a moving average of the mean target cosine of the batches, of the whole batch under several
    replicas: it rises as the network learns, and hard classes count more and more. It moves in training only, before
    it is used; a batch with a cosine that is not finite leaves it as it is. Sample weights do not act on it. η has its
    exact derivative, t + 2cos, whatever `gradient` says; t and ψ in the comparison have none.

    Args:
        margin: m, in [0, π]. A schedule replaces it.
        rate: Share of a batch in t, in (0, 1].
        gradient: `"detached"` or `"exact"`, of ψ with respect to the cosine; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: CurricularFace (arXiv 2004.00288); formula and defaults were read in the authors' published code, which goes
    on as cosθ − m·sin m past θ = π − m; here ψ stays at −1.

    Example:
    >>> from keras import ops
    >>> margin = CurricularFace()
    >>> eta = margin.non_target(ops.array([0.5, -0.5]), (0.5, 0.25), ops.array(0.25))
    >>> ops.convert_to_numpy(eta).tolist()  # 0.5·(0.25 + 0.5), and a class that is not hard
    [0.375, -0.5]
    """

    by_sample = True
    state = {"mean_target_cosine": 0.0}  # noqa: RUF012

    def __init__(self, margin=0.5, *, rate=0.01, gradient="detached"):
        super().__init__(in_range("margin", margin, 0.0, math.pi), gradient)
        self.rate = _validation.number("rate", rate, above=0, at_most=1)

    def of_samples(self, number, norm, draw, state):
        """(m, t)."""
        return number, state["mean_target_cosine"]

    def sums(self, norm, cosine, state):
        """Samples, and the sum of their target cosines."""
        return ops.stack([ops.sum(ops.ones_like(cosine)), ops.sum(cosine)])

    def moved(self, state, sums):
        """t, moved towards the mean of the batch."""
        count, total = ops.unstack(sums, 2)
        enough, old = ops.logical_and(count >= 1.0, ops.isfinite(total)), state["mean_target_cosine"]
        new = old + self.rate * (total / ops.maximum(count, 1.0) - old)
        return {"mean_target_cosine": ops.where(enough, new, old)}

    def _psi(self, cosine, value):
        return ops.cos(ops.minimum(self._angle(cosine) + pair(value)[0], math.pi))

    def _hard(self, cosine, value):
        return cosine * (pair(value)[1] + cosine)

    def _hard_slope(self, cosine, value):
        return pair(value)[1] + 2.0 * cosine

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": self.value, "rate": self.rate, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class MVSoftmax(Wrapped, _HardClasses):
    """Another margin's ψ, and η = t·cos + t − 1 at hard classes, those with cos > ψ: MV-Softmax.

    η has its exact derivative, t, at hard classes; ψ that of the margin.

    Args:
        margin: A `Margin` that leaves the other classes as they are, such as `AdditiveCosine` (MV-AM) or
            `AdditiveAngular` (MV-Arc), also one by the sample; `None` means `AdditiveCosine(0.35)`. A schedule replaces
            its number.
        hardness: t, at least 1. 1: the margin itself.

    Raises:
        ValueError: If an argument is out of its range.

    Source: MV-Softmax (arXiv 1912.00833), the adaptive form; the formula was read in published code, t is its default,
    m = 0.35 with a scale of 32 is remembered and not re-read.

    Example:
    >>> from keras import ops
    >>> margin = MVSoftmax(hardness=1.5)
    >>> eta = margin.non_target(ops.array([0.5, -0.5]), own=ops.array(0.25))
    >>> ops.convert_to_numpy(eta).tolist()  # 1.5·0.5 + 0.5, and a class that is not hard
    [1.25, -0.5]
    """

    def __init__(self, margin=None, *, hardness=1.12):
        super().__init__(AdditiveCosine() if margin is None else margin)
        if self.margin.changes_others:
            raise ValueError(f"`margin` must leave the other classes as they are. Received: margin={self.margin!r}")
        self.hardness = _validation.number("hardness", hardness, at_least=1)

    def _hard(self, cosine, value):
        return self.hardness * cosine + (self.hardness - 1.0)

    def _hard_slope(self, cosine, value):
        return self.hardness * ops.ones_like(cosine)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "hardness": self.hardness}
