"""What one block of classes adds: element by element, class-major `(classes, batch)`, in float32 or more."""

from typing import NamedTuple

from keras import ops

BIG = 1e30
"""Stands for infinity: a logit of −BIG is no class, and differences of two of them stay finite."""


class Spec(NamedTuple):
    """What is known before any tensor is.

    Attributes:
        rule: What has `start`, `add` and `slopes`, as this module has: what a block adds to which sums.
        margin: The `Margin` whose η acts on the other classes, or `None` where η is the cosine.
        shift: A number that stands in for the largest logit, or `None` for a running maximum.
        block: Classes of a block.
        smoothing: Whether the sum of η over the other classes is wanted.
        scale_gradient: Whether the gradient of ρ is wanted.
        half_gradients: Whether the products of the gradients are taken in bfloat16.
    """

    rule: object
    margin: object = None
    shift: float | None = None
    block: int = 8192
    smoothing: bool = False
    scale_gradient: bool = True
    half_gradients: bool = False


class Sums(NamedTuple):
    """Running sums over the classes other than the own one, each `(batch,)`.

    Attributes:
        peak: Largest logit ρ·η so far, or the fixed shift.
        total: Σ exp(ρ·η − peak).
        eta: Σ η.
        top: Largest cosine.
    """

    peak: object
    total: object
    eta: object
    top: object


def start(rho, spec):
    """Sums over no class."""
    low = ops.zeros_like(rho) - BIG
    peak = low if spec.shift is None else ops.zeros_like(rho) + spec.shift
    return Sums(peak, ops.zeros_like(rho), ops.zeros_like(rho), low)


def add(sums, cosines, other, rho, value, log_weights, spec):
    """Sums with one more block.

    Args:
        sums: `Sums`, or a tuple of them.
        cosines: Tensor `(classes, batch)`.
        other: Bool tensor `(classes, batch)`: where a class counts, and is not the sample's own.
        rho: ρ, `(batch,)`.
        value: The margin's number, a scalar.
        log_weights: What is added to a class's logits, `(classes,)`; at most −BIG: the class does not count. Or `None`.
        spec: `Spec`.

    Returns:
        `Sums`.
    """
    sums = Sums(*sums)
    eta = cosines if spec.margin is None else spec.margin.non_target(cosines, value)
    if log_weights is not None:
        other = ops.logical_and(other, log_weights[:, None] > -BIG)
    logits = ops.where(other, _weighted(rho * eta, log_weights), -BIG)
    top = ops.maximum(sums.top, ops.max(ops.where(other, cosines, -BIG), axis=0))
    peak, total = sums.peak, sums.total
    if spec.shift is None:
        peak = ops.maximum(peak, ops.max(logits, axis=0))
        total = total * ops.exp(sums.peak - peak)
    total = total + ops.sum(ops.where(other, ops.exp(logits - peak), 0.0), axis=0)
    if spec.smoothing:
        return Sums(peak, total, sums.eta + ops.sum(ops.where(other, eta, 0.0), axis=0), top)
    return Sums(peak, total, sums.eta, top)


def log_total(sums):
    """`logΣ exp(ρ·η)` over the other classes; about −BIG where there is none."""
    tiny = ops.equal(sums.total, 0.0)
    return ops.where(tiny, -BIG, sums.peak + ops.log(ops.where(tiny, 1.0, sums.total)))


class Upstream(NamedTuple):
    """What the backward pass knows of each sample, each `(batch,)`.

    Attributes:
        log_total: What `log_total` gave.
        slope: Gradient of the loss by it.
        eta_slope: Gradient of the loss by Σ η.
        target_slope: Gradient of the loss by the target's cosine.
    """

    log_total: object
    slope: object
    eta_slope: object
    target_slope: object


def slopes(cosines, own, rho, value, log_weights, upstream, spec):
    """Gradients by the cosines of a block, and by ρ for each class.

    Args:
        cosines: Tensor `(classes, batch)`.
        own: Bool tensor `(classes, batch)`: where a class is the sample's own.
        rho: ρ, `(batch,)`.
        value: The margin's number, a scalar.
        log_weights: As for `add`.
        upstream: `Upstream`, or a tuple of its parts.
        spec: `Spec`.

    Returns:
        `(by_cosine, by_rho)`, both `(classes, batch)`.
    """
    upstream = Upstream(*upstream)
    eta = cosines if spec.margin is None else spec.margin.non_target(cosines, value)
    # The own class may lie above all others: its exponential could overflow, and it is not used.
    exponent = _weighted(rho * eta, log_weights) - upstream.log_total
    share = upstream.slope * ops.exp(ops.where(own, 0.0, exponent))
    by_cosine = rho * share
    if spec.smoothing:
        by_cosine = by_cosine + upstream.eta_slope
    if spec.margin is not None:
        by_cosine = by_cosine * spec.margin.non_target_slope(cosines, value)
    return ops.where(own, upstream.target_slope, by_cosine), ops.where(own, 0.0, share * eta)


def _weighted(logits, log_weights):
    return logits if log_weights is None else logits + log_weights[:, None]
