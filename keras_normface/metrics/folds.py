"""Verification accuracy over folds, each judged by a threshold from the other folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface import _validation
from keras_normface.metrics._arrays import checked_labels
from keras_normface.metrics.verification import sorted_scores


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

    def __str__(self):
        return f"accuracy={self.mean:.4f} +- {self.standard_error:.4f} over {self.accuracies.size} folds"


def cross_validated_accuracy(scores, same, *, folds=10):
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
    rows = _checked_rows(scores, same)
    ids = _fold_ids(folds, rows[0].same.size)
    count = np.unique(ids).size
    if len(rows) not in (1, count):
        raise ValueError(f"`scores` must have one row or one for each fold, {count}. Received: {len(rows)} rows")
    return fold_accuracy(rows, ids)


def fold_accuracy(rows, folds):
    """`cross_validated_accuracy` of scores that are checked and sorted already.

    Args:
        rows: `SortedScores`, one or one for each fold in the sorted order of the folds.
        folds: (P,) ids, of at least two folds.

    Returns:
        A `FoldAccuracy`.

    Raises:
        ValueError: there is one fold only, or outside a fold all pairs are of one kind.

    Example:
        >>> fold_accuracy([sorted_scores([4, 1, 3, 2], [1, 0, 1, 0])], [0, 0, 1, 1]).mean
        1.0
    """
    names, codes = np.unique(folds, return_inverse=True)
    if names.size < 2:
        raise ValueError(f"`folds` must name at least two folds. Received: folds all {names[0]!r}")
    accuracies, thresholds = np.empty(names.size), np.empty(names.size)
    for fold in range(names.size):
        pairs = rows[fold % len(rows)]
        row, kinds, test = pairs.scores[pairs.order], pairs.same[pairs.order], codes[pairs.order] == fold
        _check_both_kinds(kinds[~test], names[fold])
        thresholds[fold] = _best_threshold(row[~test], kinds[~test])
        accuracies[fold] = np.mean((row[test] >= thresholds[fold]) == kinds[test])
    return FoldAccuracy(
        mean=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(names.size)),
        accuracies=accuracies,
        thresholds=thresholds,
    )


def candidate_thresholds(scores):
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


def _best_threshold(scores, same):
    """Mean of the most accurate candidate thresholds for rising `scores`."""
    candidates, num_rejected = candidate_thresholds(scores)
    genuine_rejected = np.append(0, np.cumsum(same))[num_rejected]
    correct = (num_rejected - genuine_rejected) + (genuine_rejected[-1] - genuine_rejected)
    return float(candidates[correct == correct.max()].mean())


def _checked_rows(scores, same):
    """(P,) or (F, P) scores → their `SortedScores`, one for each row."""
    given = np.asarray(scores)
    return [sorted_scores(row, same) for row in (given if given.ndim == 2 and len(given) else [scores])]


def _check_both_kinds(same, name):
    if same.all() or not same.any():
        missing = "impostor" if same.all() else "genuine"
        raise ValueError(
            "`folds` must leave genuine and impostor pairs outside every fold, to choose a threshold from. "
            f"Received: folds with no {missing} pair outside fold {name}"
        )


def _fold_ids(folds, num_pairs):
    if np.ndim(folds) > 0:
        return checked_labels(folds, "folds", num_pairs)
    count = _validation.integer("folds", folds, 2)
    if num_pairs % count:
        raise ValueError(f"`folds` must divide the number of pairs, {num_pairs}. Received: folds={folds!r}")
    return np.repeat(np.arange(count), num_pairs // count)


def weighted_accuracy(rows, codes, weights):
    """Accuracy over folds where each pair occurs as often as its weight says.

    The candidate thresholds are those of the scores as they are, pairs of weight zero included, from the one just
    below the lowest genuine pair to the one just above the highest impostor pair, or the other way round.

    Args:
        rows: `SortedScores`, one or one for each fold.
        codes: (P,) fold of each pair, 0..F-1.
        weights: (R, P) integers.

    Returns:
        (R,) mean over the folds that have a pair, in [0, 1]; NaN where none has.

    Example:
        >>> rows = [sorted_scores([0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0])]
        >>> weighted_accuracy(rows, np.array([0, 0, 1, 1]), np.ones((2, 4), int)).tolist()
        [1.0, 1.0]
    """
    right, total = np.zeros((2, codes.max() + 1, len(weights)))
    for fold in range(codes.max() + 1):
        row, same, order = (getattr(rows[fold % len(rows)], name) for name in ("scores", "same", "order"))
        rest, test = order[codes[order] != fold], order[codes[order] == fold]
        thresholds = _weighted_thresholds(row[rest], same[rest], weights, rest)
        rejected = np.searchsorted(row[test], thresholds)
        right[fold] = _gained(weights, same[test], test)[np.arange(len(weights)), rejected]
        right[fold] += weights[:, test[same[test]]].sum(axis=1)
        total[fold] = weights[:, test].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, right / total, 0.0).sum(axis=0) / np.count_nonzero(total, axis=0)


def _weighted_thresholds(row, same, weights, columns):
    """(R,) mean of the most accurate candidates for rising `row`, pair k of which weighs `weights[:, columns[k]]`."""
    candidates, num_rejected = candidate_thresholds(row)
    # Outside these every step towards them decides a group of pairs of one kind rightly.
    ends = np.argmax(same), row.size - np.argmax(~same[::-1])
    low = np.searchsorted(num_rejected, min(ends), side="right") - 1
    high = np.searchsorted(num_rejected, max(ends)) + 1
    start, stop = num_rejected[low], num_rejected[high - 1]
    correct = _gained(weights, same[start:stop], columns[start:stop])[:, num_rejected[low:high] - start]
    best = correct == correct.max(axis=1, keepdims=True)
    return (best @ candidates[low:high]) / np.count_nonzero(best, axis=1)


def _gained(weights, same, columns):
    """(R, K + 1) weight that is decided rightly more than before when the first 0..K of `columns` are rejected."""
    signed = weights[:, columns]
    signed[:, same] *= -1
    gained = np.zeros((len(weights), columns.size + 1), signed.dtype)
    np.cumsum(signed, axis=1, out=gained[:, 1:])
    return gained
