"""Figures that are shares of successes: in a trial, over the galleries of a split, over splits."""

from dataclasses import dataclass

import numpy as np

from keras_normface.metrics.bootstrap import NO_SUBJECTS, THRESHOLD_KEPT, TOO_FEW, resampled_shares, subject_sums
from keras_normface.metrics.results import MetricValue


@dataclass(frozen=True, eq=False)
class Case:
    """One trial, split or gallery: (K,) success, (K,) subjects 0..S-1 or None, the threshold or None."""

    success: np.ndarray
    subjects: np.ndarray | None
    threshold: float | None


def replicate_shares(cases, resamples):
    """C cases with subjects → (R, C) shares on the bootstrap replicates, or None where too few subjects have a case."""
    size = 1 + max(int(case.subjects.max()) for case in cases)
    hits = np.stack([subject_sums(case.subjects, case.success, size) for case in cases])
    totals = np.stack([subject_sums(case.subjects, np.ones(case.subjects.size), size) for case in cases])
    return resampled_shares(hits, totals, resamples.repeats, resamples.seed)


def split_figure(name, splits, resamples, kept="interval over subjects"):
    """Cases of each gallery of each split → `MetricValue`: mean over splits of means over galleries."""
    cases = [case for split in splits for case in split]
    weights = np.array([1.0 / (len(splits) * len(split)) for split in splits for _ in split])
    values = [float(np.mean([case.success.mean() for case in split])) for split in splits]
    interval, note = None, ""
    if resamples is not None and any(case.subjects is None for case in cases):
        note = NO_SUBJECTS
    elif resamples is not None:
        shares = replicate_shares(cases, resamples)
        interval = resamples.keep(name, None if shares is None else shares @ weights)
        note = TOO_FEW if interval is None else kept if cases[0].threshold is None else THRESHOLD_KEPT
    several = len(splits) > 1
    return MetricValue(
        name,
        float(np.mean(values)),
        interval=interval,
        spread=float(np.std(values, ddof=1)) if several else None,
        spread_of=f"standard deviation over {len(splits)} splits" if several else None,
        threshold=cases[0].threshold if len(cases) == 1 else None,
        note=note,
    )
