"""IJB-A, IJB-B and IJB-C: 1:1 verification and 1:N search of templates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.figure import rate_name
from keras_normface.evaluation.gallery_search import search_gallery
from keras_normface.evaluation.index_lists import checked_ranks, embeddings_of
from keras_normface.evaluation.listed_scores import curve_of_sorted, listed_scores
from keras_normface.evaluation.pooling import pool_templates
from keras_normface.evaluation.resampled_pairs import BY_SUBJECT
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.result import Result
from keras_normface.evaluation.score_tails import bounded_threshold, chosen_rates
from keras_normface.evaluation.split_figures import Case, split_figure
from keras_normface.evaluation.templates import TemplateProtocol

_FARS, _FPIRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), (1e-1, 1e-2, 1e-3)


def evaluate_ijb(
    protocol: TemplateProtocol,
    embeddings: ArrayLike,
    *,
    fars: tuple[float, ...] | None = None,
    fpirs: tuple[float, ...] | None = None,
    ranks: tuple[int, ...] = (1, 5, 10),
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """Verification of the listed template pairs and search of the galleries, whichever the protocol has.

    Templates are pooled by `pool_templates`. 1:1, TAR@FAR: the threshold is the lowest at which at most that share
    of the impostor pairs is accepted. 1:N, on mated probes: rank-k, and TPIR@FPIR, the share whose mate scores at
    least the threshold, which is the lowest at which at most that share of the NON-mated probes finds anybody, each
    judged by its highest score. Each gallery has its own threshold; figures are averaged over the galleries of a
    split. In ranks, scores within 1e-6 are tied and ties count against the probe. Source: Klare et al. 2015, "Pushing
    the frontiers of unconstrained face detection and recognition: IARPA Janus Benchmark A"; Maze et al. 2018, "IARPA
    Janus Benchmark - C".

    Args:
        protocol: a `TemplateProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; with mirror images, the sums of the two.
        fars: rates for 1:1; None for those of 1e-1 to 1e-6 that every split resolves.
        fpirs: rates for 1:N; None for those of 1e-1 to 1e-3 that every gallery resolves.
        ranks: k of the rank-k rates.
        intervals: whether to resample subjects, with the thresholds kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result`. With several splits a figure is their mean and its spread their standard deviation (ddof 1).

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, pairs of one kind only, a search
            without mated probes or with unknown subjects, or a rate that the impostors cannot resolve.

    Example:
        >>> import numpy as np
        >>> from keras_normface.evaluation.templates import GallerySearch
        >>> protocol = TemplateProtocol("toy", ("a", "b", "c"), [0, 1, 2], [1, 2, 3], [0, 0, 0], [7, 7, 8],
        ...                             searches=((GallerySearch([1], [2, 3]),),))
        >>> print(evaluate_ijb(protocol, [[1, 0], [1, 0], [0, 1]], ranks=1, fpirs=1.0, intervals=False))
        toy: rank-1 100.00 %
        toy: TPIR@FPIR=1e+00 100.00 %
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    rows = embeddings_of(embeddings, len(protocol.images), "embeddings")
    if not protocol.pairs and not protocol.searches:
        raise ValueError(f"protocol must have pairs or searches. Received: {protocol.name} without any")
    ranks = checked_ranks(ranks)
    _, unit = pool_templates(rows, protocol.template_ids, protocol.media_ids, members=protocol.members)
    subjects = protocol.template_subjects
    people = None if subjects is None else np.unique(subjects, return_inverse=True)[1]
    counts = {"images": len(protocol.images), "templates": len(unit)}
    if subjects is not None:
        counts["subjects"] = int(np.unique(subjects[subjects >= 0]).size)
    figures, curves = [], {}
    if protocol.pairs:
        figures += _verification(protocol, unit, people, fars, resamples, counts, curves)
    if protocol.searches:
        figures += _identification(protocol, unit, people, fpirs, ranks, resamples, counts)
    settings = {"pooling": "mean in a medium, sum of media, unit length"}
    settings["intervals"] = resamples.settings if intervals else None
    return Result(protocol.name, tuple(figures), counts, settings, curves, resamples)


