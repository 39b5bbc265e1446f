"""Both passes over the classes, block by block or with one array kept, whatever a rule adds to its sums."""

import dataclasses
import functools
from typing import NamedTuple

from keras import ops

from keras_normface import _validation, sphere
from keras_normface.fused._compiled import compiled

BIG = 1e30
"""Stands for infinity: a logit of −BIG is no class, and differences of two of them stay finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What blocks of classes add to which sums, and their gradients; equal rules share one compiled program."""

    block: int = 8192  # classes of a streamed block
    sample_gradient: bool = False  # whether `Known.per_sample` has a gradient of its own
    half_gradients: bool = False  # whether the products of the gradients are taken in bfloat16

    def start(self, per_sample):
        """(B,) → the sums over no class, a NamedTuple of (B,)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `start`.")

    def add(self, sums, cosines, other, known):
        """Sums with one more block: (C, B) cosines, and where a class counts that is not the sample's own."""
        raise NotImplementedError(f"{type(self).__name__} must implement `add`.")

    def slopes(self, cosines, own, known, upstream):
        """(C, B) cosines → gradients by them (C, B), and by `Known.per_sample` class by class, (C, B) or None."""
        raise NotImplementedError(f"{type(self).__name__} must implement `slopes`.")


class Known(NamedTuple):
    """What a rule knows beside the cosines."""

    ids: object  # own class of each sample, (B,) int32
    per_sample: object  # ρ, or the distance below which an agent pushes, (B,)
    value: object = None  # what the margin is given: a scalar, (B,), or a tuple of them
    per_class: object = None  # log weights or class ids, (C,)
    own: object = None  # ψ, (B,), where η is given it


