"""From image embeddings to template vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.index_lists import checked_indices, whole_numbers
from keras_normface.evaluation.score_tails import unit_rows_float32

_BLOCK_ELEMENTS = 2**18


def pool_templates(
    embeddings: ArrayLike, template_ids: ArrayLike, media_ids: ArrayLike, *, members: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One unit vector for each template.

    The images of a medium (the frames of a video) are averaged first, so that a long video weighs no more than a
    photo; the media are summed and the sum is scaled to length one. The images are not: a caller who wants the sum
    with the mirror image adds the two before. Source: Maze et al. 2018, "IARPA Janus Benchmark - C", and the practice
    of the published IJB evaluation scripts.

    Args:
        embeddings: (N, D) finite real numbers.
        template_ids: (M,) the template of each member.
        media_ids: (M,) its medium; equal ids in different templates are different media.
        members: (M,) row of `embeddings` of each member; None when the members are the rows.

    Returns:
        (T,) rising template ids and the (T, D) float32 unit vectors.

    Raises:
        ValueError: lists that do not fit, an embedding that is not finite, or a template whose sum vanishes.

    Example:
        >>> ids, vectors = pool_templates([[1, 0], [1, 0], [0, 1]], [7, 7, 7], [1, 1, 2])
        >>> ids.tolist(), vectors.round(3).tolist()
        ([7], [[0.7070000171661377, 0.7070000171661377]])
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "biuf":
        raise ValueError(f"embeddings must be a matrix of real numbers. Received: embeddings.shape={rows.shape}")
    members = np.arange(len(rows)) if members is None else checked_indices(members, "members", len(rows))
    template_ids = whole_numbers(template_ids, "template_ids", members.size)
    media_ids = whole_numbers(media_ids, "media_ids", members.size)
    order = np.lexsort((media_ids, template_ids))
    members, media_ids = members[order], media_ids[order]
    ids, templates = np.unique(template_ids[order], return_inverse=True)
    starts = np.flatnonzero(np.append(True, (np.diff(media_ids) != 0) | (np.diff(templates) != 0)))
    sizes = np.diff(np.append(starts, members.size))
    weights = 1.0 / np.repeat(sizes, sizes)
    pooled = np.zeros((ids.size, rows.shape[1]))
    # Blocks that stay in the cache: larger ones take twice as long.
    size = max(1, _BLOCK_ELEMENTS // rows.shape[1])
    for start in range(0, members.size, size):
        block = slice(start, start + size)
        vectors = rows[members[block]]
        vectors = vectors * weights[block, None].astype(np.float32 if vectors.dtype == np.float32 else np.float64)
        own = templates[block]
        firsts = np.flatnonzero(np.append(True, np.diff(own) != 0))
        pooled[own[firsts]] += np.add.reduceat(vectors, firsts, axis=0, dtype=np.float64)
    if not np.isfinite(pooled).all():
        _name_the_row(rows, members)
    return ids, unit_rows_float32(pooled, "pooled templates")


def _name_the_row(rows: np.ndarray, members: np.ndarray) -> None:
    for row in np.unique(members):
        if not np.isfinite(rows[row]).all():
            raise ValueError(f"embeddings must be finite. Received: embeddings[{row}] with NaN or infinity")
