"""Large score matrices without holding them: the largest scores of a stream, listed pairs, curves of sorted scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.metrics.verification import RocCurve

BLOCK_SCORES = 2**23
_BUFFER = 2**20


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


@dataclass(frozen=True, eq=False)
class AllPairScores:
    """Scores of all unordered pairs of rows.

    Attributes:
        genuine: (K,) scores of pairs of one subject.
        genuine_subjects: (K,) their subjects.
        impostor: (M,) largest scores of pairs of two subjects, falling.
        num_impostor: how many such pairs there are.
    """

    genuine: np.ndarray
    genuine_subjects: np.ndarray
    impostor: np.ndarray
    num_impostor: int


def num_impostor_pairs(subjects):
    """Number of unordered pairs of two subjects.

    Args:
        subjects: (N,) integers.

    Returns:
        An int.

    Example:
        >>> num_impostor_pairs(np.array([7, 7, 8]))
        2
    """
    counts = np.unique(subjects, return_counts=True)[1]
    return int((subjects.size**2 - (counts**2).sum()) // 2)


def score_all_pairs(unit, subjects, keep):
    """Score each pair of rows once, without holding the matrix.

    Args:
        unit: (N, D) float32 unit rows.
        subjects: (N,) integers.
        keep: how many of the largest impostor scores are wanted.

    Returns:
        `AllPairScores`.

    Example:
        >>> scores = score_all_pairs(np.eye(3, dtype="float32")[[0, 0, 1]], np.array([7, 7, 8]), keep=1)
        >>> scores.genuine.tolist(), scores.impostor.tolist(), scores.num_impostor
        ([1.0], [0.0], 2)
    """
    # With subjects side by side, whatever lies right of a block's last subject is impostor: no masks there.
    order = np.argsort(subjects, kind="stable")
    unit, subjects = unit[order], subjects[order]
    ends = np.searchsorted(subjects, subjects, side="right")
    count = len(unit)
    top, genuine, genuine_subjects = TopScores(max(keep, 1)), [], []
    size = max(1, min(BLOCK_SCORES // count, 512))
    buffer = np.empty(size * count, np.float32)
    for start in range(0, count, size):
        stop = min(start + size, count)
        near = int(ends[stop - 1]) - start
        scores = buffer[: (stop - start) * (count - start)].reshape(stop - start, count - start)
        np.matmul(unit[start:stop], unit[start:].T, out=scores)
        once = ~np.tri(stop - start, near, dtype=bool)
        same = subjects[start:stop, None] == subjects[start : start + near]
        rows, columns = np.nonzero(once & same)
        genuine.append(scores[rows, columns])
        genuine_subjects.append(subjects[start + rows])
        top.add(scores[:, :near][once & ~same])
        top.add(scores[:, near:])
    return AllPairScores(np.concatenate(genuine), np.concatenate(genuine_subjects), top.largest(), top.count)


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
        downsampled=True,
    )


def _spread(count):
    return np.unique(np.geomspace(1, count, _CURVE_STEPS).round().astype(np.int64)) - 1
