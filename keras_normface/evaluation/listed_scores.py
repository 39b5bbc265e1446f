"""Scores of listed pairs among many vectors, and the exact curve of millions of them."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.score_tails import BLOCK_SCORES
from keras_normface.evaluation.verification import RocCurve

_CELLS_PER_PAIR = 100
"""Up to so many cells for each listed pair, whole blocks of a matrix product are faster than gathered rows."""
_CURVE_STEPS = 500


def listed_scores(unit: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines of listed pairs of rows.

    Args:
        unit: (T, D) float32 unit rows.
        left: (P,) rows.
        right: (P,) rows.

    Returns:
        (P,) float32.

    Example:
        >>> import numpy as np
        >>> listed_scores(np.eye(2, dtype="float32"), np.array([0, 1]), np.array([0, 0])).tolist()
        [1.0, 0.0]
    """
    left_rows, left_codes = _codes(left, len(unit))
    right_rows, right_codes = _codes(right, len(unit))
    if left_rows.size * right_rows.size > _CELLS_PER_PAIR * left.size:
        return _gathered(unit, left, right)
    if 2 * left_rows.size * right_rows.size > np.union1d(left_rows, right_rows).size ** 2 and not (left <= right).all():
        # The sides overlap: with the smaller row on the left, half of the matrix is never needed.
        return listed_scores(unit, np.minimum(left, right), np.maximum(left, right))
    order = np.argsort(left_codes, kind="stable")
    left_codes, right_codes = left_codes[order], right_codes[order]
    others = unit[right_rows]
    scores = np.empty(left.size, np.float32)
    size = max(1, min(BLOCK_SCORES // right_rows.size, left_rows.size))
    starts = np.arange(0, left_rows.size, size)
    # Of the type of the codes, or all of them would be converted.
    ends = np.append(np.searchsorted(left_codes, starts.astype(left_codes.dtype)), left.size)
    buffer = np.empty(size * right_rows.size, np.float32)
    for start, first, last in zip(starts, ends[:-1], ends[1:], strict=True):
        rows, lowest = left_rows[start : start + size], int(right_codes[first:last].min())
        width = right_rows.size - lowest
        cosines = buffer[: rows.size * width].reshape(rows.size, width)
        np.matmul(unit[rows], others[lowest:].T, out=cosines)
        cells = (left_codes[first:last].astype(np.int64) - start) * width + right_codes[first:last] - lowest
        scores[order[first:last]] = cosines.ravel()[cells]
    return scores


def _codes(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that occur, rising, and the place among them of each of `rows`."""
    present = np.zeros(count, bool)
    present[rows] = True
    # NumPy sorts 16-bit integers by radix, many times faster than longer ones.
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place.astype(np.uint16 if count <= 2**16 else np.int64)[rows]


def _gathered(unit: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    scores = np.empty(left.size, np.float32)
    size = max(1, BLOCK_SCORES // unit.shape[1])
    for start in range(0, left.size, size):
        block = slice(start, start + size)
        np.einsum("ij,ij->i", unit[left[block]], unit[right[block]], out=scores[block])
    return scores


def curve_of_sorted(genuine: np.ndarray, impostor: np.ndarray) -> RocCurve:
    """A thinned ROC curve of scores that are sorted already: each of its points is a point of the full curve.

    Args:
        genuine: (K,) rising scores.
        impostor: (M,) rising scores.

    Returns:
        A `RocCurve` of about a thousand points, evenly spread on logarithmic axes of FAR and of 1 - TAR.

    Example:
        >>> import numpy as np
        >>> curve = curve_of_sorted(np.array([0.6, 0.9]), np.array([0.1, 0.7]))
        >>> curve.far.tolist(), curve.tar.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    falling = impostor[::-1][_spread(impostor.size)]
    thresholds = np.concatenate([falling, genuine[_spread(genuine.size)], [min(genuine[0], impostor[0])]])
    thresholds = np.unique(thresholds)[::-1]
    far, tar = ((scores.size - np.searchsorted(scores, thresholds)) / scores.size for scores in (impostor, genuine))
    return RocCurve(
        far=np.append(0.0, far),
        tar=np.append(0.0, tar),
        thresholds=np.append(np.inf, thresholds),
        num_genuine=genuine.size,
        num_impostor=impostor.size,
    )


def _spread(count: int) -> np.ndarray:
    return np.unique(np.geomspace(1, count, _CURVE_STEPS).round().astype(np.int64)) - 1
