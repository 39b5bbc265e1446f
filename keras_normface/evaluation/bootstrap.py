"""Intervals by resampling subjects, not pairs: the pairs of one person stand and fall together."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation._checks import as_float64
from keras_normface.evaluation.figure import CONFIDENCE

REPEATS = 1000
_BLOCK_ELEMENTS = 2**19


def subject_counts(num_subjects: int, repeats: int = REPEATS, seed: int = 0) -> np.ndarray:
    """How often each subject is drawn when as many are drawn as there are, with replacement.

    Args:
        num_subjects: S, at least 1.
        repeats: R, how many times the draw is repeated, at least 1.
        seed: an integer not below 0; the same seed gives the same counts.

    Returns:
        (R, S) int32; each row sums to S. Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
        chapter 6.

    Raises:
        ValueError: an argument is no such integer.

    Example:
        >>> subject_counts(5, repeats=3).sum(axis=1).tolist()
        [5, 5, 5]
    """
    return np.concatenate(list(count_blocks(num_subjects, repeats, seed)))


def count_blocks(num_subjects: int, repeats: int, seed: int, columns: int = 1):
    """The rows of `subject_counts` in parts, so that they need not all be in memory.

    Args:
        num_subjects: see `subject_counts`.
        repeats: see `subject_counts`.
        seed: see `subject_counts`.
        columns: the most numbers that the caller will hold for each row.

    Yields:
        (r, S) int32; the rows of all parts are those of `subject_counts`, whatever `columns` is.

    Raises:
        ValueError: an argument is no such integer.

    Example:
        >>> [len(part) for part in count_blocks(5, repeats=3, seed=0, columns=2**18)]
        [2, 1]
    """
    num_subjects = checked_count(num_subjects, "num_subjects", 1)
    repeats, seed = checked_count(repeats, "repeats", 1), checked_count(seed, "seed", 0)
    rng = np.random.default_rng(seed)
    for block in blocks(repeats, max(num_subjects, columns)):
        rows = block.stop - block.start
        drawn = rng.integers(num_subjects, size=(rows, num_subjects))
        drawn += num_subjects * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_subjects)
        yield counts.reshape(rows, num_subjects).astype(np.int32)


def pair_weights(counts: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How often each pair occurs in each resample.

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


def percentile_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile bootstrap interval.

    Args:
        values: (R,) the figure on each resample; NaN where a resample does not define it (no impostor pair was
            drawn, say), which is left out.
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
        raise ValueError(f"confidence must lie inside (0, 1). Received: confidence={confidence!r}")
    defined = values[~np.isnan(values)]
    if 2 * defined.size < max(values.size, 1):
        raise ValueError(
            "values must be numbers in at least half of the resamples. "
            f"Received: {defined.size} numbers in {values.size} values"
        )
    low, high = np.quantile(defined, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def blocks(rows: int, columns: int):
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


def checked_count(value: object, name: str, least: int) -> int:
    """`value` as an int of at least `least`.

    Args:
        value: what came.
        name: of the argument.
        least: the smallest that is admitted.

    Raises:
        ValueError: it is none.

    Example:
        >>> checked_count(3, "repeats", 1)
        3
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if isinstance(value, (bool, np.bool_)) or count < least:
        raise ValueError(f"{name} must be an integer of at least {least}. Received: {name}={value!r}")
    return count
