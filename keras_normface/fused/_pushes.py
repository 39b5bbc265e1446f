"""What one block of classes adds to the sums of the agent-based losses; a rule as `block` is one."""

from typing import NamedTuple

from keras import ops

from keras_normface.fused._block import BIG
from keras_normface.sphere import squared_distance


class Spec(NamedTuple):
    """What is known before any tensor is.

    Attributes:
        rule: This module, or `nearest`.
        block: Classes of a block.
        exponential: Whether a push is `exp(−d)` and not `r − d`.
        scale_gradient: No gradient of the reach is taken class by class.
        half_gradients: The products of the gradients are not rounded.
    """

    rule: object
    block: int = 8192
    exponential: bool = False
    scale_gradient: bool = False
    half_gradients: bool = False


class Sums(NamedTuple):
    """Running sums over the classes other than the own one, each `(batch,)`.

    Attributes:
        total: Sum of the pushes.
        violating: Number of classes that push.
        top: Largest cosine.
    """

    total: object
    violating: object
    top: object


class Upstream(NamedTuple):
    """What the backward pass knows of each sample, each `(batch,)`.

    Attributes:
        slope: Gradient of the loss by the sum of the pushes.
        target_slope: Gradient of the loss by the target's cosine.
    """

    slope: object
    target_slope: object


def push(distances, reach, exponential):
    """Push of agents at squared distances: `r − d`, or `exp(−d)`, where `d < r`; else 0. A NaN stays NaN."""
    size = ops.exp(-distances) if exponential else reach - distances
    # XLA's max and ReLU may lose a NaN on a CPU; a comparison does not.
    return ops.where(distances >= reach, ops.zeros_like(size), size)


def start(reach, spec):
    """Sums over no class."""
    zeros = ops.zeros_like(reach)
    return Sums(zeros, zeros, zeros - BIG)


def add(sums, cosines, other, reach, _value, _log_weights, spec):
    """Sums with one more block.

    Args:
        sums: `Sums`, or a tuple of them.
        cosines: Tensor `(classes, batch)`.
        other: Bool tensor `(classes, batch)`: where a class counts, and is not the sample's own.
        reach: r, the squared distance below which an agent pushes, `(batch,)`.
        spec: `Spec`.

    Returns:
        `Sums`.
    """
    sums = Sums(*sums)
    pushes = ops.where(other, push(squared_distance(cosines), reach, spec.exponential), 0.0)
    total = sums.total + ops.sum(pushes, axis=0)
    violating = sums.violating + ops.sum(ops.cast(pushes > 0.0, total.dtype), axis=0)
    return Sums(total, violating, ops.maximum(sums.top, ops.max(ops.where(other, cosines, -BIG), axis=0)))


def slopes(cosines, own, reach, _value, _log_weights, upstream, spec):
    """Gradients by the cosines of a block, `(classes, batch)`, and `None` for those by the reach.

    Args:
        cosines: Tensor `(classes, batch)`.
        own: Bool tensor `(classes, batch)`: where a class is the sample's own.
        reach: As for `add`.
        upstream: `Upstream`, or a tuple of its parts.
        spec: `Spec`.

    Returns:
        `(by_cosine, None)`.
    """
    upstream, distances = Upstream(*upstream), squared_distance(cosines)
    by_cosine = 2.0 * upstream.slope * (ops.exp(-distances) if spec.exponential else 1.0)
    by_cosine = ops.where(distances < reach, by_cosine, 0.0)
    return ops.where(own, upstream.target_slope, by_cosine), None
