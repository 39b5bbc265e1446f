"""Large score matrices without holding them: unit rows in float32, and the largest scores of a stream."""

from __future__ import annotations

import math
import numbers

import numpy as np

from keras_normface.metrics._arrays import unit_rows
from keras_normface.metrics.verification import RocCurve

TIE = np.float32(1e-6)
"""Cosines this near to each other are tied in ranks: the order of a float32 sum alone can part equal ones."""
BLOCK_SCORES = 2**23
_BLOCK_ROWS = 4096
_BUFFER = 2**20


def unit_rows_float32(embeddings, name, *, first=0):
    """Rows scaled to length one, block by block.

    Args:
        embeddings: (N, D) real numbers, N >= 0.
        name: of the argument, for errors.
        first: number of the first row, for errors.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: `embeddings` is no matrix of real numbers, or a row is zero or not finite.

    Example:
        >>> unit_rows_float32([[3, 4]], "embeddings").tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a matrix of real numbers. Received: {name} of shape {rows.shape}, dtype {rows.dtype}"
        )
    unit = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = np.asarray(rows[start : start + _BLOCK_ROWS])
        if block.dtype != np.float32:
            block = block.astype(np.float64)
        squares = np.einsum("ij,ij->i", block, block)
        if ((squares > 1e-30) & (squares < 1e30)).all():
            np.multiply(
                block, (1.0 / np.sqrt(squares))[:, None], out=unit[start : start + len(block)], casting="same_kind"
            )
        else:
            _check_rows(block, name, first + start)
            unit[start : start + len(block)] = unit_rows(block, name)
    return unit


def _check_rows(block, name, first):
    finite = np.isfinite(block).all(axis=1)
    bad = np.flatnonzero(~finite | ~block.any(axis=1))
    if bad.size:
        kind = "a vector with NaN or infinity" if not finite[bad[0]] else "a zero vector"
        raise ValueError(
            f"{name} must be finite and nonzero in every row. Received: {name}[{first + bad[0]}] is {kind}"
        )


class TopScores:
    """The largest scores of a stream, in memory that does not grow with the stream.

    Args:
        keep: how many of the largest scores are wanted, at least 1.

    Example:
        >>> import numpy as np
        >>> top = TopScores(2)
        >>> top.add(np.float32([[1, 5], [4, 5]]))
        >>> top.largest().tolist(), top.count
        ([5.0, 5.0], 4)
    """

    def __init__(self, keep):
        self.keep = keep
        self.count = 0
        """How many scores were added."""
        self.floor = np.float32(-np.inf)
        """Scores at or below it can no longer be among the largest."""
        self._parts = []
        self._held = 0

    def add(self, scores):
        """Look at more scores.

        Args:
            scores: float32 of any shape; copied as far as they are kept.
        """
        self.count += scores.size
        self.add_candidates(scores[scores > self.floor])

    def add_candidates(self, scores):
        """Take scores that the caller has sifted by `floor` and counts in `count` himself.

        Args:
            scores: (K,) float32, not written to afterwards.
        """
        if scores.size:
            self._parts.append(scores)
            self._held += scores.size
        if self._held > 2 * self.keep + _BUFFER:
            self._shrink()

    def largest(self):
        """The largest `keep` of the scores, or all when there are fewer, falling: float32."""
        self._shrink()
        return np.sort(self._parts[0])[::-1] if self._parts else np.empty(0, np.float32)

    def _shrink(self):
        if not self._parts:
            return
        scores = np.concatenate(self._parts)
        if scores.size > self.keep:
            # A copy, because a slice would keep the whole buffer alive.
            scores = np.partition(scores, scores.size - self.keep)[scores.size - self.keep :].copy()
        if scores.size == self.keep:
            self.floor = scores.min()
        self._parts, self._held = [scores], scores.size


def chosen_rates(rates, default, count, name, of):
    """The false accept rates to report, each of which `count` scores can resolve.

    Args:
        rates: what the caller asked for, or None for those of `default` that are resolved.
        default: rates.
        count: number of impostor scores.
        name: of the argument.
        of: what is counted, such as "impostor pairs".

    Returns:
        The rates, each once.

    Raises:
        ValueError: a rate that was asked for is no number in (0, 1] or lies below 1 / `count`.

    Example:
        >>> chosen_rates(None, (1e-1, 1e-3), 100, "fars", "impostor pairs")
        (0.1,)
    """
    if rates is None:
        return tuple(rate for rate in default if accepted(rate, count) >= 1)
    rates = (rates,) if isinstance(rates, numbers.Real) else tuple(rates)
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0.0 < rate <= 1.0:
            raise ValueError(f"{name} must be numbers in (0, 1]. Received: {rate!r}")
        if accepted(rate, count) < 1:
            raise ValueError(
                f"{name} must be at least 1/{count} = {1 / count:.3g}, the smallest rate that {count} {of} can "
                f"resolve. Received: {rate!r}"
            )
    return tuple(dict.fromkeys(float(rate) for rate in rates))


def accepted(rate, count):
    """The most scores of `count` that may be accepted so that their share is at most `rate`.

    Example:
        >>> accepted(0.29, 100)
        29
    """
    # 0.29 * 100 is 28.999...: only the rate itself, 29 / 100, compares exactly with what was asked.
    allowed = math.floor(rate * count) + 1
    while allowed / count > rate:
        allowed -= 1
    return allowed


def bounded_threshold(top, rate, count, lowest):
    """The lowest threshold at which at most `rate` of the impostor scores are accepted.

    Args:
        top: (K,) falling float32, the largest impostor scores, more than are accepted unless all are.
        rate: bound on their share, in (0, 1].
        count: number of impostor scores.
        lowest: threshold where all are accepted.

    Returns:
        The next float32 above the largest score that must be rejected; accept when score >= threshold.

    Example:
        >>> import numpy as np
        >>> bool(bounded_threshold(np.float32([3, 2, 1]), 0.5, 3, 0.0) > 2)
        True
    """
    allowed = accepted(rate, count)
    return np.float32(lowest) if allowed == count else np.nextafter(top[allowed], np.float32(np.inf))


_CELLS_PER_PAIR = 100
"""Up to so many cells for each listed pair, whole blocks of a matrix product are faster than gathered rows."""
_CURVE_STEPS = 500


def listed_scores(unit, left, right):
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


def _codes(rows, count):
    """The rows that occur, rising, and the place among them of each of `rows`."""
    present = np.zeros(count, bool)
    present[rows] = True
    # NumPy sorts 16-bit integers by radix, many times faster than longer ones.
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place.astype(np.uint16 if count <= 2**16 else np.int64)[rows]


def _gathered(unit, left, right):
    scores = np.empty(left.size, np.float32)
    size = max(1, BLOCK_SCORES // unit.shape[1])
    for start in range(0, left.size, size):
        block = slice(start, start + size)
        np.einsum("ij,ij->i", unit[left[block]], unit[right[block]], out=scores[block])
    return scores


def curve_of_sorted(genuine, impostor):
    """A downsampled ROC curve of scores that are sorted already: each of its points is a point of the full curve.

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


def _spread(count):
    return np.unique(np.geomspace(1, count, _CURVE_STEPS).round().astype(np.int64)) - 1
