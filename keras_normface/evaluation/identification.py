"""One-to-many identification: which person of a gallery is this?"""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation._checks import checked_labels, unit_rows

_BLOCK_ROWS = 256
_TIE_TOLERANCE = 1e-12


def rank_accuracy(
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    probes: ArrayLike,
    probe_labels: ArrayLike,
    *,
    rank: int = 1,
) -> float:
    """Closed-set rank-k identification rate by cosine.

    A probe is identified at rank k when its best mate, the most similar gallery entry of the same
    identity, is among the k most similar gallery entries. Ties count against the probe: the rank of
    the best mate is one more than the number of entries of other identities at least as similar.
    Cosines within 1e-12 are tied, because the order of summation alone can part equal ones.
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
        >>> gallery, people = [[1, 0], [0, 1]], ["ann", "bob"]
        >>> rank_accuracy(gallery, people, [[2, 1], [2, 1]], ["ann", "bob"])
        0.5
        >>> rank_accuracy(gallery, people, [[2, 1], [2, 1]], ["ann", "bob"], rank=2)
        1.0
    """
    gallery, probes = unit_rows(gallery, "gallery"), unit_rows(probes, "probes")
    if gallery.shape[1] != probes.shape[1]:
        raise ValueError(
            f"probes must have as many columns as gallery, {gallery.shape[1]}. Received: probes.shape={probes.shape}"
        )
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", len(gallery))
    probe_labels = checked_labels(probe_labels, "probe_labels", len(probes))
    _check_closed_set(gallery_labels, probe_labels)
    rank = _checked_rank(rank, len(gallery))
    identified = 0
    for start in range(0, len(probes), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        mates = probe_labels[block, None] == gallery_labels
        identified += np.count_nonzero(_best_mate_ranks(probes[block] @ gallery.T, mates) <= rank)
    return float(identified / len(probes))


def _best_mate_ranks(cosines: np.ndarray, mates: np.ndarray) -> np.ndarray:
    best = np.where(mates, cosines, -np.inf).max(axis=1, keepdims=True)
    return 1 + np.count_nonzero(~mates & (cosines >= best - _TIE_TOLERANCE), axis=1)


def _check_closed_set(gallery_labels: np.ndarray, probe_labels: np.ndarray) -> None:
    if _text_kind(gallery_labels) != _text_kind(probe_labels):
        raise ValueError(
            f"probe_labels must be of the kind of gallery_labels, {gallery_labels.dtype}. "
            f"Received: probe_labels.dtype={probe_labels.dtype}"
        )
    unknown = np.flatnonzero(~np.isin(probe_labels, gallery_labels))
    if unknown.size:
        row = int(unknown[0])
        raise ValueError(
            "probe_labels must all occur in gallery_labels (closed set). "
            f"Received: probe_labels[{row}]={probe_labels[row].item()!r}"
        )


def _text_kind(labels: np.ndarray) -> str | None:
    return labels.dtype.kind if labels.dtype.kind in "US" else None


def _checked_rank(rank: int, gallery_size: int) -> int:
    try:
        value = operator.index(rank)
    except TypeError:
        value = 0
    if isinstance(rank, (bool, np.bool_)) or not 1 <= value <= gallery_size:
        raise ValueError(
            f"rank must be an integer from 1 to the size of the gallery, {gallery_size}. Received: rank={rank!r}"
        )
    return value
