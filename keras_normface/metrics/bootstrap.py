"""Bootstrap intervals that resample subjects, not pairs: the pairs of one subject are not independent."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_normface import _validation
from keras_normface._threshold import BY_PAIR, BY_SUBJECT
from keras_normface.metrics._arrays import as_float64
from keras_normface.metrics.folds import weighted_accuracy

UNKNOWN = -1
"""The subject of an image whose subject is not known."""


CONFIDENCE = 0.95


def rate_name(measure, rate):
    """The name of a figure at a wanted error rate.

    Args:
        measure: such as "TAR@FAR".
        rate: such as 0.001.

    Returns:
        Text that no other rate has.

    Example:
        >>> rate_name("TAR@FAR", 0.001), rate_name("TAR@FAR", 0.025)
        ('TAR@FAR=1e-03', 'TAR@FAR=0.025')
    """
    short = f"{rate:.0e}"
    return f"{measure}={short if float(short) == rate else repr(float(rate))}"


REPEATS = 1000
_BLOCK_ELEMENTS = 2**19


def subject_counts(num_subjects, repeats=REPEATS, seed=0):
    """How often each subject occurs in each bootstrap replicate: as many are drawn as there are, with replacement.

    Args:
        num_subjects: S, at least 1.
        repeats: R, number of bootstrap replicates, at least 1.
        seed: an integer not below 0; the same seed gives the same counts.

    Returns:
        (R, S) int32; each row sums to S. Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
        chapter 6.

    Raises:
        ValueError: an argument is not such an integer.

    Example:
        >>> subject_counts(5, repeats=3).sum(axis=1).tolist()
        [5, 5, 5]
    """
    return np.concatenate(list(count_blocks(num_subjects, repeats, seed)))


def count_blocks(num_subjects, repeats, seed, columns=1):
    """The rows of `subject_counts` in parts, so that they need not all be in memory.

    Args:
        num_subjects: see `subject_counts`.
        repeats: see `subject_counts`.
        seed: see `subject_counts`.
        columns: the most numbers that the caller will hold for each row.

    Yields:
        (r, S) int32; the rows of all parts are those of `subject_counts`, whatever `columns` is.

    Raises:
        ValueError: an argument is not such an integer.

    Example:
        >>> [len(part) for part in count_blocks(5, repeats=3, seed=0, columns=2**18)]
        [2, 1]
    """
    num_subjects = _validation.integer("num_subjects", num_subjects, 1)
    repeats, seed = _validation.integer("repeats", repeats, 1), _validation.integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    for block in blocks(repeats, max(num_subjects, columns)):
        rows = block.stop - block.start
        drawn = rng.integers(num_subjects, size=(rows, num_subjects))
        drawn += num_subjects * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_subjects)
        yield counts.reshape(rows, num_subjects).astype(np.int32)


def pair_weights(counts, left, right):
    """How often each pair occurs in each bootstrap replicate.

    A pair of one subject occurs as often as the subject, a pair of two as often as the product of the two.

    Args:
        counts: (R, S) int32 from `subject_counts`.
        left: (P,) the subject, 0..S-1, of each pair's one image.
        right: (P,) the subject of its other image.

    Returns:
        (R, P) integers, whose sum along a row cannot overflow.

    Example:
        >>> import numpy as np
        >>> pair_weights(np.array([[3, 0, 2]], "int32"), np.array([0, 0, 1]), np.array([0, 2, 2])).tolist()
        [[3, 6, 0]]
    """
    most = int(counts.max(initial=0)) ** 2 * left.size
    counts = counts.astype(np.int32 if most < 2**31 else np.int64, copy=False)
    weights = counts[:, left]
    different = np.flatnonzero(left != right)
    weights[:, different] *= counts[:, right[different]]
    return weights


def percentile_interval(values, confidence=CONFIDENCE):
    """The percentile bootstrap interval.

    Args:
        values: (R,) the figure on each bootstrap replicate; NaN where a replicate does not define it (it holds
            no impostor pair, say), which is excluded.
        confidence: the share of the values between the two ends, inside (0, 1).

    Returns:
        (low, high), the (1 - `confidence`) / 2 quantile and its mirror.

    Raises:
        ValueError: fewer than half of `values` are numbers, or `confidence` is out of range.

    Example:
        >>> percentile_interval(range(101), confidence=0.5)
        (25.0, 75.0)
    """
    values = as_float64(values, "values", ndim=1)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"`confidence` must lie inside (0, 1). Received: confidence={confidence!r}")
    defined = values[~np.isnan(values)]
    if 2 * defined.size < max(values.size, 1):
        raise ValueError(
            "`values` must be numbers in at least half of the bootstrap replicates. "
            f"Received: {defined.size} numbers in {values.size} values"
        )
    low, high = np.quantile(defined, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def blocks(rows, columns):
    """Slices that part `rows` so that a block of them with `columns` numbers each stays small.

    Args:
        rows: how many there are.
        columns: numbers in each.

    Yields:
        Slices from 0 to `rows`, of at least one row, and of at most about half a million numbers.

    Example:
        >>> list(blocks(3, 2**18))
        [slice(0, 2, None), slice(2, 3, None)]
    """
    size = max(1, _BLOCK_ELEMENTS // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


@dataclass(frozen=True, eq=False)
class Resamples:
    """Figures on bootstrap replicates.

    The same protocol, number of replicates and seed give the same replicates for every model.

    Attributes:
        unit: what is resampled, "subjects", or "pairs" where not all subjects are known.
        repeats: R, number of replicates, at least 1.
        seed: of the replicates.
        values: (R,) by name of the figure; NaN where a replicate does not define it.

    Raises:
        ValueError: `repeats` or `seed` is not such an integer.

    Example:
        >>> resamples = Resamples("subjects", 3, seed=0)
        >>> resamples.keep("rank-1", [0.5, 0.5, 0.5])
        (0.5, 0.5)
        >>> list(resamples.values)
        ['rank-1']
    """

    unit: str
    repeats: int
    seed: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "repeats", _validation.integer("repeats", self.repeats, 1))
        object.__setattr__(self, "seed", _validation.integer("seed", self.seed, 0))

    def keep(self, name, values):
        """Take a figure's values on the replicates.

        Args:
            name: of the figure.
            values: (R,) numbers, or None where nothing could be resampled.

        Returns:
            The 95 % percentile interval, or None where fewer than half of the replicates define it; such values
            are not kept.

        Raises:
            ValueError: there are not R values.
        """
        if values is None:
            return None
        values = np.asarray(values, np.float64)
        if values.shape != (self.repeats,):
            raise ValueError(
                f"`values` must be one for each of {self.repeats} replicates. Received: shape {values.shape}"
            )
        interval = defined_interval(values)
        if interval is not None:
            self.values[name] = values
        return interval

    @property
    def settings(self):
        """Number of replicates and seed, for the settings of a result."""
        return {"resamples": self.repeats, "seed": self.seed}


def defined_interval(values):
    """`percentile_interval`, or None where fewer than half of the values are numbers.

    Example:
        >>> defined_interval(np.array([np.nan, 1.0])), defined_interval(np.array([np.nan, np.nan, 1.0]))
        ((1.0, 1.0), None)
    """
    return None if 2 * np.count_nonzero(np.isnan(values)) > values.size else percentile_interval(values)


THRESHOLD_KEPT = "interval over subjects, threshold kept"
"""What the note of a figure with such an interval says."""
NO_SUBJECTS = "no interval: subjects unknown"
TOO_FEW = "no interval: too few subjects"


def subject_sums(subjects, values, num_subjects):
    """(num_subjects,) float64 sums of `values` over each subject, 0..num_subjects-1."""
    return np.bincount(subjects, weights=values, minlength=num_subjects)


def resampled_shares(hits, totals, repeats, seed):
    """Several shares on the same bootstrap replicates of the subjects.

    Args:
        hits: (T, S) how many of a subject's cases succeeded in each of T trials.
        totals: (T, S) how many cases the subject has there.
        repeats: R, number of replicates.
        seed: of the replicates.

    Returns:
        (R, T) shares, NaN where a replicate holds no case; or None when fewer than two subjects have a case.

    Example:
        >>> import numpy as np
        >>> resampled_shares(np.ones((1, 3)), np.ones((1, 3)), repeats=2, seed=0).tolist()
        [[1.0], [1.0]]
    """
    present = totals.any(axis=0)
    if np.count_nonzero(present) < 2:
        return None
    hits, totals = hits[:, present].T, totals[:, present].T
    shares = []
    for counts in count_blocks(len(hits), repeats, seed):
        drawn = counts.astype(np.float64)
        with np.errstate(invalid="ignore"):
            shares.append((drawn @ hits) / (drawn @ totals))
    return np.concatenate(shares)


def resampled_units(subjects, left, right):
    """What is resampled: subjects where all are known, otherwise pairs.

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