class Kept(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    inverse: object  # 1/‖W_j‖, (C,)
    products: object  # ⟨W_j, x̃_i⟩, (C, B), or None where they are not kept


def check_mode(mode, block):
    """Raise a ValueError if `mode` or `block` is out of its range."""
    if mode not in ("buffer", "stream"):
        raise ValueError(f'`mode` must be "buffer" or "stream". Received: mode={mode!r}')
    _validation.integer("block", block, 1)


def target_cosines(units, kernel, ids):
    """(B, D) unit embeddings, (C, D) kernel, (B,) ids → cosines with the own classes (B,)."""
    own_rows = ops.take(kernel, ids, axis=0)
    return ops.sum(units * own_rows, axis=-1) * _inverse_norms(own_rows)


def forward(mode, rule, units, kernel, known):
    """(B, D) unit embeddings, (C, D) kernel → the rule's sums over all classes but the own, and `Kept`."""
    if mode == "stream":
        sums, inverse = _call(_streamed_sums, rule)(units, kernel, known)
        return sums, Kept(inverse, None)
    inverse = _call(_inverse_norms)(kernel)
    products = ops.matmul(kernel, ops.transpose(units))
    return _call(_buffered_sums, rule)(products, inverse, known), Kept(inverse, products)


def backward(kept, rule, units, kernel, known, upstream):
    """Gradients by unit embeddings (B, D), kernel (C, D) and `known.per_sample` (B,)."""
    inverse, products = kept
    if products is None:
        return tuple(_call(_streamed_gradients, rule)(units, kernel, inverse, known, upstream))
    weights, radial, by_sample = _call(_buffered_weights, rule)(products, inverse, known, upstream)
    by_units = _product(ops.transpose(weights), kernel, rule)
    by_kernel = _product(weights, units, rule)
    return by_units, _call(_without_radial)(by_kernel, radial, kernel), by_sample


@functools.lru_cache(maxsize=64)
def _partial(function, rule):
    return functools.partial(function, rule=rule)


def _call(function, rule=None):
    """The compiled function; one and the same for equal rules."""
    return compiled(function if rule is None else _partial(function, rule))


def _inverse_norms(kernel):
    """(C, D) → 1/‖W_j‖ (C,)."""
    # A product with ones, since XLA on a CPU would write all squares down before it sums them.
    squares = ops.matmul(ops.square(kernel), ops.ones((kernel.shape[1], 1), dtype=kernel.dtype))
    return ops.rsqrt(squares[:, 0] + sphere.EPSILON)


def _product(a, b, rule):
    """Matrix product of a gradient, in the type of the operands; taken in bfloat16 if the rule says so."""
    if not rule.half_gradients:
        return ops.matmul(a, b)
    return ops.cast(ops.matmul(ops.cast(a, "bfloat16"), ops.cast(b, "bfloat16")), a.dtype)


def _weighted(slope, cosines, inverse):
    """(C, B) slopes → weights of the two products (C, B), radial parts of the kernel's gradient (C, 1)."""
    # Σ_i slope·cos is the radial part, so nothing is projected afterwards.
    weights = inverse * slope
    return weights, ops.sum(weights * cosines, axis=1, keepdims=True) * inverse


# Buffered: one product, kept until the gradients are taken, and two more.


def _buffered_sums(products, inverse, known, *, rule):
    """(C, B) products → the rule's sums."""
    other = ops.logical_not(_own(products, known.ids))
    return rule.add(rule.start(known.per_sample), inverse[:, None] * products, other, known)


def _buffered_weights(products, inverse, known, upstream, *, rule):
    """(C, B) products → weights (C, B), radial parts (C, 1), gradient by `known.per_sample` (B,)."""
    cosines = inverse[:, None] * products
    slope, by_sample = rule.slopes(cosines, _own(products, known.ids), known, upstream)
    weights, radial = _weighted(slope, cosines, inverse[:, None])
    like = known.per_sample
    return weights, radial, ops.sum(by_sample, axis=0) if rule.sample_gradient else ops.zeros_like(like)


def _without_radial(gradient, radial, kernel):
    return gradient - radial * kernel


def _own(products, ids):
    """(C, B) → bool (C, B): where a class is the sample's own."""
    return ops.equal(ops.arange(products.shape[0], dtype="int32")[:, None], ids)


# Streaming: the cosines of one block of classes at a time, computed once more for the gradients.


def _streamed_sums(units, kernel, known, *, rule):
    """(B, D), (C, D) → the rule's sums, and 1/‖W_j‖ (C,)."""
    # The norms are taken block by block, too: squares of the whole kernel at once would be an array of its size.

    def body(number, state):
        sums, inverse = state
        rows, fresh, part, known_part = _part(kernel, known, number, rule)
        inverse_part = _inverse_norms(part)
        cosines = inverse_part[:, None] * ops.matmul(part, ops.transpose(units))
        other = ops.logical_and(fresh, ops.not_equal(rows, known.ids))
        sums = rule.add(sums, cosines, other, known_part)
        return number + 1, (sums, ops.slice_update(inverse, (rows[0, 0],), inverse_part))

    return _over_blocks(body, kernel, (rule.start(known.per_sample), ops.zeros_like(kernel[:, 0])), rule)


def _streamed_gradients(units, kernel, inverse, known, upstream, *, rule):
    """Gradients by unit embeddings (B, D), kernel (C, D) and `known.per_sample` (B,)."""

    def body(number, state):
        by_units, by_kernel, by_sample = state
        rows, fresh, part, known_part = _part(kernel, known, number, rule)
        inverse_part = ops.slice(inverse, (rows[0, 0],), (part.shape[0],))[:, None]
        cosines = inverse_part * ops.matmul(part, ops.transpose(units))
        slope, sample_slope = rule.slopes(cosines, ops.equal(rows, known.ids), known_part, upstream)
        weights, radial = _weighted(slope, cosines, inverse_part)
        by_part = _without_radial(_product(weights, units, rule), radial, part)
        by_kernel = ops.slice_update(by_kernel, (rows[0, 0], 0), by_part)
        weights = ops.where(fresh, weights, 0.0)
        by_units = by_units + _product(ops.transpose(weights), part, rule)
        if rule.sample_gradient:
            by_sample = by_sample + ops.sum(ops.where(fresh, sample_slope, 0.0), axis=0)
        return number + 1, (by_units, by_kernel, by_sample)

    # Zeros that depend on an argument: TensorFlow computes constants while it compiles, and one of the kernel's size
    # would then be there beside all that is trained.
    zero = ops.cast(ops.mod(known.ids[0], 1), kernel.dtype)
    zeros = ops.zeros_like(units), ops.broadcast_to(zero, kernel.shape), ops.zeros_like(known.per_sample)
    return _over_blocks(body, kernel, zeros, rule)


def _part(kernel, known, number, rule):
    """Class ids (block, 1) of a block, which of them are new, its rows of the kernel, and what is known of it."""
    # The last block ends with the last class, so it may begin among those of the block before.
    classes, dim = kernel.shape
    size = min(rule.block, classes)
    first = ops.minimum(number * size, classes - size)
    rows = first + ops.arange(size, dtype="int32")[:, None]
    per_class = None if known.per_class is None else ops.slice(known.per_class, (first,), (size,))
    known = Known(known.ids, known.per_sample, known.value, per_class, known.own)
    return rows, rows >= number * size, ops.slice(kernel, (first, 0), (size, dim)), known


def _over_blocks(body, kernel, state, rule):
    """What `body(number, state)` has made of the state after the last block."""
    size = min(rule.block, kernel.shape[0])
    number = -(-kernel.shape[0] // size)
    start = ops.convert_to_tensor(0, dtype="int32")
    return ops.while_loop(lambda k, _: k < number, body, (start, state))[1]
