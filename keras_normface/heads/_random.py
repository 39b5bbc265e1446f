"""Random numbers that follow from a seed, a step and a place: the same on every backend and every device."""

import math

import numpy as np
from keras import ops

FAR = 2**30
"""Where the places of normal numbers begin: those of class ids, with the same seed, lie before."""


def random_bits(seed, step, count, first=0):
    """Random integers in [0, 2^31), (count,), of the places from `first` on."""
    # The finalizer of MurmurHash3 (A. Appleby), over seed, step and place.
    key = _mixed(_mixed(_unsigned(seed) + _word(0x9E3779B9)) + _unsigned(step))
    place = ops.cast(first + ops.arange(count, dtype="int32"), "uint32") * _word(0x9E3779B9)
    return ops.cast(ops.right_shift(_mixed(_mixed(place) + key), _word(1)), "int32")


def random_normals(seed, step, count, first=0, dtype="float32"):
    """Numbers from N(0, 1), (count,), of the places from `first` on."""
    # Box and Muller's transform of two uniform numbers a place, neither of which is 0.
    bits = ops.reshape(random_bits(seed, step, 2 * count, FAR + 2 * first), (-1, 2))
    uniform = (ops.cast(bits, dtype) + 0.5) / 2.0**31
    return ops.sqrt(-2.0 * ops.log(uniform[:, 0])) * ops.cos(2.0 * math.pi * uniform[:, 1])


def _mixed(word):
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(16))) * _word(0x85EBCA6B)
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(13))) * _word(0xC2B2AE35)
    return ops.bitwise_xor(word, ops.right_shift(word, _word(16)))


def _word(number):
    return ops.convert_to_tensor(np.uint32(number))


def _unsigned(number):
    return ops.cast(ops.cast(number, "int32"), "uint32")
