"""The nearest other agent, as a rule of one pass: its class is all that the gradients need."""

from typing import NamedTuple

from keras import ops

from keras_normface.fused._block import BIG

LAST = 2**31 - 1


class Sums(NamedTuple):
    """The nearest so far, each `(batch,)`.

    Attributes:
        top: Largest cosine with another agent; −BIG if there is none.
        row: The first class that has it, int32.
    """

    top: object
    row: object


def start(like, spec):
    """The nearest of no class."""
    zeros = ops.zeros_like(like)
    return Sums(zeros - BIG, ops.cast(zeros, "int32"))


def add(sums, cosines, other, _reach, _value, class_ids, spec):
    """The nearest with one more block.

    Args:
        sums: `Sums`, or a tuple of them.
        cosines: Tensor `(classes, batch)`.
        other: Bool tensor `(classes, batch)`: where a class counts, and is not the sample's own.
        class_ids: Class ids of the block, `(classes,)`, int32.
        spec: A `Spec`; not used.

    Returns:
        `Sums`.
    """
    sums = Sums(*sums)
    cosines = ops.where(other, cosines, -BIG)
    top = ops.max(cosines, axis=0)
    row = ops.min(ops.where(ops.equal(cosines, top), class_ids[:, None], LAST), axis=0)
    return Sums(ops.maximum(top, sums.top), ops.where(top > sums.top, row, sums.row))
