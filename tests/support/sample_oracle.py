"""Margins by the sample in float64 NumPy, one sample and one class at a time, written apart from the package."""

import numpy as np

from tests.support.oracle import cosine_matrix, softmax_losses


def norm_of(row):
    return np.sqrt(np.dot(row, row) + 1e-12)


def adaface(theta, norm, m=0.4, h=0.333, mean=20.0, deviation=100.0):
    """ψ of AdaFace, of one angle and one norm."""
    z = min(1.0, max(-1.0, h * (min(100.0, max(0.001, norm)) - mean) / (deviation + 1e-3)))
    return np.cos(min(np.pi, max(0.0, theta - m * z))) - (m + m * z)


def magface(theta, norm, low=0.45, high=0.8, bounds=(10.0, 110.0), positive=False):
    """ψ of MagFace, of one angle and one norm."""
    a = min(bounds[1], max(bounds[0], norm))
    m = (high - low) / (bounds[1] - bounds[0]) * (a - bounds[0]) + low
    return np.cos(theta) if positive and np.cos(theta) <= 0 else np.cos(min(np.pi, theta + m))


def magface_penalty(norm, weight=35.0, bounds=(10.0, 110.0)):
    """λ·g(a) of MagFace, of one norm."""
    a = min(bounds[1], max(bounds[0], norm))
    return weight * (a / bounds[1] ** 2 + 1 / a)


def elastic(theta, e, variant="angular"):
    """ψ of ElasticFace, of one angle and one drawn margin."""
    return np.cos(theta) - e if variant == "cosine" else np.cos(min(np.pi, max(0.0, theta + e)))


def moving(values, mean, deviation, rate):
    """Mean and unbiased deviation of a batch, moved into the moving averages."""
    batch_mean = sum(values) / len(values)
    batch_deviation = np.sqrt(sum((v - batch_mean) ** 2 for v in values) / (len(values) - 1))
    return rate * batch_mean + (1 - rate) * mean, rate * batch_deviation + (1 - rate) * deviation


def losses(x, kernel, ids, scale, psi, *, eta=None, at=None, addend=None, around=None):
    """Loss of each sample.

    `psi(i, theta, row)` is the own class's side of sample i, `eta(i, cosine, own)` the others', `addend(row)` what the
    norm adds; `there` is the cosine at `around`, where weights without a gradient are taken. `at` are embeddings and
    kernel at which a detached angle stays: `cos + (ψ(θ there) − cos there)`.
    """
    cosines, logits = cosine_matrix(x, kernel), []
    around = around if at is None else at
    there = cosines if around is None else cosine_matrix(*around)
    for i, label in enumerate(ids):
        fixed = min(1.0, max(-1.0, (cosines if at is None else there)[i, label]))
        own = psi(i, np.arccos(fixed), x[i])
        seen = own if at is None else psi(i, np.arccos(fixed), at[0][i])
        row = [c if eta is None else eta(i, c, seen, d) for c, d in zip(cosines[i], there[i], strict=True)]
        row[label] = own if at is None else cosines[i, label] + own - fixed
        logits.append(scale * np.array(row))
    values = softmax_losses(logits, ids)
    return values if addend is None else values + np.array([addend(norm_of(row)) for row in x])


def mixed(word):
    """MurmurHash3's finalizer on a Python integer."""
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) % 2**32
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) % 2**32
    return word ^ (word >> 16)


def normal(seed, step, place):
    """The number from N(0, 1) of a seed, a step and a place in the batch."""
    golden = 0x9E3779B9
    key = (mixed((seed + golden) % 2**32) + step) % 2**32
    key = mixed(key)
    bits = [mixed((mixed(((2**30 + 2 * place + k) * golden) % 2**32) + key) % 2**32) >> 1 for k in (0, 1)]
    first, second = ((b + 0.5) / 2**31 for b in bits)
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
