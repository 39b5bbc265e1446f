"""MegaFace's figures: rank-k among the distractors, and TAR@FAR, in one pass over the distractors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.distractors import distractor_blocks, read_ahead
from keras_normface.evaluation.figure import Figure, rate_name
from keras_normface.evaluation.index_lists import checked_ranks, embeddings_of
from keras_normface.evaluation.mate_ranks import MateRanks
from keras_normface.evaluation.megaface import MegaFaceProtocol
from keras_normface.evaluation.resampled_pairs import BY_SUBJECT
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.result import Result
from keras_normface.evaluation.score_tails import (
    TIE,
    TopScores,
    accepted,
    bounded_threshold,
    chosen_rates,
    unit_rows_float32,
)
from keras_normface.evaluation.subject_shares import THRESHOLD_KEPT, TOO_FEW, resampled_shares, subject_sums

_FARS = (1e-4, 1e-5, 1e-6)
_BLOCK_ROWS, _TILE_ROWS, _FIRST_COLUMNS = 8192, 64, 64


def evaluate_megaface(
    protocol: MegaFaceProtocol,
    probes: ArrayLike,
    distractors: ArrayLike | Iterable[ArrayLike],
    *,
    ranks: tuple[int, ...] = (1, 10, 100),
    fars: tuple[float, ...] | None = None,
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """Identification and verification among distractors.

    For every ordered pair of images of a subject, one is the probe and the other, its mate, joins the distractors:
    the rank is one more than the number of distractors that are at least as similar to the probe as the mate is.
    Cosines within 1e-6 are tied, and ties count against the probe. TAR@FAR: genuine scores are those of the
    unordered pairs, impostor scores those of each probe with each distractor; the threshold is 1e-6 above the lowest
    at which at most that share of them is accepted. Source: Kemelmacher-Shlizerman et al. 2016, "The MegaFace
    benchmark", section 4.

    Args:
        protocol: a `MegaFaceProtocol`.
        probes: (N, D), one row for each of `protocol.images`; any lengths.
        distractors: (M, D) array or memory map, or an iterable of blocks (m, D) or vectors (D,); read once,
            by a thread of its own.
        ranks: k of the rank-k rates; the larger the largest, the slower. Together they are the CMC curve.
        fars: rates; None for those of 1e-4, 1e-5 and 1e-6 that are resolved. Memory grows with the largest: some
            12 bytes * far * N * M.
        intervals: whether to resample subjects, with the thresholds kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result` with "rank-k" and "TAR@FAR=..." figures.

    Raises:
        ValueError: arrays that do not fit the protocol or are not finite, another number of distractors than the
            protocol says, or a rate that the impostor scores cannot resolve.

    Example:
        >>> import numpy as np
        >>> protocol = MegaFaceProtocol("toy", ("a", "b"), [0, 0], distractors=2)
        >>> result = evaluate_megaface(protocol, [[1, 0], [3, 4]], np.array([[0, 1], [1, 0]]), ranks=(1, 2), fars=0.5)
        >>> result["rank-1"].value, result["rank-2"].value
        (0.0, 0.5)
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    probes = unit_rows_float32(embeddings_of(probes, len(protocol.images), "probes"), "probes")
    num_impostor = len(probes) * protocol.num_distractors
    fars = chosen_rates(fars, _FARS, num_impostor, "fars", "impostor scores")
    ranks = checked_ranks(ranks)
    people, subjects = np.unique(protocol.subjects, return_inverse=True)
    left, right = _ordered_pairs(subjects)
    genuine = np.einsum("ij,ij->i", probes[left], probes[right])
    mates = MateRanks(left, genuine, len(probes), max(ranks))
    top = TopScores(max((accepted(far, num_impostor) + 1 for far in fars), default=1))
    _look_at(distractors, probes, mates, top, protocol.num_distractors)
    owners, found = subjects[left], mates.ranks()
    cases = [(f"rank-{rank}", found <= rank, None) for rank in ranks]
    impostor = top.largest()
    for far in fars:
        # The two kinds are summed in different orders: without this, a model that maps all to one could pass.
        threshold = bounded_threshold(impostor, far, num_impostor, -2.0) + TIE
        cases.append((rate_name("TAR@FAR", far), genuine >= threshold, float(threshold)))
    figures = tuple(_figure(*case, owners, people.size, resamples) for case in cases)
    counts = {
        "images": len(probes),
        "subjects": people.size,
        "distractors": protocol.num_distractors,
        "searches": left.size,
        "genuine": left.size // 2,
        "impostor": num_impostor,
    }
    settings = {"intervals": resamples.settings if intervals else None}
    return Result(protocol.name, figures, counts, settings, resamples=resamples)


def _figure(name, success, threshold, owners, num_people, resamples) -> Figure:
    hits = subject_sums(owners, success, num_people)[None]
    totals = subject_sums(owners, np.ones(owners.size), num_people)[None]
    interval, note = None, ""
    if resamples is not None:
        shares = resampled_shares(hits, totals, resamples.repeats, resamples.seed)
        interval = resamples.keep(name, None if shares is None else shares[:, 0])
        kept = "interval over subjects, distractors kept" if threshold is None else THRESHOLD_KEPT
        note = TOO_FEW if interval is None else kept
    return Figure(name, float(success.mean()), interval=interval, threshold=threshold, note=note)


def _ordered_pairs(subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = [], []
    for subject in np.unique(subjects):
        own = np.flatnonzero(subjects == subject)
        rows, columns = np.nonzero(~np.eye(own.size, dtype=bool))
        left.append(own[rows])
        right.append(own[columns])
    return np.concatenate(left), np.concatenate(right)


def _look_at(distractors, probes: np.ndarray, mates: MateRanks, top: TopScores, expected: int) -> None:
    """One pass over the distractors, which tells `mates` and `top` all that can change them."""
    seen, columns = 0, _FIRST_COLUMNS
    buffer = np.empty((len(probes), min(_BLOCK_ROWS, expected)), np.float32)
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for block in read_ahead(distractor_blocks(distractors, probes.shape[1], buffer.shape[1])):
            seen += len(block)
            if seen > expected:
                break
            scores = buffer.reshape(-1)[: len(probes) * len(block)].reshape(len(probes), len(block))
            np.matmul(probes, block.T, out=scores)
            start = 0
            while start < len(block):
                # Few columns at first: until floors are known, every score is a candidate.
                _sift(scores[:, start : start + columns], mates, top, pool)
                start, columns = start + columns, min(4 * columns, _BLOCK_ROWS)
    if seen != expected:
        raise ValueError(
            f"distractors must be {expected} as the protocol says. Received: {'more' if seen > expected else seen}"
        )


def _sift(scores: np.ndarray, mates: MateRanks, top: TopScores, pool: ThreadPoolExecutor) -> None:
    floor = np.minimum(mates.floor, np.nextafter(top.floor, np.float32(np.inf)))

    def candidates(start):
        tile = scores[start : start + _TILE_ROWS]
        found = np.flatnonzero(tile >= floor[start : start + _TILE_ROWS, None])
        rows, columns = np.divmod(found, tile.shape[1])
        return start + rows, tile[rows, columns]

    parts = list(pool.map(candidates, range(0, len(scores), _TILE_ROWS)))
    probes, values = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    mates.add(probes, values)
    mates.raise_floor()
    top.count += scores.size
    top.add_candidates(values[values > top.floor])
