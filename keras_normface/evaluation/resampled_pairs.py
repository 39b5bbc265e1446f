"""The figures of pairs on resamples of the subjects, from the scores' order and each pair's weight alone."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.bootstrap import count_blocks, pair_weights
from keras_normface.evaluation.figure import rate_name
from keras_normface.evaluation.folds import candidate_thresholds

BY_SUBJECT = "subjects"
BY_PAIR = "pairs"


def resampled_units(subjects: np.ndarray | None, left: np.ndarray, right: np.ndarray) -> tuple[str, tuple]:
    """What is drawn: subjects where all are known, otherwise pairs.

    Args:
        subjects: (N,) subject of each image, -1 where unknown, or None.
        left: (P,) indices of images.
        right: (P,) indices of images.

    Returns:
        `BY_SUBJECT` or `BY_PAIR`; and (number of units, the unit of each left, of each right image).

    Example:
        >>> import numpy as np
        >>> resampled_units(np.array([7, 7, 9]), np.array([0, 0]), np.array([1, 2]))[1][0]
        2
        >>> resampled_units(None, np.array([0, 0]), np.array([1, 2]))[0]
        'pairs'
    """
    if subjects is None or min(subjects[left].min(), subjects[right].min()) < 0:
        units = np.arange(left.size)
        return BY_PAIR, (left.size, units, units)
    names, codes = np.unique(np.concatenate([subjects[left], subjects[right]]), return_inverse=True)
    return BY_SUBJECT, (names.size, codes[: left.size], codes[left.size :])


def resampled_figures(units, rows, pooled, same, folds, fars, *, repeats: int, seed: int) -> dict[str, np.ndarray]:
    """Accuracy over the folds, EER and TAR@FAR on each resample, every threshold chosen anew.

    Args:
        units: from `resampled_units`.
        rows: (1, P) or (F, P) scores, as `cross_validated_accuracy` takes them.
        pooled: (P,) scores for the EER and TAR@FAR.
        same: (P,) bool.
        folds: (P,) ids.
        fars: rates for TAR@FAR.
        repeats: R.
        seed: of the draws; the same seed and units give the same draws for another model's scores.

    Returns:
        (R,) values by name of the figure; NaN where a resample has no pair of a kind that the figure needs.

    Example:
        >>> import numpy as np
        >>> scores, same = np.array([[0.9, 0.1, 0.8, 0.2]]), np.array([True, False, True, False])
        >>> units = 4, np.arange(4), np.arange(4)
        >>> values = resampled_figures(units, scores, scores[0], same, [0, 0, 1, 1], [0.5], repeats=3, seed=1)
        >>> {name: value.shape for name, value in values.items()}
        {'accuracy': (3,), 'EER': (3,), 'TAR@FAR=5e-01': (3,)}
    """
    num_units, left, right = units
    codes = np.unique(folds, return_inverse=True)[1]
    parts = []
    for counts in count_blocks(num_units, repeats, seed, columns=same.size):
        weights = pair_weights(counts, left, right)
        tar, eer = weighted_error_rates(pooled, same, weights, fars)
        parts.append(np.stack([weighted_accuracy(rows, same, codes, weights), eer, *tar]))
    names = ["accuracy", "EER", *(rate_name("TAR@FAR", far) for far in fars)]
    return dict(zip(names, np.concatenate(parts, axis=1), strict=True))


def weighted_accuracy(rows: np.ndarray, same: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Accuracy over folds where each pair occurs as often as its weight says.

    The candidate thresholds are those of the scores as they are, pairs of weight zero included, from the one just
    below the lowest genuine pair to the one just above the highest impostor pair, or the other way round.

    Args:
        rows: (1, P) or (F, P) scores.
        same: (P,) bool.
        codes: (P,) fold of each pair, 0..F-1.
        weights: (R, P) integers.

    Returns:
        (R,) mean over the folds that have a pair, in [0, 1]; NaN where none has.

    Example:
        >>> import numpy as np
        >>> scores, same = np.array([[0.9, 0.1, 0.8, 0.2]]), np.array([True, False, True, False])
        >>> weighted_accuracy(scores, same, np.array([0, 0, 1, 1]), np.ones((2, 4), int)).tolist()
        [1.0, 1.0]
    """
    right, total = np.zeros((2, codes.max() + 1, len(weights)))
    for fold in range(codes.max() + 1):
        row = rows[fold % len(rows)]
        order = np.argsort(row)
        rest, test = order[codes[order] != fold], order[codes[order] == fold]
        thresholds = _weighted_thresholds(row[rest], same[rest], weights, rest)
        rejected = np.searchsorted(row[test], thresholds)
        right[fold] = _gained(weights, same[test], test)[np.arange(len(weights)), rejected]
        right[fold] += weights[:, test[same[test]]].sum(axis=1)
        total[fold] = weights[:, test].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, right / total, 0.0).sum(axis=0) / np.count_nonzero(total, axis=0)


