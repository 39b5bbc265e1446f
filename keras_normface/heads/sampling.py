"""Which classes a training step looks at: those of the batch, and one of each stratum of all classes."""

from typing import NamedTuple

import numpy as np
from keras import ops

SWITCHED_OFF = -1e30
"""Log weight of a slot whose class another slot stands for."""


class Sample(NamedTuple):
    """The classes of one step, in `size` slots.

    Attributes:
        ids: Class of each slot, `(size,)`, int32; the batch's labels in their order, then the drawn ones.
        local_ids: Slot of each sample's own class, `(batch,)`, int32.
        log_weights: What is added to a slot's logit for the samples of other classes, `(size,)`, float32: 0 for classes
            of the batch, −log of the probability of having been drawn for the others, −1e30 for slots whose class
            has a slot already.
    """

    ids: object
    local_ids: object
    log_weights: object


def sample_classes(labels, step, *, classes, size, seed=0, corrected=True):
    """Draw the classes of a training step: the batch's own, and others without replacement.

    The classes, turned by a random offset, are cut into as many runs (strata) as there are slots besides the batch's,
    as equal as possible, and one class is drawn of each. So none is drawn twice, the shapes are fixed, a class is
    drawn with probability 1 / (classes of its stratum), and time and memory grow with `size`, not with `classes`.
    All follows from `seed` and `step`, on every backend alike.

    Args:
        labels: Valid class ids `(batch,)`.
        step: Number of the step, a whole number or a scalar tensor.
        classes: Number of all classes.
        size: Number of slots; from `classes` on, every class has one slot.
        seed: A whole number.
        corrected: Whether the log weights undo that not all classes are there.

    Returns:
        `Sample`.

    Raises:
        ValueError: If the batch leaves no slot to draw for, where its size is known.

    Example:
    >>> from keras import ops
    >>> sample = sample_classes(ops.array([7, 7]), 0, classes=100, size=6)
    >>> sample.local_ids.shape[0], sample.ids.shape[0], [int(i) for i in sample.ids[:2]]
    (2, 6, [7, 7])
    """
    labels = ops.cast(labels, "int32")
    if size >= classes:
        return Sample(ops.arange(classes, dtype="int32"), labels, ops.zeros((classes,), "float32"))
    batch = ops.shape(labels)[0]
    if isinstance(batch, int) and batch >= size:
        raise ValueError(
            "The sample must be larger than the batch: raise `sample_rate` or `minimum_sample`. "
            f"Received: a batch of {batch} samples, {size} of {classes} agents in a sample"
        )
    strata = size - batch if isinstance(batch, int) else ops.maximum(size - batch, 1)
    bits = random_bits(seed, step, size + 1)
    offset = ops.mod(bits[size], classes)
    slots = ops.arange(size, dtype="int32")
    of_batch, in_batch = slots < batch, ops.minimum(slots, batch - 1)
    first, width = _stratum(ops.maximum(slots - batch, 0), classes, strata)
    drawn = ops.mod(first + ops.mod(bits[:size], width) + offset, classes)
    ids = ops.where(of_batch, ops.take(labels, in_batch), drawn)
    local_ids = ops.argmax(ops.cast(ops.equal(labels[:, None], labels), "int32"), axis=1)
    local_ids = ops.cast(local_ids, "int32")
    repeated = ops.logical_and(of_batch, ops.not_equal(ops.take(local_ids, in_batch), slots))
    own_slots = batch + _stratum_of(ops.mod(labels - offset, classes), classes, strata)
    hit = ops.cast(ops.equal(ops.take(ids, own_slots), labels), "int32")
    off = ops.logical_or(repeated, ops.scatter(own_slots[:, None], hit, (size,)) > 0)
    weights = ops.log(ops.cast(width, "float32")) if corrected else ops.zeros((size,), "float32")
    weights = ops.where(of_batch, 0.0, weights)
    return Sample(ids, local_ids, ops.where(off, SWITCHED_OFF, weights))


def _stratum(number, classes, strata):
    """First position of a stratum and how many it has; the first `classes % strata` have one more."""
    width, longer = classes // strata, classes % strata
    return number * width + ops.minimum(number, longer), width + ops.cast(number < longer, "int32")


def _stratum_of(position, classes, strata):
    """Number of the stratum that holds a position."""
    width, longer = classes // strata, classes % strata
    in_longer = longer * (width + 1)
    return ops.where(position < in_longer, position // (width + 1), longer + (position - in_longer) // width)


def random_bits(seed, step, count):
    """Random whole numbers in [0, 2^31), `(count,)`, the same for the same seed and step on every backend.

    Source: the finalizer of MurmurHash3 (A. Appleby), over seed, step and place.

    Example:
    >>> [int(n) for n in random_bits(1, 5, 3)] == [int(n) for n in random_bits(1, 5, 3)]
    True
    """
    key = _mixed(_mixed(_unsigned(seed) + _word(0x9E3779B9)) + _unsigned(step))
    place = ops.cast(ops.arange(count, dtype="int32"), "uint32") * _word(0x9E3779B9)
    return ops.cast(ops.right_shift(_mixed(_mixed(place) + key), _word(1)), "int32")


def _mixed(word):
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(16))) * _word(0x85EBCA6B)
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(13))) * _word(0xC2B2AE35)
    return ops.bitwise_xor(word, ops.right_shift(word, _word(16)))


def _word(number):
    return ops.convert_to_tensor(np.uint32(number))


def _unsigned(number):
    return ops.cast(ops.cast(number, "int32"), "uint32")
