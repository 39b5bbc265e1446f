"""BLUFR's figures: VR@FAR over all pairs, and open-set DIR@FAR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.all_pairs import AllPairs, verify_all_pairs
from keras_normface.evaluation.blufr import BlufrProtocol, BlufrTrial
from keras_normface.evaluation.blufr_counts import num_impostors
from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.figure import Figure, rate_name
from keras_normface.evaluation.gallery_search import SearchScores, search_gallery
from keras_normface.evaluation.index_lists import checked_ranks, embeddings_of
from keras_normface.evaluation.projection import fitted_projection
from keras_normface.evaluation.resampled_pairs import BY_SUBJECT
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.result import Result
from keras_normface.evaluation.score_tails import chosen_rates, unit_rows_float32
from keras_normface.evaluation.subject_shares import THRESHOLD_KEPT, TOO_FEW, resampled_shares, subject_sums

_FARS, _DIR_FARS = (1e-2, 1e-3, 1e-4, 1e-5), (1e-1, 1e-2, 1e-3)
_PCA_SHARE = 0.995
_SPREAD = "standard deviation over {} trials"


@dataclass(frozen=True, eq=False)
class _Scored:
    """One trial's scores, subjects numbered 0..S-1."""

    pairs: AllPairs
    search: SearchScores
    probe_subjects: np.ndarray


