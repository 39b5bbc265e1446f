"""From embeddings to the cosines of pairs, with mirror fusion."""

from __future__ import annotations

import numbers

import numpy as np
from numpy.typing import ArrayLike

FUSIONS = ("sum", "concatenate", "maximum")
_BLOCK_ROWS = 1024


def fused_features(embeddings: ArrayLike, mirrored: ArrayLike | None, fusion: str | None, count: int) -> np.ndarray:
    """Embeddings of images and of their mirror images as one feature an image.

    Args:
        embeddings: (N, D) real numbers, as the network gives them: no row is normalised here.
        mirrored: (N, D), the embeddings of the mirror images, or None.
        fusion: "sum", "concatenate", or "maximum", which takes the larger of the two in each dimension.
        count: N.

    Returns:
        (N, D) or (N, 2 * D) floats.

    Raises:
        ValueError: shapes that do not fit, a row that is not finite or has no direction, or a fusion that needs
            what was not given. Source: NormFace (arXiv 1704.06369), section 5.1, and the authors' notes on its
            mirror trick for the element-wise maximum.

    Example:
        >>> fused_features([[1.0, 2.0]], [[2.0, 0.0]], "maximum", 1).tolist()
        [[2.0, 2.0]]
    """
    front = checked_rows(embeddings, "embeddings", count)
    if mirrored is None:
        if fusion not in (None, "sum"):
            raise ValueError(f"mirrored must be given for fusion. Received: fusion={fusion!r}, mirrored=None")
        return front
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {FUSIONS} where mirrored is given. Received: fusion={fusion!r}")
    back = checked_rows(mirrored, "mirrored", count)
    if back.shape != front.shape:
        raise ValueError(f"mirrored must have shape {front.shape}. Received: mirrored.shape={back.shape}")
    if fusion == "concatenate":
        return np.concatenate([front, back], axis=1)
    return checked_rows(front + back if fusion == "sum" else np.maximum(front, back), "the fused embeddings", count)


def checked_share(share: float | None, name: str) -> float | None:
    """`share` as None or a float in (0, 1]; otherwise a ValueError that names `name`.

    Example:
        >>> checked_share(0.995, "pca")
        0.995
    """
    if share is None:
        return None
    if isinstance(share, (bool, np.bool_)) or not isinstance(share, numbers.Real) or not 0.0 < share <= 1.0:
        raise ValueError(f"{name} must be None or a share in (0, 1]. Received: {name}={share!r}")
    return float(share)


def paired_cosines(features: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines of pairs of rows.

    Args:
        features: (N, D) finite, no used row zero.
        left: (P,) indices of rows.
        right: (P,) indices of rows.

    Returns:
        (P,) float64 in [-1, 1].

    Example:
        >>> import numpy as np
        >>> paired_cosines(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([0, 0]), np.array([0, 1])).tolist()
        [1.0, 0.0]
    """
    # Dividing by the largest entry first keeps the squares from overflowing or vanishing.
    largest = np.abs(features).max(axis=1).astype(np.float64)[:, None]

    def dots(rows, others):
        # A sum over one row at a time, so that a pair's cosine does not depend on its neighbours.
        return np.einsum("pd,pd->p", features[rows] / largest[rows], features[others] / largest[others])

    cosines, squares = np.empty(left.size), np.empty(len(features))
    for start in range(0, len(features), _BLOCK_ROWS):
        # A slice, of which no copy is made.
        rows = slice(start, start + _BLOCK_ROWS)
        squares[rows] = dots(rows, rows)
    for start in range(0, left.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        cosines[block] = dots(left[block], right[block]) / np.sqrt(squares[left[block]] * squares[right[block]])
    return np.clip(cosines, -1.0, 1.0, out=cosines)


def checked_rows(embeddings: ArrayLike, name: str, count: int) -> np.ndarray:
    """`embeddings` as a (count, D) array of floats, each row finite and with a direction.

    Args:
        embeddings: float16 and float32 stay float32 or become it, all else becomes float64.
        name: for the error.
        count: how many rows there must be.

    Returns:
        (count, D) float32 or float64.

    Raises:
        ValueError: another shape or type, or a row that is zero or not finite; it is named.

    Example:
        >>> checked_rows([[1, 2]], "embeddings", 1).dtype.name
        'float64'
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or len(rows) != count or rows.shape[1] == 0 or rows.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be numbers of shape ({count}, D), one row for each image of the protocol. "
            f"Received: {name}.shape={rows.shape}, {name}.dtype={rows.dtype}"
        )
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    for start in range(0, count, _BLOCK_ROWS):
        largest = np.abs(rows[start : start + _BLOCK_ROWS]).max(axis=1)
        bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0.0))
        if bad.size:
            what = f"row {start + bad[0]} is {'zero' if largest[bad[0]] == 0.0 else 'NaN or infinite'}"
            raise ValueError(f"{name} must be finite and nonzero in each row. Received: {what}")
    return rows
