"""One-to-one verification: is this pair of embeddings the same person?"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np

from keras_normface import _validation
from keras_normface.metrics._arrays import checked_labels, checked_scores, unit_rows

_BLOCK_ROWS = 256


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic of a verifier that accepts when score >= threshold.

    Attributes:
        far: (T,) false accept rates in [0, 1], never falling: accepted impostors / impostors.
        tar: (T,) true accept rates in [0, 1], never falling: accepted genuine / genuine.
        thresholds: (T,) falling thresholds; the first is +inf, where nothing is accepted.
        num_genuine: number of genuine pairs.
        num_impostor: number of impostor pairs; no FAR below `1 / num_impostor` was measured.

    Example:
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> curve.num_genuine, curve.num_impostor, float(curve.tar[-1])
        (2, 2, 1.0)
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    num_genuine: int
    num_impostor: int


@dataclass(frozen=True)
class TarAtFar:
    """True accept rate at a bounded false accept rate.

    Attributes:
        tar: true accept rate in [0, 1].
        threshold: accept when score >= threshold to get `tar` and `achieved_far`.
        requested_far: the bound asked for, in (0, 1].
        achieved_far: false accept rate at `threshold`, at most `requested_far`.
        num_genuine: number of genuine pairs behind `tar`.
        num_impostor: number of impostor pairs behind `achieved_far`.

    Example:
        >>> result = tar_at_far([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], far=0.6)
        >>> result.tar, result.achieved_far, result.num_impostor
        (1.0, 0.5, 2)
    """

    tar: float
    threshold: float
    requested_far: float
    achieved_far: float
    num_genuine: int
    num_impostor: int

    def __str__(self):
        accepted = round(self.achieved_far * self.num_impostor)
        return (
            f"TAR={self.tar:.4f} at FAR<={self.requested_far:g} (threshold {self.threshold:.4f}, "
            f"{accepted} of {self.num_impostor} impostor pairs accepted, {self.num_genuine} genuine pairs)"
        )


def pair_scores(embeddings, labels):
    """Cosines of all unordered pairs of embeddings.

    Args:
        embeddings: (N, D) real numbers, N >= 2; any lengths, they are normalised here.
        labels: (N,) integers or strings, one identity per row.

    Returns:
        `scores`, (N * (N - 1) / 2,) float64 cosines in [-1, 1], and `same`, bool of that shape,
        for the pairs (0, 1), (0, 2), ..., (1, 2), ... in the order of `numpy.triu_indices(N, 1)`.

    Raises:
        ValueError: wrong shapes, fewer than two rows, or a row that is zero or not finite.

    Example:
        >>> scores, same = pair_scores([[2, 0], [3, 0], [0, 1]], ["ann", "ann", "bob"])
        >>> scores.tolist(), same.tolist()
        ([1.0, 0.0, 0.0], [True, False, False])
    """
    unit = unit_rows(embeddings, "embeddings")
    count = len(unit)
    if count < 2:
        raise ValueError(f"embeddings must have at least two rows. Received: embeddings.shape={unit.shape}")
    labels = checked_labels(labels, "labels", count)
    scores = np.empty(count * (count - 1) // 2)
    same = np.empty(scores.size, dtype=bool)
    filled = 0
    for start in range(0, count, _BLOCK_ROWS):
        cosines = unit[start : start + _BLOCK_ROWS] @ unit[start:].T
        upper = ~np.tri(*cosines.shape, dtype=bool)
        block = slice(filled, filled + np.count_nonzero(upper))
        scores[block] = cosines[upper]
        same[block] = (labels[start : start + _BLOCK_ROWS, None] == labels[start:])[upper]
        filled = block.stop
    return np.clip(scores, -1.0, 1.0, out=scores), same


def roc_curve(scores, same):
    """Every operating point of a verifier that accepts when score >= threshold.

    Args:
        scores: (P,) finite similarities, larger for more alike.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.

    Returns:
        A `RocCurve` with the point (0, 0) and one point for each distinct score: tied pairs are
        accepted together. Source: Fawcett 2006, "An introduction to ROC analysis", algorithm 1.

    Raises:
        ValueError: wrong shapes, a score that is not finite, or pairs of one kind only.

    Example:
        >>> curve = roc_curve([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
        >>> curve.far.tolist(), curve.tar.tolist(), curve.thresholds.tolist()
        ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0], [inf, 0.9, 0.6, 0.1])
    """
    scores, same = checked_scores(scores, same)
    order = np.argsort(-scores)
    scores, same = scores[order], same[order]
    group_ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), scores.size - 1)
    genuine = np.append(0, np.cumsum(same)[group_ends])
    impostor = np.append(0, group_ends + 1) - genuine
    return RocCurve(
        far=impostor / impostor[-1],
        tar=genuine / genuine[-1],
        thresholds=np.append(np.inf, scores[group_ends]),
        num_genuine=int(genuine[-1]),
        num_impostor=int(impostor[-1]),
    )


def equal_error_rate(scores, same):
    """Error rate where false accepts and false rejects are equally frequent.

    Args:
        scores: (P,) finite similarities, larger for more alike.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.

    Returns:
        The rate in [0, 1] where FAR == 1 - TAR, by linear interpolation between the two
        neighbouring points of `roc_curve`. Term: ISO/IEC 19795-1.

    Raises:
        ValueError: wrong shapes, a score that is not finite, or pairs of one kind only.

    Example:
        >>> equal_error_rate([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        0.5
    """
    curve = roc_curve(scores, same)
    # Each point accepts at least one pair more than the last, so the gap rises strictly from -1 to 1.
    gap = curve.far - (1.0 - curve.tar)
    after = int(np.argmax(gap >= 0.0))
    weight = -gap[after - 1] / (gap[after] - gap[after - 1])
    far_before, far_after = curve.far[after - 1 : after + 1]
    return float(far_before + weight * (far_after - far_before))


def tar_at_far(scores, same, far):
    """Largest true accept rate whose false accept rate is at most `far`.

    Args:
        scores: (P,) finite similarities, larger for more alike.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.
        far: bound on the false accept rate, in (0, 1] and at least 1 / number of impostors.

    Returns:
        A `TarAtFar`. With k the most impostors that `far` allows, the threshold is the next float
        (of the type of `scores`) above the (k+1)-th largest impostor score, so that tied impostors
        are all rejected rather than exceed `far`. Measure: IJB-C (Maze et al. 2018).

    Raises:
        ValueError: bad `scores` or `same`, `far` outside (0, 1], or too few impostors for `far`.

    Example:
        >>> print(tar_at_far([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], far=0.5))
        TAR=1.0000 at FAR<=0.5 (threshold 0.1000, 1 of 2 impostor pairs accepted, 2 genuine pairs)
    """
    given = np.asarray(scores).dtype
    scores, same = checked_scores(scores, same)
    genuine, impostor = scores[same], np.sort(scores[~same])[::-1]
    allowed = _allowed_impostors(far, impostor.size)
    if allowed == impostor.size:
        threshold = scores.min()
    else:
        # A float64 step would vanish when the threshold is compared with float32 scores.
        step_type = given.type if given in (np.float16, np.float32) else np.float64
        threshold = np.nextafter(step_type(impostor[allowed]), step_type(np.inf))
    return TarAtFar(
        tar=float(np.mean(genuine >= threshold)),
        threshold=float(threshold),
        requested_far=float(far),
        achieved_far=float(np.count_nonzero(impostor >= threshold) / impostor.size),
        num_genuine=genuine.size,
        num_impostor=impostor.size,
    )


def _allowed_impostors(far, num_impostor):
    if isinstance(far, (bool, np.bool_)) or not isinstance(far, numbers.Real) or not 0.0 < far <= 1.0:
        raise ValueError(f"far must be a number in (0, 1]. Received: far={far!r}")
    # 0.29 * 100 is 28.999...: only the rate itself, 29 / 100, compares exactly with what was asked.
    allowed = math.floor(far * num_impostor) + 1
    while allowed / num_impostor > far:
        allowed -= 1
    if allowed < 1:
        raise ValueError(
            f"far must be at least 1/{num_impostor} = {1 / num_impostor:.3g}, the smallest rate that "
            f"{num_impostor} impostor pairs can resolve. Received: far={far!r}"
        )
    return allowed


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
    """The rows of `scores`, one where it has one dimension, and `same` as bool."""
    given = np.asarray(scores)
    checked = [checked_scores(row, same) for row in (given if given.ndim == 2 and len(given) else [scores])]
    return [row for row, _ in checked], checked[0][1]


def _check_both_kinds(same, name):
    if same.all() or not same.any():
        missing = "impostor" if same.all() else "genuine"
        raise ValueError(
            "folds must leave genuine and impostor pairs outside every fold, to choose a threshold from. "
            f"Received: folds with no {missing} pair outside fold {name}"
        )


def _fold_ids(folds, num_pairs):
    if np.ndim(folds) > 0:
        ids = checked_labels(folds, "folds", num_pairs)
        if np.unique(ids).size < 2:
            raise ValueError(f"folds must name at least two folds. Received: folds all {ids[0]!r}")
        return ids
    count = _validation.integer("folds", folds, 2)
    if num_pairs % count:
        raise ValueError(f"folds must divide the number of pairs, {num_pairs}. Received: folds={folds!r}")
    return np.repeat(np.arange(count), num_pairs // count)