def _verification(protocol, unit, people, fars, resamples, counts, curves):
    impostors = [int(pairs.same.size - np.count_nonzero(pairs.same)) for pairs in protocol.pairs]
    for number, pairs in enumerate(protocol.pairs):
        if not 0 < impostors[number] < pairs.same.size:
            raise ValueError(
                "pairs must hold genuine and impostor pairs. "
                f"Received: pairs[{number}] with {impostors[number]} impostor pairs of {pairs.same.size}"
            )
    fars = chosen_rates(fars, _FARS, min(impostors), "fars", "impostor pairs")
    cases = {rate_name("TAR@FAR", far): [] for far in fars}
    for number, pairs in enumerate(protocol.pairs):
        left = protocol.rows(pairs.left)
        scores = listed_scores(unit, left, protocol.rows(pairs.right))
        genuine, impostor = scores[pairs.same], np.sort(scores[~pairs.same])
        owners = left[pairs.same]
        known = people is not None and (protocol.template_subjects[owners] >= 0).all()
        owners = people[owners] if known else None
        lowest = min(genuine.min(), impostor[0])
        for far, name in zip(fars, cases, strict=True):
            threshold = bounded_threshold(impostor[::-1], far, impostor.size, lowest)
            cases[name].append(Case(genuine >= threshold, owners, float(threshold)))
        curves["1:1" if len(protocol.pairs) == 1 else f"1:1 split {number + 1}"] = curve_of_sorted(
            np.sort(genuine), impostor
        )
    counts["impostor pairs"] = sum(impostors)
    counts["genuine pairs"] = sum(int(pairs.same.sum()) for pairs in protocol.pairs)
    return [split_figure(name, [[case] for case in cases[name]], resamples) for name in cases]


def _identification(protocol, unit, people, fpirs, ranks, resamples, counts):
    if people is None or (protocol.template_subjects < 0).any():
        raise ValueError("template_subjects must be known for searches. Received: a protocol that lacks some")
    found = [[_search(protocol, unit, people, search) for search in split] for split in protocol.searches]
    strangers = fewest_non_mated(protocol)
    if not all(scores.mated.any() for split in found for scores, _ in split):
        raise ValueError("searches must each have a mated probe. Received: a gallery without any")
    if strangers:
        fpirs = chosen_rates(fpirs, _FPIRS, strangers, "fpirs", "non-mated probes")
    elif fpirs is not None:
        raise ValueError(
            "fpirs must be None where a gallery has no non-mated probe. Received: fpirs and such a gallery"
        )
    counts["mated probes"] = sum(int(scores.mated.sum()) for split in found for scores, _ in split)
    counts["non-mated probes"] = sum(int((~scores.mated).sum()) for split in found for scores, _ in split)
    cases = {f"rank-{rank}": [[_ranked(*one, rank) for one in split] for split in found] for rank in ranks}
    for fpir in fpirs or ():
        cases[rate_name("TPIR@FPIR", fpir)] = [[_above(*one, fpir) for one in split] for split in found]
    return [split_figure(name, cases[name], resamples) for name in cases]


def fewest_non_mated(protocol: TemplateProtocol) -> int | None:
    """The least number of non-mated probes of a gallery, which says what FPIR a protocol resolves.

    Args:
        protocol: a `TemplateProtocol`.

    Returns:
        The number, or None where there is no search or a subject is unknown.
    """
    subjects = protocol.template_subjects
    searches = [search for split in protocol.searches for search in split]
    if not searches or subjects is None or (subjects < 0).any():
        return None
    sides = [(subjects[protocol.rows(search.probes)], subjects[protocol.rows(search.gallery)]) for search in searches]
    return min(int(np.count_nonzero(~np.isin(probes, gallery))) for probes, gallery in sides)


def _search(protocol, unit, people, search):
    gallery, probes = protocol.rows(search.gallery), protocol.rows(search.probes)
    return search_gallery(unit[gallery], people[gallery], unit[probes], people[probes]), people[probes]


def _ranked(scores, owners, rank):
    return Case(scores.rank[scores.mated] <= rank, owners[scores.mated], None)


def _above(scores, owners, fpir):
    strangers = np.sort(scores.highest[~scores.mated])[::-1]
    threshold = bounded_threshold(strangers, fpir, strangers.size, -2.0)
    return Case(scores.mate[scores.mated] >= threshold, owners[scores.mated], float(threshold))