def weighted_error_rates(scores: np.ndarray, same: np.ndarray, weights: np.ndarray, fars) -> tuple[list, np.ndarray]:
    """TAR@FAR and EER where each pair occurs as often as its weight says.

    Args:
        scores: (P,).
        same: (P,) bool.
        weights: (R, P) integers.
        fars: rates.

    Returns:
        A list of (R,) TAR, one for each rate, and (R,) EER; NaN where all genuine or all impostor pairs weigh 0.

    Example:
        >>> import numpy as np
        >>> scores, same = np.array([0.9, 0.6, 0.7, 0.1]), np.array([True, True, False, False])
        >>> tar, eer = weighted_error_rates(scores, same, np.array([[1, 1, 1, 1], [1, 1, 0, 1]]), [0.1])
        >>> tar[0].tolist(), eer.tolist()
        ([0.5, 1.0], [0.5, 0.0])
    """
    order = np.argsort(-scores)
    ranked, kinds = scores[order], same[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    # Above the first impostor pair FAR is 0, and behind the last genuine pair TAR is 1.
    first, last = np.argmax(~kinds), ranked.size - 1 - np.argmax(kinds[::-1])
    ends = ends[np.maximum(np.searchsorted(ends, first) - 1, 0) : np.searchsorted(ends, max(first, last)) + 1]
    shares = [_accepted_shares(weights, order, kind, ends) for kind in (kinds, ~kinds)]
    tar, far = shares
    rows, undefined = np.arange(len(weights)), np.isnan(tar[:, -1]) | np.isnan(far[:, -1])
    tars = [tar[rows, np.maximum(np.count_nonzero(far <= rate, axis=1), 1) - 1] for rate in fars]
    gap = far - (1.0 - tar)
    after = np.maximum(np.argmax(gap >= 0.0, axis=1), 1)
    before, behind = gap[rows, after - 1], gap[rows, after]
    with np.errstate(invalid="ignore"):
        share = -before / (behind - before)
    eer = far[rows, after - 1] + share * (far[rows, after] - far[rows, after - 1])
    return [np.where(undefined, np.nan, tar) for tar in tars], np.where(undefined, np.nan, eer)


def _weighted_thresholds(row: np.ndarray, same: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
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


def _gained(weights: np.ndarray, same: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R, K + 1) weight that is decided rightly more than before when the first 0..K of `columns` are rejected."""
    signed = weights[:, columns]
    signed[:, same] *= -1
    gained = np.zeros((len(weights), columns.size + 1), signed.dtype)
    np.cumsum(signed, axis=1, out=gained[:, 1:])
    return gained


def _accepted_shares(weights: np.ndarray, order: np.ndarray, kind: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(R, T + 1) share of the weight of a kind in `order` up to each of `ends`, after a share of 0."""
    head, body = slice(0, ends[0] + 1), slice(ends[0] + 1, ends[-1] + 1)
    total = weights[:, order[kind]].sum(axis=1)[:, None]
    cumulated = np.zeros((len(weights), ends.size + 1), total.dtype)
    cumulated[:, 1:] = weights[:, order[head][kind[head]]].sum(axis=1)[:, None]
    steps = np.cumsum(weights[:, order[body]] * kind[body], axis=1)
    cumulated[:, 2:] += steps[:, ends[1:] - ends[0] - 1]
    with np.errstate(invalid="ignore"):
        return cumulated / total
