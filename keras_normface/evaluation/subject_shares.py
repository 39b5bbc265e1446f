"""Shares on resamples of the subjects, at thresholds that stay where they are."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.bootstrap import count_blocks

THRESHOLD_KEPT = "interval over subjects, threshold kept"
"""What the note of a figure with such an interval says."""
NO_SUBJECTS = "no interval: subjects unknown"
TOO_FEW = "no interval: too few subjects"


def subject_sums(subjects: np.ndarray, values: np.ndarray, num_subjects: int) -> np.ndarray:
    """(num_subjects,) float64 sums of `values` over each subject, 0..num_subjects-1."""
    return np.bincount(subjects, weights=values, minlength=num_subjects)


def resampled_shares(hits: np.ndarray, totals: np.ndarray, repeats: int, seed: int) -> np.ndarray | None:
    """Several shares on the same resamples of the subjects.

    Args:
        hits: (T, S) how many of a subject's cases succeeded in each of T trials.
        totals: (T, S) how many cases the subject has there.
        repeats: R, how many resamples.
        seed: of the draw.

    Returns:
        (R, T) shares, NaN where a resample holds no case; or None when fewer than two subjects have a case.

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
