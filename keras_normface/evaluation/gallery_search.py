"""Looking probes up in a gallery that need not know them: open-set identification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.score_tails import BLOCK_SCORES, TIE


@dataclass(frozen=True, eq=False)
class SearchScores:
    """What each probe found in the gallery.

    Attributes:
        mated: (Q,) bool, true where the probe's subject is in the gallery.
        mate: (Q,) float32, best score of an entry of the probe's subject; -inf where there is none.
        rank: (Q,) int64, one more than the number of entries of other subjects that score at least as high.
        highest: (Q,) float32, best score of any entry.
    """

    mated: np.ndarray
    mate: np.ndarray
    rank: np.ndarray
    highest: np.ndarray


def search_gallery(
    gallery: np.ndarray, gallery_subjects: np.ndarray, probes: np.ndarray, probe_subjects: np.ndarray
) -> SearchScores:
    """Compare each probe with each gallery entry.

    Args:
        gallery: (G, D) float32 unit rows.
        gallery_subjects: (G,) integers; a subject may have several entries.
        probes: (Q, D) float32 unit rows.
        probe_subjects: (Q,) integers.

    Returns:
        `SearchScores`. Scores within 1e-6 of the mate's count as equal to it, against the probe.

    Example:
        >>> import numpy as np
        >>> eye = np.eye(2, dtype="float32")
        >>> found = search_gallery(eye, np.array([5, 6]), np.float32([[0.6, 0.8]]), np.array([5]))
        >>> found.mated.tolist(), found.rank.tolist()
        ([True], [2])
    """
    count = len(probes)
    mated = np.isin(probe_subjects, gallery_subjects)
    mate, highest = np.empty(count, np.float32), np.empty(count, np.float32)
    rank = np.empty(count, np.int64)
    size = max(1, BLOCK_SCORES // len(gallery))
    for start in range(0, count, size):
        block = slice(start, start + size)
        scores = probes[block] @ gallery.T
        own = probe_subjects[block, None] == gallery_subjects
        highest[block] = scores.max(axis=1)
        mate[block] = np.max(scores, axis=1, initial=-np.inf, where=own)
        others = (scores >= mate[block, None] - TIE) & ~own
        rank[block] = 1 + np.count_nonzero(others, axis=1)
    return SearchScores(mated, mate, rank, highest)
