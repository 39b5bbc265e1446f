"""The margins whose number is the same for all samples: the rows of SphereFace-R's table."""

import math

import keras
from keras import ops

from keras_normface.margins._base import CLIP, Margin, in_range


@keras.saving.register_keras_serializable(package="keras_normface")
class NoMargin(Margin):
    """ψ = η = cosθ: NormFace.

    Source: NormFace (arXiv 1704.06369), Eq. 6.

    Example:
    >>> from keras import ops
    >>> float(NoMargin().target(ops.array(0.5)))
    0.5
    """

    def __init__(self):
        super().__init__(0.0, "exact")

    def target(self, cosine, value=None):
        """ψ = cosθ."""
        return cosine

    def get_config(self):
        """Return the arguments of the constructor: none."""
        return {}


@keras.saving.register_keras_serializable(package="keras_normface")
class AdditiveCosine(Margin):
    """ψ = cosθ − m: AM-Softmax, CosFace. Exact and detached gradients are the same.

    Args:
        margin: m, in [0, 2].
        only_above_margin: Whether the margin acts only where cosθ > m, as in the authors' code ("easy margin"
            elsewhere).

    Raises:
        ValueError: If `margin` is out of its range.

    Source: AM-Softmax (arXiv 1801.05599), Eq. 5; option from the authors' code.

    Example:
    >>> from keras import ops
    >>> float(AdditiveCosine(0.25).target(ops.array(0.5)))
    0.25
    """

    def __init__(self, margin=0.35, *, only_above_margin=False):
        super().__init__(in_range("margin", margin, 0.0, 2.0), "exact")
        self.only_above_margin = bool(only_above_margin)

    def _psi(self, cosine, value):
        if self.only_above_margin:
            return ops.where(cosine > value, cosine - value, cosine)
        return cosine - value

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": self.value, "only_above_margin": self.only_above_margin}