def evaluate_blufr(
    protocol: BlufrProtocol,
    embeddings: ArrayLike,
    *,
    projection: str | Callable | None = None,
    fars: tuple[float, ...] | None = None,
    dir_fars: tuple[float, ...] | None = None,
    ranks: tuple[int, ...] = (1,),
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """Verification of all pairs and open-set identification, mean minus standard deviation over the trials.

    VR@FAR: the threshold is the round(FAR * N)-th largest of the N impostor scores of all pairs of the test set; where
    that is the last, the smallest of all scores.
    DIR@FAR rank-k: the N scores are each impostor probe's highest over the gallery; a genuine probe counts when its
    mate scores at least the threshold and is among the k best. In ranks, scores within 1e-6 are tied and ties count
    against the probe. Source: Liao et al. 2014, "A benchmark study of large-scale unconstrained face recognition",
    sections 3 and 4.

    Args:
        protocol: a `BlufrProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; any lengths.
        projection: None, "pca" (99.5 % of the variance), or a function of a trial's training embeddings (K, D) and
            their subjects (K,) that returns a function from (M, D) to (M, d). Fitted anew for each trial.
        fars: rates for VR; None for those of 1e-2 to 1e-5 that every trial resolves.
        dir_fars: rates for DIR; None for those of 1e-1 to 1e-3 that every trial resolves.
        ranks: k of the DIR.
        intervals: whether to resample subjects, with each trial's threshold kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result`. Each figure is the mean minus the standard deviation (ddof 1) over the trials, which is what the
        benchmark reports; the mean alone is a figure of its own, named with "mean". Each trial's value and
        threshold are in `settings["trials"]`.

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, a trial without genuine or impostor
            pairs or probes, or a rate that a trial cannot resolve.

    Example:
        >>> import numpy as np
        >>> from keras_normface.evaluation.blufr import BlufrTrial
        >>> trial = BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3])
        >>> protocol = BlufrProtocol("toy", ("a", "b", "c", "d"), [0, 1, 1, 2], (trial, trial))
        >>> result = evaluate_blufr(protocol, np.eye(4)[[0, 1, 1, 2]], fars=0.5, dir_fars=1.0, intervals=False)
        >>> print(result["VR@FAR=5e-01"])
        VR@FAR=5e-01 100.00 % +- 0.00 % (standard deviation over 2 trials); mean minus standard deviation
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    rows = embeddings_of(embeddings, len(protocol.images), "embeddings")
    ranks = checked_ranks(ranks)
    people, subjects = np.unique(protocol.subjects, return_inverse=True)
    impostors, unknown = num_impostors(protocol)
    fars = chosen_rates(fars, _FARS, min(impostors), "fars", "impostor pairs")
    dir_fars = chosen_rates(dir_fars, _DIR_FARS, min(unknown), "dir_fars", "impostor probes")
    unit = unit_rows_float32(rows, "embeddings") if projection is None else None
    cases = {rate_name("VR@FAR", far): [] for far in fars}
    cases |= {f"{rate_name('DIR@FAR', far)} rank-{rank}": [] for far in dir_fars for rank in ranks}
    for trial, num_impostor in zip(protocol.trials, impostors, strict=True):
        tested = _projected(rows, trial, subjects, projection) if unit is None else unit[trial.test]
        keep = max((_rounded(far, num_impostor) for far in fars), default=1)
        scored = _score_trial(tested, trial, subjects, keep)
        for name, case in zip(cases, _decided(scored, fars, dir_fars, ranks, people.size), strict=True):
            cases[name].append(case)
    return Result(
        protocol=protocol.name,
        figures=tuple(figure for name in cases for figure in _figures(name, cases[name], resamples)),
        counts={
            "images": len(protocol.images),
            "subjects": people.size,
            "trials": len(protocol.trials),
            "fewest impostor pairs": min(impostors),
            "fewest impostor probes": min(unknown),
        },
        settings={
            "projection": getattr(projection, "__name__", str(projection)),
            "intervals": resamples.settings if intervals else None,
            "trials": {
                name: [
                    {"value": float(hits.sum() / totals.sum()), "threshold": threshold}
                    for hits, totals, threshold in cases[name]
                ]
                for name in cases
            },
        },
        resamples=resamples,
    )


def _score_trial(tested: np.ndarray, trial: BlufrTrial, subjects: np.ndarray, keep: int) -> _Scored:
    position = np.full(subjects.size, -1)
    position[trial.test] = np.arange(trial.test.size)
    gallery, probes = tested[position[trial.gallery]], tested[position[trial.probes]]
    probe_subjects = subjects[trial.probes]
    search = search_gallery(gallery, subjects[trial.gallery], probes, probe_subjects)
    return _Scored(verify_all_pairs(tested, subjects[trial.test], keep), search, probe_subjects)


def _decided(scored: _Scored, fars, dir_fars, ranks, num_subjects: int):
    """Per figure: successes of each subject, cases of each subject, and the threshold."""
    pairs, search = scored.pairs, scored.search
    totals = subject_sums(pairs.genuine_subjects, np.ones(pairs.genuine.size), num_subjects)
    for far in fars:
        threshold = _threshold(pairs.impostor, far, pairs.num_impostor, pairs.genuine)
        yield subject_sums(pairs.genuine_subjects, pairs.genuine >= threshold, num_subjects), totals, float(threshold)
    known = scored.probe_subjects[search.mated]
    totals = subject_sums(known, np.ones(known.size), num_subjects)
    strangers = np.sort(search.highest[~search.mated])[::-1]
    mate, mate_rank = search.mate[search.mated], search.rank[search.mated]
    for far in dir_fars:
        threshold = _threshold(strangers, far, strangers.size, mate)
        for rank in ranks:
            found = (mate >= threshold) & (mate_rank <= rank)
            yield subject_sums(known, found, num_subjects), totals, float(threshold)


def _figures(name: str, cases: list, resamples: Resamples | None):
    hits, totals = np.stack([case[0] for case in cases]), np.stack([case[1] for case in cases])
    values = hits.sum(axis=1) / totals.sum(axis=1)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    note = "mean minus standard deviation"
    spread = {"spread": deviation, "spread_of": _SPREAD.format(len(cases))}
    shares = None if resamples is None else resampled_shares(hits, totals, resamples.repeats, resamples.seed)
    reported = plain = None
    if shares is not None:
        means = shares.mean(axis=1)
        reported = resamples.keep(name, means - shares.std(axis=1, ddof=1))
        plain = resamples.keep(f"{name} mean", means)
    kept = "" if resamples is None else TOO_FEW if reported is None else THRESHOLD_KEPT
    yield Figure(
        name, mean - deviation, interval=reported, note="; ".join(part for part in (note, kept) if part), **spread
    )
    yield Figure(f"{name} mean", mean, interval=plain, note=kept, **spread)


def _projected(rows: np.ndarray, trial: BlufrTrial, subjects: np.ndarray, projection) -> np.ndarray:
    train = np.asarray(rows[trial.train], np.float64)
    if projection == "pca":
        transform = fitted_projection(train, _PCA_SHARE).of
    elif callable(projection):
        transform = projection(train, subjects[trial.train])
    else:
        raise ValueError(f'projection must be None, "pca" or a function. Received: projection={projection!r}')
    return unit_rows_float32(transform(np.asarray(rows[trial.test], np.float64)), "projected embeddings")


def _threshold(impostor: np.ndarray, far: float, count: int, genuine: np.ndarray) -> np.float32:
    accepted = _rounded(far, count)
    # Where all impostors are accepted, so is everything: the benchmark's own code does that too.
    return min(impostor[-1], genuine.min()) if accepted == count else impostor[accepted - 1]


def _rounded(far: float, count: int) -> int:
    # Halves are rounded up, as MATLAB does; Python's round would go to the even number.
    return math.floor(far * count + 0.5)
