"""All pairs of a set of images: few genuine scores, which are kept, and millions of impostor scores, which are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.score_tails import BLOCK_SCORES, TopScores


@dataclass(frozen=True, eq=False)
class AllPairs:
    """Scores of all unordered pairs.

    Attributes:
        genuine: (K,) float32 scores of the pairs of one subject.
        genuine_subjects: (K,) the subject of each.
        impostor: (M,) float32, falling: the largest scores of pairs of two subjects.
        num_impostor: how many such pairs there are.
    """

    genuine: np.ndarray
    genuine_subjects: np.ndarray
    impostor: np.ndarray
    num_impostor: int


def num_impostor_pairs(subjects: np.ndarray) -> int:
    """How many unordered pairs of two subjects there are among images of `subjects`.

    Example:
        >>> import numpy as np
        >>> num_impostor_pairs(np.array([1, 1, 2]))
        2
    """
    counts = np.unique(subjects, return_counts=True)[1]
    return int((subjects.size**2 - (counts**2).sum()) // 2)


def verify_all_pairs(unit: np.ndarray, subjects: np.ndarray, keep: int) -> AllPairs:
    """Compare all images of a set with each other, each pair once.

    Args:
        unit: (N, D) float32 unit rows.
        subjects: (N,) integers.
        keep: how many of the largest impostor scores are wanted.

    Returns:
        `AllPairs`. Memory is bounded by a block of scores, the genuine scores and `keep`.

    Example:
        >>> import numpy as np
        >>> pairs = verify_all_pairs(np.eye(3, dtype="float32"), np.array([1, 1, 2]), keep=5)
        >>> pairs.genuine.tolist(), pairs.impostor.tolist()
        ([0.0], [0.0, 0.0])
    """
    # With subjects side by side, whatever lies right of a block's last subject is impostor: no masks there.
    order = np.argsort(subjects, kind="stable")
    unit, subjects = unit[order], subjects[order]
    ends = np.searchsorted(subjects, subjects, side="right")
    count = len(unit)
    top, genuine, owners = TopScores(max(keep, 1)), [], []
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
        owners.append(subjects[start + rows])
        top.add(scores[:, :near][once & ~same])
        top.add(scores[:, near:])
    return AllPairs(np.concatenate(genuine), np.concatenate(owners), top.largest(), top.count)
