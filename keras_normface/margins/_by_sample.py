"""Margins that differ from sample to sample: by the norm of the features, or by a draw."""

import math

import keras
from keras import ops

from keras_normface import _validation
from keras_normface.margins._base import Margin, in_range, pair


@keras.saving.register_keras_serializable(package="keras_normface")
class AdaFace(Margin):
    """ψ = cos(clip(θ − m·ẑ, 0, π)) − (m + m·ẑ): large norms get an additive margin, small ones an angular one.

    `ẑ = clip(h·(‖x‖ − μ) / (σ + 1e-3), −1, 1)`, with ‖x‖ clipped to [0.001, 100] and detached: no gradient reaches the
    norm through it. A head keeps μ and σ, moving averages of mean and unbiased standard deviation of the norms of a
    batch, of the whole batch under several replicas. They move in training only, before they are used; a batch of
    fewer than two samples, or with a norm that is not finite, leaves them as they are. Sample weights do not act on
    them: each sample counts once.

    Args:
        margin: m, in [0, 1]. 0 is no margin. A schedule replaces it.
        concentration: h. Positive.
        rate: Share of a batch in the moving averages, in (0, 1]; at 1 they are those of the batch.
        gradient: `"detached"` or `"exact"`, with respect to the cosine; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: AdaFace (arXiv 2204.00964); formula and defaults were read in the authors' published code, which clips
    cosines to ±(1 − 1e-3) and angles to [1e-3, π − 1e-3], differentiates the angle exactly, and starts μ at 20 and σ at
    100, as we do.

    Example:
    >>> from keras import ops
    >>> margin = AdaFace(0.4)
    >>> z = ops.array([-1.0, 0.0, 1.0])  # of small, average and large norms
    >>> psi = margin.target(ops.array([0.5, 0.5, 0.5]), (0.4, z))
    >>> ops.convert_to_numpy(psi).round(3).tolist()  # cos(π/3 + 0.4), 0.5 − 0.4, cos(π/3 − 0.4) − 0.8
    [0.12300000339746475, 0.10000000149011612, -0.0020000000949949026]
    """

    by_sample = True
    state = {"norm_mean": 20.0, "norm_deviation": 100.0}  # noqa: RUF012
    norms = (1e-3, 100.0)

    def __init__(self, margin=0.4, *, concentration=0.333, rate=0.01, gradient="detached"):
        super().__init__(in_range("margin", margin, 0.0, 1.0), gradient)
        self.concentration = _validation.number("concentration", concentration, above=0)
        self.rate = _validation.number("rate", rate, above=0, at_most=1)

    def of_samples(self, number, norm, draw, state):
        """(m, ẑ `(batch,)`)."""
        norm = ops.clip(ops.stop_gradient(norm), *self.norms)
        z = self.concentration * (norm - state["norm_mean"]) / (state["norm_deviation"] + 1e-3)
        return number, ops.clip(z, -1.0, 1.0)

    def sums(self, norm, cosine, state):
        """Samples, and sums of ‖x‖ − μ and of its square: about μ, so that no digits are lost."""
        # Clipping would make a number of an infinite norm.
        known = ops.where(ops.isfinite(norm), ops.clip(norm, *self.norms), float("nan"))
        apart = known - state["norm_mean"]
        return ops.stack([ops.sum(ops.ones_like(apart)), ops.sum(apart), ops.sum(ops.square(apart))])

    def moved(self, state, sums):
        """μ and σ, moved towards those of the batch."""
        count, total, squares = ops.unstack(sums, 3)
        enough = ops.logical_and(count >= 2.0, ops.isfinite(total + squares))
        count = ops.where(enough, count, 2.0)
        mean = state["norm_mean"] + total / count
        variance = ops.maximum(squares - total * total / count, 0.0) / (count - 1.0)
        new = {"norm_mean": mean, "norm_deviation": ops.sqrt(variance)}
        return {name: ops.where(enough, old + self.rate * (new[name] - old), old) for name, old in state.items()}

    def _psi(self, cosine, value):
        margin, z = pair(value)
        return ops.cos(ops.clip(self._angle(cosine) - margin * z, 0.0, math.pi)) - (margin + margin * z)

    def get_config(self):
        """Return the arguments of the constructor."""
        own = {"margin": self.value, "concentration": self.concentration, "rate": self.rate}
        return {**own, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class MagFace(Margin):
    """ψ = cos(min(π, θ + m(a))) with a = clip(‖x‖, l, u), and λ·(a/u² + 1/a) added to the loss.

    m(a) rises linearly from `least_margin` at l to `margin` at u. The norm is differentiated through m(a), also where
    the angle is detached, and through the addend, which draws it upwards; norms outside [l, u] have no gradient from
    either. Sample weights weigh the addend as they do the loss.

    Args:
        margin: The margin at the norm u, in [0, π]. A schedule replaces it.
        least_margin: The margin at the norm l, in [0, π]. Equal to `margin`: ArcFace.
        norms: (l, u), the bounds of the norm, 0 < l < u.
        norm_weight: λ, at least 0.
        only_positive_cosines: Whether the margin acts only where cosθ > 0, as in the authors' training ("easy margin"
            elsewhere).
        gradient: `"detached"` or `"exact"`, with respect to the cosine; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: MagFace (arXiv 2103.06627); formula, defaults and the option were read in the authors' published code.

    Example:
    >>> from keras import ops
    >>> margin = MagFace()
    >>> m = margin.of_samples(0.8, ops.array([5.0, 60.0, 200.0]), None, {})
    >>> ops.convert_to_numpy(m).round(3).tolist()
    [0.44999998807907104, 0.625, 0.800000011920929]
    """

    by_sample = True

    def __init__(
        self,
        margin=0.8,
        *,
        least_margin=0.45,
        norms=(10.0, 110.0),
        norm_weight=35.0,
        only_positive_cosines=False,
        gradient="detached",
    ):
        super().__init__(in_range("margin", margin, 0.0, math.pi), gradient)
        self.least_margin = in_range("least_margin", least_margin, 0.0, math.pi)
        self.norms = tuple(float(norm) for norm in norms)
        if len(self.norms) != 2 or not 0.0 < self.norms[0] < self.norms[1] < math.inf:
            raise ValueError(f"`norms` must be two numbers, 0 < l < u. Received: norms={norms!r}")
        self.norm_weight = _validation.number("norm_weight", norm_weight, at_least=0)
        self.only_positive_cosines = bool(only_positive_cosines)

    def of_samples(self, number, norm, draw, state):
        """m(a), `(batch,)`."""
        low, high = self.norms
        share = (ops.clip(norm, low, high) - low) / (high - low)
        return self.least_margin + share * (number - self.least_margin)

    def penalty(self, norm):
        """λ·(a/u² + 1/a), `(batch,)`."""
        norm = ops.clip(norm, *self.norms)
        return self.norm_weight * (norm / self.norms[1] ** 2 + 1.0 / norm)

    def _psi(self, cosine, value):
        psi = ops.cos(ops.minimum(self._angle(cosine) + value, math.pi))
        return ops.where(cosine > 0.0, psi, cosine) if self.only_positive_cosines else psi

    def get_config(self):
        """Return the arguments of the constructor."""
        own = ("least_margin", "norms", "norm_weight", "only_positive_cosines")
        own = {name: getattr(self, name) for name in own}
        return {"margin": self.value, **own, "norms": list(self.norms), **super().get_config()}


ELASTIC = {
    ("angular", False): (0.5, 0.0125),
    ("angular", True): (0.5, 0.0175),
    ("cosine", False): (0.35, 0.0125),
    ("cosine", True): (0.35, 0.025),
}
"""(variant, by rank) → mean and deviation of the margin in the paper's experiments."""


@keras.saving.register_keras_serializable(package="keras_normface")
class ElasticFace(Margin):
    """ψ = cos(θ + E) or cosθ − E, with E drawn from N(m, σ²) for each sample at each training step.

    What is drawn follows from `seed`, the number of the head's step and the sample's place in the whole batch: the same
    on every backend, after a resume, and on one replica as on several. In evaluation E is m. Sample weights do not act
    on it. θ + E is clipped to [0, π].

    Args:
        margin: m, in [0, π] or, for cosines, [0, 2]; `None` means 0.5 for angles and 0.35 for cosines. A schedule
            replaces it.
        deviation: σ, at least 0; `None` means 0.0125, by rank 0.0175 for angles and 0.025 for cosines. 0: ArcFace or
            CosFace.
        variant: `"angular"` or `"cosine"`.
        by_rank: Whether the sample farthest from its own class centre gets the largest E of the whole batch, and so on
            ("ElasticFace+"). The authors' code indexes by argsort, which is another assignment; this is the paper's.
        seed: In [0, 2^31).
        gradient: `"detached"` or `"exact"`; see `Margin`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: ElasticFace (arXiv 2109.09416); formula and defaults were read in the authors' published code, but for the
    deviations by rank, which are remembered and not re-read.

    Example:
    >>> from keras import ops
    >>> margin = ElasticFace(variant="cosine", deviation=0.1)
    >>> e = margin.of_samples(0.35, ops.ones(2), ops.array([-1.0, 2.0]), {})
    >>> ops.convert_to_numpy(margin.target(ops.array([0.5, 0.5]), e)).round(3).tolist()
    [0.25, -0.05000000074505806]
    """

    by_sample = True

    def __init__(
        self, margin=None, deviation=None, *, variant="angular", by_rank=False, seed=0, gradient="detached"
    ):  # fmt: skip
        if variant not in ("angular", "cosine"):
            raise ValueError(f'`variant` must be "angular" or "cosine". Received: variant={variant!r}')
        usual = ELASTIC[variant, bool(by_rank)]
        most = math.pi if variant == "angular" else 2.0
        super().__init__(in_range("margin", usual[0] if margin is None else margin, 0.0, most), gradient)
        self.deviation = in_range("deviation", usual[1] if deviation is None else deviation, 0.0, most)
        self.variant, self.by_rank = variant, bool(by_rank)
        self.seed = _validation.integer("seed", seed, 0, 2**31 - 1)

    @property
    def draws(self):
        """Whether a sample's number is drawn for it alone, or follows its rank in the batch."""
        return "by rank" if self.by_rank else "each"

    def of_samples(self, number, norm, draw, state):
        """E, `(batch,)`; without a draw m."""
        return number if draw is None else number + self.deviation * draw

    def _psi(self, cosine, value):
        if self.variant == "cosine":
            return cosine - value
        return ops.cos(ops.clip(self._angle(cosine) + value, 0.0, math.pi))

    def get_config(self):
        """Return the arguments of the constructor."""
        own = ("deviation", "variant", "by_rank", "seed")
        return {"margin": self.value, **{name: getattr(self, name) for name in own}, **super().get_config()}
