"""The threshold for a wanted false accept rate."""

from __future__ import annotations

import numpy as np

from keras_normface._threshold import BY_PAIR, BY_SUBJECT, CalibratedThreshold
from keras_normface.metrics._arrays import checked_labels
from keras_normface.metrics.bootstrap import REPEATS, UNKNOWN, count_blocks, pair_weights, percentile_interval
from keras_normface.metrics.verification import just_above, sorted_scores


def calibrate_threshold(
    scores,
    same,
    far,
    *,
    left_subjects=None,
    right_subjects=None,
    protocol,
    repeats=REPEATS,
    seed=0,
):
    """The lowest threshold on the cosine whose false accept rate is at most `far`.

    Args:
        scores: (P,) cosines of pairs.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.
        far: wanted false accept rate, in (0, 1] and at least 1 / number of impostor pairs.
        left_subjects: (P,) integers or strings, the subject of each pair's one image, -1 where it is not known.
            Without the two, or with an unknown one, the interval comes from resampling pairs and may be too narrow.
        right_subjects: (P,) the subject of its other image.
        protocol: what the pairs are, for whoever reads the threshold later.
        repeats: number of bootstrap replicates for the interval.
        seed: of the replicates.

    Returns:
        A `CalibratedThreshold`; the threshold is chosen as in `tar_at_far`, on each replicate too.

    Raises:
        ValueError: scores that are no finite cosines, `far` out of range or below what the impostor pairs resolve,
            subjects that do not fit or contradict `same`.

    Example:
        >>> threshold = calibrate_threshold([0.9, 0.7, 0.2, 0.1], [1, 1, 0, 0], 0.5, protocol="toy", repeats=20)
        >>> round(threshold.cosine, 4), threshold.achieved_far, threshold.resampled
        (0.1, 0.5, 'pairs')
    """
    pairs = sorted_scores(scores, same)
    point = pairs.roc_curve().tar_at_far(far)
    scores, same = pairs.scores, pairs.same
    largest = int(np.argmax(np.abs(scores)))
    if abs(scores[largest]) > 1.0 + 1e-6:
        raise ValueError(f"`scores` must be cosines, in [-1, 1]. Received: scores[{largest}]={scores[largest]}")
    unit, units = _units(left_subjects, right_subjects, same)
    interval = percentile_interval(_resampled(pairs, far, units, repeats, seed))
    return CalibratedThreshold(
        far=float(far),
        cosine=point.threshold,
        interval=interval,
        achieved_far=point.achieved_far,
        tar=point.tar,
        num_genuine=point.num_genuine,
        num_impostor=point.num_impostor,
        protocol=protocol,
        resampled=unit,
    )


def _units(left, right, same):
    pairs = np.arange(same.size)
    by_pair = BY_PAIR, (same.size, pairs, pairs)
    if left is None and right is None:
        return by_pair
    if left is None or right is None:
        raise ValueError("`left_subjects` and `right_subjects` must be given both or not at all. Received: one of them")
    left, right = checked_labels(left, "left_subjects", same.size), checked_labels(right, "right_subjects", same.size)
    if any(labels.dtype.kind == "i" and (labels == UNKNOWN).any() for labels in (left, right)):
        return by_pair
    names, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    wrong = np.flatnonzero((left == right) != same)
    if wrong.size:
        pair = wrong[0]
        raise ValueError(
            "`left_subjects` and `right_subjects` must be equal in genuine pairs and differ in impostor pairs. "
            f"Received: same[{pair}]={bool(same[pair])} for {left[pair].item()!r} and {right[pair].item()!r}"
        )
    return BY_SUBJECT, (names.size, codes[: same.size], codes[same.size :])


def _resampled(pairs, far, units, repeats, seed):
    """(R,) threshold on each bootstrap replicate, NaN where one has no impostor pair."""
    num_units, left, right = units
    falling = pairs.order[::-1]
    impostor = falling[~pairs.same[falling]]
    ranked = pairs.scores[impostor]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    above = just_above(ranked[ends].astype(pairs.dtype)).astype(np.float64)
    # Where all impostors may be accepted, so may every score.
    above = np.append(above, pairs.scores[pairs.order[0]])
    thresholds = []
    for counts in count_blocks(num_units, repeats, seed, columns=impostor.size):
        accepted = np.cumsum(pair_weights(counts, left[impostor], right[impostor]), axis=1, dtype=np.int64)
        total = accepted[:, -1:]
        with np.errstate(invalid="ignore"):
            allowed = np.count_nonzero(accepted[:, ends] / total <= far, axis=1)
        thresholds.append(np.where(total[:, 0] > 0, above[allowed], np.nan))
    return np.concatenate(thresholds)
