"""A figure from its cases in splits and galleries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.figure import Figure
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.subject_shares import (
    NO_SUBJECTS,
    THRESHOLD_KEPT,
    TOO_FEW,
    resampled_shares,
    subject_sums,
)


@dataclass(frozen=True, eq=False)
class Case:
    """What one split or gallery has to say.

    Attributes:
        success: (K,) bool, of each case.
        owners: (K,) subject of each case, 0..S-1, or None where unknown.
        threshold: the threshold that was applied, or None.
    """

    success: np.ndarray
    owners: np.ndarray | None
    threshold: float | None


def split_figure(name: str, splits: list[list[Case]], resamples: Resamples | None = None) -> Figure:
    """The mean over splits of the mean over each split's galleries.

    Args:
        name: of the figure.
        splits: for each split its cases, one for each gallery.
        resamples: None for no interval, or what keeps the figure on the draws of subjects.

    Returns:
        A `Figure`, with the standard deviation over the splits when there are several.

    Example:
        >>> import numpy as np
        >>> galleries = [Case(np.array([True, False]), None, None), Case(np.array([True]), None, None)]
        >>> split_figure("rank-1", [galleries]).value
        0.75
    """
    cases = [case for split in splits for case in split]
    weights = np.array([1.0 / (len(splits) * len(split)) for split in splits for _ in split])
    values = [float(np.mean([case.success.mean() for case in split])) for split in splits]
    interval, note = None, ""
    if resamples is not None and any(case.owners is None for case in cases):
        note = NO_SUBJECTS
    elif resamples is not None:
        interval = resamples.keep(name, _on_draws(cases, weights, resamples))
        kept = "interval over subjects" if cases[0].threshold is None else THRESHOLD_KEPT
        note = TOO_FEW if interval is None else kept
    several = len(splits) > 1
    return Figure(
        name,
        float(np.mean(values)),
        interval=interval,
        spread=float(np.std(values, ddof=1)) if several else None,
        spread_of=f"standard deviation over {len(splits)} splits" if several else None,
        threshold=cases[0].threshold if len(cases) == 1 else None,
        note=note,
    )


def _on_draws(cases: list[Case], weights: np.ndarray, resamples: Resamples) -> np.ndarray | None:
    num_people = 1 + max(int(case.owners.max()) for case in cases)
    hits = np.stack([subject_sums(case.owners, case.success, num_people) for case in cases])
    totals = np.stack([subject_sums(case.owners, np.ones(case.owners.size), num_people) for case in cases])
    shares = resampled_shares(hits, totals, resamples.repeats, resamples.seed)
    return None if shares is None else shares @ weights