def resampled_figures(units, rows, pooled, folds, fars, *, repeats, seed):
    """Accuracy over folds (if two or more), EER and TAR@FAR on each bootstrap replicate, all thresholds chosen anew.

    Args:
        units: from `resampled_units`.
        rows: `SortedScores`, one or one for each fold, as `fold_accuracy` takes them.
        pooled: `SortedScores` for the EER and TAR@FAR.
        folds: (P,) ids.
        fars: rates for TAR@FAR.
        repeats: R.
        seed: of the bootstrap; the same seed and units give the same replicates for another model's scores.

    Returns:
        (R,) values by name of the figure; NaN where a replicate has no pair of a kind that the figure needs.

    Example:
        >>> import numpy as np
        >>> from keras_normface.metrics.verification import sorted_scores
        >>> pairs = sorted_scores([0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0])
        >>> units = 4, np.arange(4), np.arange(4)
        >>> values = resampled_figures(units, [pairs], pairs, [0, 0, 1, 1], [0.5], repeats=3, seed=1)
        >>> {name: value.shape for name, value in values.items()}
        {'accuracy': (3,), 'EER': (3,), 'TAR@FAR=5e-01': (3,)}
    """
    num_units, left, right = units
    codes = np.unique(folds, return_inverse=True)[1]
    parts = []
    for counts in count_blocks(num_units, repeats, seed, columns=codes.size):
        weights = pair_weights(counts, left, right)
        tar, eer = weighted_error_rates(pooled, weights, fars)
        accuracy = [weighted_accuracy(rows, codes, weights)] if codes.any() else []
        parts.append(np.stack([*accuracy, eer, *tar]))
    names = [*(["accuracy"] if codes.any() else []), "EER", *(rate_name("TAR@FAR", far) for far in fars)]
    return dict(zip(names, np.concatenate(parts, axis=1), strict=True))


