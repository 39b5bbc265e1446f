"""One-to-one verification: are these two embeddings of one subject?"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np

from keras_normface import _validation
from keras_normface.metrics._arrays import checked_labels, checked_scores, unit_rows

_BLOCK_ROWS = 256
_STEPS = 500
_NARROW = (np.float16, np.float32)


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Receiver operating characteristic of a verifier that accepts when score >= threshold.

    Attributes:
        far: (T,) false accept rates in [0, 1], never falling: accepted impostors / impostors.
        tar: (T,) true accept rates in [0, 1], never falling: accepted genuine / genuine.
        thresholds: (T,) falling thresholds, of the type of the scores; the first is +inf, where nothing is accepted.
        num_genuine: number of genuine pairs.
        num_impostor: number of impostor pairs; no FAR below `1 / num_impostor` was measured.
        downsampled: whether points were omitted; EER and TAR@FAR are read from complete curves only.

    Example:
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> curve.num_genuine, curve.num_impostor, curve.equal_error_rate()
        (2, 2, 0.5)
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    num_genuine: int
    num_impostor: int
    downsampled: bool = False

    def equal_error_rate(self):
        """The error rate where FAR == 1 - TAR; see the function `equal_error_rate`.

        Returns:
            The rate, in [0, 1].

        Raises:
            ValueError: the curve is downsampled.
        """
        self._check_complete()
        # Each point accepts at least one pair more than the last, so the gap rises strictly from -1 to 1.
        gap = self.far - (1.0 - self.tar)
        after = int(np.argmax(gap >= 0.0))
        weight = -gap[after - 1] / (gap[after] - gap[after - 1])
        far_before, far_after = self.far[after - 1 : after + 1]
        return float(far_before + weight * (far_after - far_before))

    def tar_at_far(self, far):
        """The largest true accept rate whose false accept rate is at most `far`; see the function `tar_at_far`.

        Args:
            far: bound on the false accept rate, in (0, 1] and at least 1 / number of impostors.

        Returns:
            A `TarAtFar`.

        Raises:
            ValueError: the curve is downsampled, or `far` is out of range or below what the impostors resolve.
        """
        self._check_complete()
        checked_rate(far, self.num_impostor, "far", "impostor pairs")
        point = int(np.searchsorted(self.far, float(far), side="right")) - 1
        # The next point accepts too many: its threshold is the largest impostor score that must be rejected.
        last = point == self.far.size - 1
        threshold = self.thresholds[-1] if last else just_above(self.thresholds[point + 1])
        return TarAtFar(
            tar=float(self.tar[point]),
            threshold=float(threshold),
            requested_far=float(far),
            achieved_far=float(self.far[point]),
            num_genuine=self.num_genuine,
            num_impostor=self.num_impostor,
        )

    def downsample(self, steps=_STEPS):
        """Keep the points that a plot on logarithmic axes can show.

        Kept are the first and the last point, and for each of `steps` rates, evenly spaced on a logarithmic axis, the
        last point whose FAR is at most that rate, and the first whose miss rate, 1 - TAR, is at most that rate. No
        point is moved or interpolated.

        Args:
            steps: how many rates on each axis, at least 2.

        Returns:
            A `RocCurve` of at most 2 * `steps` + 2 points; the curve itself when it has no more than that.

        Raises:
            ValueError: `steps` is not an integer of at least 2.

        Example:
            >>> curve = roc_curve(np.arange(4000), np.arange(4000) % 2)
            >>> len(curve.far), len(curve.downsample().far) < 1003
            (4001, True)
        """
        if _validation.integer("steps", steps, 2) >= len(self.far) / 2 - 1:
            return self
        fars = np.geomspace(1.0 / self.num_impostor, 1.0, steps)
        misses = np.geomspace(1.0 / self.num_genuine, 1.0, steps)
        last = len(self.far) - 1
        below = np.searchsorted(self.far, fars, side="right") - 1
        kept = np.unique([0, last, *below, *np.minimum(np.searchsorted(self.tar, 1.0 - misses), last)])
        points = self.far[kept], self.tar[kept], self.thresholds[kept]
        return RocCurve(*points, self.num_genuine, self.num_impostor, downsampled=True)

    def _check_complete(self):
        if self.downsampled:
            raise ValueError("a curve must be complete to read rates from it. Received: a downsampled curve")


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
        raise ValueError(f"`embeddings` must have at least two rows. Received: embeddings.shape={unit.shape}")
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


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Scores of pairs, sorted once: curve, accuracy over folds and bootstrap read the same order.

    Attributes:
        scores: (P,) float64 similarities.
        same: (P,) bool, true for genuine pairs.
        order: (P,) indices that sort `scores`, rising.
        dtype: floating type that the scores were given in; thresholds step in it.

    Example:
        >>> sorted_scores([0.6, 0.9, 0.1], [1, 1, 0]).order.tolist()
        [2, 0, 1]
    """

    scores: np.ndarray
    same: np.ndarray
    order: np.ndarray
    dtype: type = np.float64

    def roc_curve(self):
        """Every operating point, as a `RocCurve`; see the function `roc_curve`."""
        falling = self.order[::-1]
        scores, same = self.scores[falling], self.same[falling]
        group_ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), scores.size - 1)
        genuine = np.append(0, np.cumsum(same)[group_ends])
        impostor = np.append(0, group_ends + 1) - genuine
        return RocCurve(
            far=impostor / impostor[-1],
            tar=genuine / genuine[-1],
            thresholds=np.append(self.dtype(np.inf), scores[group_ends].astype(self.dtype)),
            num_genuine=int(genuine[-1]),
            num_impostor=int(impostor[-1]),
        )


