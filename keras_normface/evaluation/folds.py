"""Cross-validated verification accuracy, the protocol of Labeled Faces in the Wild."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation._checks import checked_labels, checked_scores


@dataclass(frozen=True, eq=False)
class FoldAccuracy:
    """Verification accuracy over F folds, each judged by a threshold from the other folds.

    Attributes:
        mean: unweighted mean of `accuracies`, in [0, 1].
        standard_error: standard deviation of `accuracies` (ddof=1) / sqrt(F).
        accuracies: (F,) share of the pairs of each fold that were decided rightly, in [0, 1].
        thresholds: (F,) threshold each fold was judged by; accept when score >= threshold.

    Example:
        >>> result = cross_validated_accuracy([4, 1, 3, 2], [1, 0, 1, 0], folds=2)
        >>> result.accuracies.tolist(), result.thresholds.tolist()
        ([1.0, 1.0], [2.5, 2.5])
    """

    mean: float
    standard_error: float
    accuracies: np.ndarray
    thresholds: np.ndarray

    def __str__(self) -> str:
        return f"accuracy={self.mean:.4f} +- {self.standard_error:.4f} over {self.accuracies.size} folds"


def cross_validated_accuracy(scores: ArrayLike, same: ArrayLike, *, folds: int | ArrayLike = 10) -> FoldAccuracy:
    """Accuracy on each fold with the threshold that is best on all the other folds.

    The candidate thresholds are the midpoints between neighbouring distinct scores of the other
    folds and two ends: their smallest score (accept all) and the next float above their largest
    (accept none). When several are equally accurate their mean is used, as in SphereFace's
    evaluation code. Source: Huang et al. 2007, "Labeled Faces in the Wild", section on View 2.

    Args:
        scores: (P,) finite similarities, larger for more alike; or (F, P), where row f holds the similarities of
            all pairs under what was fitted without fold f, which fold f is judged by.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.
        folds: a number of equal contiguous blocks in the given order, at least 2 and a divisor of
            P, or a (P,) array of fold ids (integers or strings), whose folds come in sorted order.

    Returns:
        A `FoldAccuracy`.

    Raises:
        ValueError: bad `scores` or `same`; folds that are fewer than two or do not divide the
            pairs; a fold outside which there are pairs of one kind only.

    Example:
        >>> scores, same = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3], [1, 0, 1, 0, 1, 0]
        >>> print(cross_validated_accuracy(scores, same, folds=3))
        accuracy=1.0000 +- 0.0000 over 3 folds
    """
    rows, same = _checked_rows(scores, same)
    names, codes = np.unique(_fold_ids(folds, same.size), return_inverse=True)
    if len(rows) not in (1, names.size):
        raise ValueError(f"scores must have one row or one for each fold, {names.size}. Received: {len(rows)} rows")
    orders = [np.argsort(row) for row in rows]
    accuracies, thresholds = np.empty(names.size), np.empty(names.size)
    for fold in range(names.size):
        order = orders[fold % len(rows)]
        row, kinds, test = rows[fold % len(rows)][order], same[order], codes[order] == fold
        _check_both_kinds(kinds[~test], names[fold])
        thresholds[fold] = _best_threshold(row[~test], kinds[~test])
        accuracies[fold] = np.mean((row[test] >= thresholds[fold]) == kinds[test])
    return FoldAccuracy(
        mean=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(names.size)),
        accuracies=accuracies,
        thresholds=thresholds,
    )


def candidate_thresholds(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The thresholds worth trying on rising scores, one for each way to part them.

    Args:
        scores: (P,) rising.

    Returns:
        `candidates`, rising, (T,): the smallest score, the midpoints between neighbouring distinct scores, and
        the next float above the largest; and `num_rejected`, (T,), how many scores lie below each.

    Example:
        >>> import numpy as np
        >>> candidates, num_rejected = candidate_thresholds(np.array([1.0, 1.0, 2.0]))
        >>> candidates[:2].tolist(), num_rejected.tolist()
        ([1.0, 1.5], [0, 2, 3])
    """
    group_starts = np.flatnonzero(scores[1:] != scores[:-1]) + 1
    below, above = scores[group_starts - 1], scores[group_starts]
    # The midpoint of two adjacent floats can round down onto the lower, which it must reject.
    midpoints = np.clip(below / 2 + above / 2, np.nextafter(below, np.inf), above)
    candidates = np.concatenate([scores[:1], midpoints, np.nextafter(scores[-1:], np.inf)])
    return candidates, np.concatenate([[0], group_starts, [scores.size]])


def _best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """Mean of the most accurate candidate thresholds for rising `scores`."""
    candidates, num_rejected = candidate_thresholds(scores)
    genuine_rejected = np.append(0, np.cumsum(same))[num_rejected]
    correct = (num_rejected - genuine_rejected) + (genuine_rejected[-1] - genuine_rejected)
    return float(candidates[correct == correct.max()].mean())


def _checked_rows(scores: ArrayLike, same: ArrayLike) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows of `scores`, one where it has one dimension, and `same` as bool."""
    given = np.asarray(scores)
    checked = [checked_scores(row, same) for row in (given if given.ndim == 2 and len(given) else [scores])]
    return [row for row, _ in checked], checked[0][1]


def _check_both_kinds(same: np.ndarray, name: object) -> None:
    if same.all() or not same.any():
        missing = "impostor" if same.all() else "genuine"
        raise ValueError(
            "folds must leave genuine and impostor pairs outside every fold, to choose a threshold from. "
            f"Received: folds with no {missing} pair outside fold {name}"
        )


def _fold_ids(folds: int | ArrayLike, num_pairs: int) -> np.ndarray:
    if np.ndim(folds) > 0:
        ids = checked_labels(folds, "folds", num_pairs)
        if np.unique(ids).size < 2:
            raise ValueError(f"folds must name at least two folds. Received: folds all {ids[0]!r}")
        return ids
    try:
        count = operator.index(folds)
    except TypeError:
        count = 0
    if count < 2 or isinstance(folds, (bool, np.bool_)):
        raise ValueError(f"folds must be an integer of at least 2 or an array of ids. Received: folds={folds!r}")
    if num_pairs % count:
        raise ValueError(f"folds must divide the number of pairs, {num_pairs}. Received: folds={folds!r}")
    return np.repeat(np.arange(count), num_pairs // count)
