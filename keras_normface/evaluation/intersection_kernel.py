"""Histograms of frame-pair cosines, and their intersection kernel."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.bootstrap import blocks

BINS = 100


def cosine_histogram(left: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """How the cosines of all pairs of frames of two videos are spread over [-1, 1].

    Args:
        left: (K, D) float32 unit rows.
        right: (M, D) float32 unit rows.
        bins: number of equal bins.

    Returns:
        (bins,) float64 shares that sum to 1. A cosine of 1 is in the last bin.

    Example:
        >>> import numpy as np
        >>> eye = np.eye(2, dtype="float32")
        >>> cosine_histogram(eye, eye, bins=4).tolist()
        [0.0, 0.0, 0.5, 0.5]
    """
    cosines = np.clip(left @ right.T, -1.0, 1.0)
    # The slack keeps cosines that a bin's edge should hold, such as 0, from falling below it in float32.
    places = ((cosines.ravel().astype(np.float64) + 1.0) * (bins / 2) + 1e-5).astype(np.int64)
    return np.bincount(np.minimum(places, bins - 1), minlength=bins) / cosines.size


def intersection_kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Histogram intersections, sum_b min(left[i, b], right[j, b]).

    Args:
        left: (P, B) real numbers.
        right: (Q, B) real numbers.

    Returns:
        (P, Q) float64. Source: Swain and Ballard 1991, "Color indexing", section 3.

    Example:
        >>> import numpy as np
        >>> intersection_kernel(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0], [0.25, 0.75]])).tolist()
        [[0.5, 0.75]]
    """
    kernel = np.zeros((len(left), len(right)))
    used = np.flatnonzero(left.any(axis=0) & right.any(axis=0))
    for rows in blocks(len(left), 16 * len(right)):
        for column in used:
            kernel[rows] += np.minimum(left[rows, column, None], right[:, column])
    return kernel