def sorted_scores(scores, same):
    """Check scores of pairs and sort them.

    Args:
        scores: (P,) finite similarities, larger for more alike.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.

    Returns:
        `SortedScores`.

    Raises:
        ValueError: wrong shapes, a score that is not finite, or pairs of one kind only.

    Example:
        >>> sorted_scores([0.9, 0.1], [1, 0]).roc_curve().thresholds.tolist()
        [inf, 0.9, 0.1]
    """
    given = np.asarray(scores).dtype
    scores, same = checked_scores(scores, same)
    return SortedScores(scores, same, np.argsort(scores), given.type if given in _NARROW else np.float64)


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
    return sorted_scores(scores, same).roc_curve()


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
    return roc_curve(scores, same).equal_error_rate()


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
    return roc_curve(scores, same).tar_at_far(far)


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
        ValueError: a rate that was asked for is not a number in (0, 1] or lies below 1 / `count`.

    Example:
        >>> chosen_rates(None, (1e-1, 1e-3), 100, "fars", "impostor pairs")
        (0.1,)
    """
    if rates is None:
        return tuple(rate for rate in default if accepted(rate, count) >= 1)
    rates = (rates,) if isinstance(rates, numbers.Real) else tuple(rates)
    for rate in rates:
        checked_rate(rate, count, name, of)
    return tuple(dict.fromkeys(float(rate) for rate in rates))


def checked_rate(rate, count, name, of):
    """Refuse a rate that is not in (0, 1], or that `count` scores cannot resolve.

    Args:
        rate: what the caller asked for.
        count: number of impostor scores.
        name: of the argument.
        of: what is counted, such as "impostor pairs".

    Raises:
        ValueError: the rate is not a number in (0, 1], or lies below 1 / `count`.

    Example:
        >>> checked_rate(0.5, 2, "far", "impostor pairs")
    """
    if isinstance(rate, (bool, np.bool_)) or not isinstance(rate, numbers.Real) or not 0.0 < rate <= 1.0:
        raise ValueError(f"`{name}` must be a number in (0, 1]. Received: {name}={rate!r}")
    if accepted(float(rate), count) < 1:
        raise ValueError(
            f"`{name}` must be at least 1/{count} = {1 / count:.3g}, the smallest rate that {count} {of} can "
            f"resolve. Received: {name}={rate!r}"
        )


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


def threshold_at_rate(falling, rate, count, lowest):
    """The lowest threshold at which at most `rate` of the impostor scores are accepted.

    The rule of `tar_at_far`, for scores of which only the largest are held. (BLUFR's rule is another: see
    `protocols.blufr`.)

    Args:
        falling: (K,) the largest impostor scores, falling, more than are accepted unless all are.
        rate: bound on their share, in (0, 1].
        count: number of impostor scores.
        lowest: threshold where all are accepted.

    Returns:
        The next float, of the type of `falling`, above the largest score that must be rejected; accept when
        score >= threshold.

    Example:
        >>> bool(threshold_at_rate(np.float32([3, 2, 1]), 0.5, 3, 0.0) > 2)
        True
    """
    allowed = accepted(rate, count)
    return falling.dtype.type(lowest) if allowed == count else just_above(falling[allowed])


def just_above(scores):
    """The next floats above scores, of their own type: a float64 step would vanish beside float32 scores.

    Args:
        scores: an array or a number of a NumPy type.

    Returns:
        The same type.

    Example:
        >>> float(just_above(np.float32(1)))
        1.0000001192092896
    """
    return np.nextafter(scores, scores.dtype.type(np.inf))