@keras.saving.register_keras_serializable(package="keras_normface")
class AdditiveAngular(Margin):
    """ψ = cos(min(π, θ + m)): ArcFace, never increasing in θ.

    Args:
        margin: m, in [0, π]; with the linear tail in [0, π/2].
        tail: What ψ is past θ = π − m. `"clamp"`: −1. `"linear"`: cosθ − m·sin m, as other implementations do.
        gradient: `"detached"` or `"exact"`; see `Margin`. The exact derivative, sin(θ+m)/sinθ, has no limit at
            small θ, and training from scratch with it can collapse.

    Raises:
        ValueError: If an argument is out of its range.

    Source: SphereFace-R (arXiv 2109.05565), table of margins, for ArcFace's row.

    Example:
    >>> from keras import ops
    >>> round(float(AdditiveAngular(0.5).target(ops.array(1.0))), 4)  # cos(0 + 0.5)
    0.8776
    """

    def __init__(self, margin=0.5, *, tail="clamp", gradient="detached"):
        if tail not in ("clamp", "linear"):
            raise ValueError(f'`tail` must be "clamp" or "linear". Received: tail={tail!r}')
        most = math.pi if tail == "clamp" else math.pi / 2
        super().__init__(in_range("margin", margin, 0.0, most), gradient)
        self.tail = tail

    def _psi(self, cosine, value):
        angle = self._angle(cosine) + value
        if self.tail == "clamp":
            return ops.cos(ops.minimum(angle, math.pi))
        return ops.where(angle <= math.pi, ops.cos(angle), cosine - value * ops.sin(value))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": self.value, "tail": self.tail, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class MultiplicativeAngular(Margin):
    """SphereFace and SphereFace-R: an angle multiplied by m, or divided by it.

    `"v0"` (SphereFace): ψ = (−1)^k cos(mθ) − 2k, k = ⌊mθ/π⌋. `"v1"`: ψ = cos(min(mθ, π)). `"v2"`: η = cos(θ/m), with
    ψ = cosθ, so that the margin sits on the other classes only.

    Args:
        margin: m, a real number of at least 1.
        variant: `"v0"`, `"v1"` or `"v2"`.
        gradient: `"detached"` or `"exact"`; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: SphereFace-R (arXiv 2109.05565), table of margins.

    Example:
    >>> from keras import ops
    >>> round(float(MultiplicativeAngular(2.0, variant="v1").target(ops.array(0.5))), 4)  # cos(2 · π/3)
    -0.5
    """

    def __init__(self, margin=1.5, *, variant="v1", gradient="detached"):
        if variant not in ("v0", "v1", "v2"):
            raise ValueError(f'`variant` must be "v0", "v1" or "v2". Received: variant={variant!r}')
        super().__init__(in_range("margin", margin, 1.0, math.inf), gradient)
        self.variant = variant

    @property
    def changes_others(self):
        """Whether η differs from the cosine: in v2 only."""
        return self.variant == "v2"

    def target(self, cosine, value=None):
        """ψ; in v2 the cosine itself."""
        return cosine if self.variant == "v2" else super().target(cosine, value)

    def _psi(self, cosine, value):
        angle = value * self._angle(cosine)
        if self.variant == "v1":
            return ops.cos(ops.minimum(angle, math.pi))
        k = ops.stop_gradient(ops.floor(angle / math.pi))
        return (1.0 - 2.0 * ops.mod(k, 2.0)) * ops.cos(angle) - 2.0 * k

    def _eta(self, cosine, value):
        return ops.cos(self._angle(cosine) / value)

    def non_target_slope(self, cosine, value=None, own=None):
        """dη/dcos: in v2 `sin(θ/m) / (m·sinθ)`, 0 where the exact gradient is clipped; else 1."""
        if not self.changes_others or self.gradient == "detached":
            return super().non_target_slope(cosine, value)
        value, angle = self._number(value, cosine), self._angle(cosine)
        slope = ops.sin(angle / value) / (value * ops.sin(angle))
        return ops.where(ops.abs(cosine) > 1.0 - CLIP, ops.zeros_like(cosine), slope)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": self.value, "variant": self.variant, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class CombinedMargin(Margin):
    """ψ = cos(min(π, m1·θ + m2)) − m3: the three target margins in one. A schedule replaces m3.

    Args:
        m1: Factor on the angle, at least 1.
        m2: Addend to the angle in radians, in [0, π].
        m3: What is taken off the cosine, in [0, 2].
        gradient: `"detached"` or `"exact"`; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame; rows v1, ArcFace and CosFace together.

    Example:
    >>> from keras import ops
    >>> round(float(CombinedMargin(m3=0.25).target(ops.array(0.5))), 4)
    0.25
    """

    def __init__(self, *, m1=1.0, m2=0.0, m3=0.0, gradient="detached"):
        self.m1 = in_range("m1", m1, 1.0, math.inf)
        self.m2 = in_range("m2", m2, 0.0, math.pi)
        super().__init__(in_range("m3", m3, 0.0, 2.0), gradient)

    def _psi(self, cosine, value):
        return ops.cos(ops.minimum(self.m1 * self._angle(cosine) + self.m2, math.pi)) - value

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"m1": self.m1, "m2": self.m2, "m3": self.value, **super().get_config()}


def get(margin):
    """A `Margin` from what a constructor was given.

    Args:
        margin: A `Margin`, its serialised form, or `None` for `NoMargin()`.

    Returns:
        A `Margin`.

    Raises:
        ValueError: If it is anything else.

    Example:
    >>> type(get(None)).__name__
    'NoMargin'
    """
    if margin is None:
        return NoMargin()
    margin = keras.saving.deserialize_keras_object(margin) if isinstance(margin, dict) else margin
    if not isinstance(margin, Margin):
        raise ValueError(f"`margin` must be a Margin, such as AdditiveCosine(0.35). Received: margin={margin!r}")
    return margin


class Wrapped(Margin):
    """A margin around another one, whose ψ and state it has."""

    def __init__(self, margin):
        self.margin = get(margin)
        super().__init__(self.margin.value, self.margin.gradient)
        for name in ("by_sample", "draws", "state"):
            setattr(self, name, getattr(self.margin, name))
        self.seed = getattr(self.margin, "seed", None)

    def target(self, cosine, value=None):
        """ψ of the margin."""
        return self.margin.target(cosine, value)

    def of_samples(self, number, norm, draw, state):
        """What the margin makes of the samples."""
        return self.margin.of_samples(number, norm, draw, state)

    def sums(self, norm, cosine, state):
        """The margin's sums."""
        return self.margin.sums(norm, cosine, state)

    def moved(self, state, sums):
        """The margin's state."""
        return self.margin.moved(state, sums)

    def penalty(self, norm):
        """The margin's addend."""
        return self.margin.penalty(norm)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": keras.saving.serialize_keras_object(self.margin)}