def weighted_error_rates(pairs, weights, fars):
    """TAR@FAR and EER where each pair occurs as often as its weight says.

    Args:
        pairs: `SortedScores` of P pairs.
        weights: (R, P) integers.
        fars: rates.

    Returns:
        A list of (R,) TAR, one for each rate, and (R,) EER; NaN where all genuine or all impostor pairs weigh 0.

    Example:
        >>> import numpy as np
        >>> from keras_normface.metrics.verification import sorted_scores
        >>> pairs = sorted_scores([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> tar, eer = weighted_error_rates(pairs, np.array([[1, 1, 1, 1], [1, 1, 0, 1]]), [0.1])
        >>> tar[0].tolist(), eer.tolist()
        ([0.5, 1.0], [0.5, 0.0])
    """
    order = pairs.order[::-1]
    ranked, kinds = pairs.scores[order], pairs.same[order]
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


def _accepted_shares(weights, order, kind, ends):
    """(R, T + 1) share of the weight of a kind in `order` up to each of `ends`, after a share of 0."""
    head, body = slice(0, ends[0] + 1), slice(ends[0] + 1, ends[-1] + 1)
    total = weights[:, order[kind]].sum(axis=1)[:, None]
    cumulated = np.zeros((len(weights), ends.size + 1), total.dtype)
    cumulated[:, 1:] = weights[:, order[head][kind[head]]].sum(axis=1)[:, None]
    steps = np.cumsum(weights[:, order[body]] * kind[body], axis=1)
    cumulated[:, 2:] += steps[:, ends[1:] - ends[0] - 1]
    with np.errstate(invalid="ignore"):
        return cumulated / total
