"""Slow and obvious counterparts of the protocols' figures, and embeddings whose cosines are exact and often tied."""

import math


def exact_rows(rng, count, dim=16):
    """(count, dim) rows of +-1/4: unit length for dim 16, all cosines multiples of 1/8, exact in float32."""
    return (rng.integers(0, 2, size=(count, dim)) * 0.5 - 0.25).astype("float32")


def cosine(a, b):
    """The cosine of two vectors in float64, one product after the other."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def share_above(scores, threshold):
    """The share of scores that are accepted."""
    return sum(score >= threshold for score in scores) / len(scores)


def rate_at(genuine, impostor, far):
    """The largest share of genuine scores at any threshold that accepts at most `far` of the impostor scores."""
    best = 0.0
    for threshold in sorted({*genuine, *impostor}):
        if sum(score >= threshold for score in impostor) / len(impostor) <= far:
            best = max(best, share_above(genuine, threshold))
    return best


def rank_of(mate, others):
    """The place of a mate among others, behind those that are as good."""
    return 1 + sum(other >= mate for other in others)
