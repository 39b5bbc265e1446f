"""One-to-many identification: which subject of a gallery is this?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface import _validation
from keras_normface.metrics._arrays import checked_labels, unit_rows
from keras_normface.metrics.score_matrix import BLOCK_SCORES

TIE = np.float32(1e-6)
"""Cosines this near to each other are tied in ranks: the order of a float32 sum alone can part equal ones."""


def rank_accuracy(
    gallery,
    gallery_labels,
    probes,
    probe_labels,
    *,
    rank=1,
):
    """Closed-set rank-k identification rate by cosine.

    A probe is identified at rank k when its best mate, the most similar gallery entry of the same
    identity, is among the k most similar gallery entries. Ties count against the probe: the rank of
    the best mate is one more than the number of entries of other identities at least as similar.
    Cosines within 1e-6 are tied, because the order of summation alone can part equal ones.
    Source: Phillips et al. 2000, "The FERET evaluation methodology for face-recognition algorithms".

    Args:
        gallery: (G, D) real numbers; any lengths, they are normalised here.
        gallery_labels: (G,) integers or strings; an identity may have several entries.
        probes: (P, D) real numbers, not in the gallery themselves.
        probe_labels: (P,) integers or strings, each of which occurs in `gallery_labels`.
        rank: k, from 1 to G.

    Returns:
        Share of probes identified at `rank`, in [0, 1].

    Raises:
        ValueError: wrong shapes, a row that is zero or not finite, a probe whose identity is not in
            the gallery, or a `rank` outside 1..G.

    Example:
        >>> gallery, subjects = [[1, 0], [0, 1]], ["ann", "bob"]
        >>> rank_accuracy(gallery, subjects, [[2, 1], [2, 1]], ["ann", "bob"])
        0.5
        >>> rank_accuracy(gallery, subjects, [[2, 1], [2, 1]], ["ann", "bob"], rank=2)
        1.0
    """
    gallery, probes = unit_rows(gallery, "gallery"), unit_rows(probes, "probes")
    if gallery.shape[1] != probes.shape[1]:
        raise ValueError(
            f"`probes` must have as many columns as gallery, {gallery.shape[1]}. Received: probes.shape={probes.shape}"
        )
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", len(gallery))
    probe_labels = checked_labels(probe_labels, "probe_labels", len(probes))
    _check_closed_set(gallery_labels, probe_labels)
    rank = _checked_rank(rank, len(gallery))
    codes = np.unique(np.concatenate([gallery_labels, probe_labels]), return_inverse=True)[1]
    found = search_gallery(gallery, codes[: len(gallery)], probes, codes[len(gallery) :])
    return float(np.mean(found.rank <= rank))


def lowest_tied(mate_scores):
    """The one tie rule of ranks: what scores at least this counts against the mate.

    Args:
        mate_scores: scores of mates, an array of float32 or float64.

    Returns:
        The scores less 1e-6.

    Example:
        >>> bool(lowest_tied(np.float64(0.5)) < 0.5)
        True
    """
    return mate_scores - TIE


def _check_closed_set(gallery_labels, probe_labels):
    if _text_kind(gallery_labels) != _text_kind(probe_labels):
        raise ValueError(
            f"`probe_labels` must be of the kind of gallery_labels, {gallery_labels.dtype}. "
            f"Received: probe_labels.dtype={probe_labels.dtype}"
        )
    unknown = np.flatnonzero(~np.isin(probe_labels, gallery_labels))
    if unknown.size:
        row = int(unknown[0])
        raise ValueError(
            "`probe_labels` must all occur in gallery_labels (closed set). "
            f"Received: probe_labels[{row}]={probe_labels[row].item()!r}"
        )


def _text_kind(labels):
    return labels.dtype.kind if labels.dtype.kind in "US" else None


def _checked_rank(rank, gallery_size):
    return _validation.integer("rank", rank, 1, gallery_size)


@dataclass(frozen=True, eq=False)
class SearchScores:
    """What each probe found in the gallery.

    Attributes:
        mated: (Q,) bool, true where the probe's subject is in the gallery.
        mate: (Q,) best score of an entry of the probe's subject; -inf where there is none.
        rank: (Q,) int64, one more than the number of entries of other subjects that score at least as high.
        highest: (Q,) best score of any entry.
    """

    mated: np.ndarray
    mate: np.ndarray
    rank: np.ndarray
    highest: np.ndarray


def search_gallery(gallery, gallery_subjects, probes, probe_subjects):
    """Rank of each probe's best mate, and its best scores: the one function for ranks in a gallery that fits in memory.

    Args:
        gallery: (G, D) unit rows, float32 or float64.
        gallery_subjects: (G,) integers; a subject may have several entries.
        probes: (Q, D) unit rows of that type.
        probe_subjects: (Q,) integers.

    Returns:
        `SearchScores`, of the type of the rows. Ties are those of `lowest_tied`.

    Example:
        >>> import numpy as np
        >>> eye = np.eye(2, dtype="float32")
        >>> found = search_gallery(eye, np.array([5, 6]), np.float32([[0.6, 0.8]]), np.array([5]))
        >>> found.mated.tolist(), found.rank.tolist()
        ([True], [2])
    """
    count = len(probes)
    mated = np.isin(probe_subjects, gallery_subjects)
    mate, highest = np.empty((2, count), np.result_type(gallery, probes))
    rank = np.empty(count, np.int64)
    size = max(1, BLOCK_SCORES // len(gallery))
    for start in range(0, count, size):
        block = slice(start, start + size)
        scores = probes[block] @ gallery.T
        own = probe_subjects[block, None] == gallery_subjects
        highest[block] = scores.max(axis=1)
        mate[block] = np.max(scores, axis=1, initial=-np.inf, where=own)
        others = (scores >= lowest_tied(mate[block, None])) & ~own
        rank[block] = 1 + np.count_nonzero(others, axis=1)
    return SearchScores(mated, mate, rank, highest)


_ROW_GAP = 4.0
"""Keys are score + 4 * row: cosines differ by 2 at most, so rows never mix."""


class MateRanks:
    """Ranks of mates among distractors that do not fit in memory: `search_gallery`'s rank, counted block by block.

    A genuine score that has met `deepest` of them is no longer counted: its rank is known to lie beyond. So a few
    bad images do not make every distractor count.

    Args:
        probes: (K,) the probe of each genuine score, 0..num_probes-1.
        scores: (K,) float32 genuine scores.
        num_probes: how many probes there are.
        deepest: the largest rank that must be exact.

    Example:
        >>> import numpy as np
        >>> ranks = MateRanks(np.array([0, 0, 1]), np.float32([0.9, 0.1, 0.5]), 2, deepest=3)
        >>> ranks.add(np.array([0, 0, 1]), np.float32([0.2, 0.95, 0.5]))
        >>> ranks.ranks().tolist()
        [2, 3, 2]
    """

    def __init__(self, probes, scores, num_probes, deepest):
        scores = lowest_tied(np.float32(scores))
        # Each probe's row begins with a sentinel, for distractors that are below all its genuine scores.
        rows = np.concatenate([np.arange(num_probes), probes])
        values = np.concatenate([np.full(num_probes, -np.inf, np.float32), scores])
        order = np.lexsort((values, rows))
        self._slot = np.empty(order.size, np.int64)
        self._slot[order] = np.arange(order.size)
        self._rows, self._values = rows[order], values[order]
        self._keys = np.maximum(self._values, -2.0) + _ROW_GAP * self._rows
        self._last = np.searchsorted(self._rows, np.arange(num_probes), side="right") - 1
        self._counts = np.zeros(order.size, np.int64)
        self._deepest = deepest
        self.floor = np.empty(num_probes, np.float32)
        """(num_probes,): scores of a probe below it change no rank of at most `deepest`."""
        self.raise_floor()

    def add(self, probes, scores):
        """Count distractors.

        Args:
            probes: (C,) probe of each score.
            scores: (C,) float32; those below the probe's `floor` may be omitted.
        """
        keys = scores + _ROW_GAP * probes
        slots = np.searchsorted(self._keys, keys, side="right") - 1
        self._counts += np.bincount(slots, minlength=self._counts.size)

    def raise_floor(self):
        """Let `floor` follow what has been counted."""
        done = (self._beaten() >= self._deepest) | np.isneginf(self._values)
        values = np.where(done, np.float32(np.inf), self._values)
        self.floor = np.minimum.reduceat(values, np.append(0, self._last[:-1] + 1))

    def ranks(self):
        """(K,) int64 ranks in the order in which the genuine scores came; exact up to `deepest`, else larger."""
        return 1 + self._beaten()[self._slot[self._last.size :]]

    def _beaten(self):
        below = np.cumsum(self._counts)
        return below[self._last][self._rows] - below + self._counts
