"""Argument checks shared by the evaluation modules."""

from __future__ import annotations

import numpy as np

_BLOCK_ROWS = 4096


def as_float64(values, name, ndim):
    """`values` as a float64 array of `ndim` dimensions; otherwise a ValueError that names `name`."""
    array = np.asarray(values)
    try:
        if array.dtype.kind in "cUSmM":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must hold real numbers. Received: {name}.dtype={array.dtype}") from None
    if array.ndim != ndim:
        raise ValueError(f"`{name}` must have {ndim} dimension(s). Received: {name}.shape={array.shape}")
    return array


def unit_rows(embeddings, name, *, dtype=np.float64, first=0):
    """Rows scaled to length one, block by block.

    Args:
        embeddings: (N, D) real numbers, N >= 1; an array or a memory map.
        name: of the argument, for errors.
        dtype: `numpy.float64`, or `numpy.float32` for large score matrices.
        first: number of the first row, for errors.

    Returns:
        (N, D) of `dtype`.

    Raises:
        ValueError: `embeddings` is not a matrix of real numbers, has no row, or a row is zero or not finite.

    Example:
        >>> unit_rows([[3, 4], [0, 2]], "embeddings").tolist()
        [[0.6, 0.8], [0.0, 1.0]]
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        rows = as_float64(rows, name, ndim=2)
    if 0 in rows.shape:
        raise ValueError(f"`{name}` must hold at least one embedding. Received: {name}.shape={rows.shape}")
    unit = np.empty(rows.shape, dtype)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        if unit.dtype != np.float32 or block.dtype != np.float32:
            block = block.astype(np.float64)
        out = unit[start : start + len(block)]
        squares = np.einsum("ij,ij->i", block, block) if unit.dtype == np.float32 else np.zeros(1)
        if ((squares > 1e-30) & (squares < 1e30)).all():
            np.multiply(block, (1.0 / np.sqrt(squares))[:, None], out=out, casting="same_kind")
        else:
            out[:] = _scaled_twice(block.astype(np.float64), name, first + start)
    return unit


def _scaled_twice(rows, name, first):
    """(N, D) float64 rows of any finite length scaled to length one; a row that has no direction is a ValueError."""
    largest = np.abs(rows).max(axis=1)
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0.0))
    if bad.size:
        row = int(bad[0])
        kind = "a zero vector" if largest[row] == 0.0 else "a vector with NaN or infinity"
        raise ValueError(f"`{name}` must be finite and nonzero in every row. Received: {name}[{first + row}] is {kind}")
    # Dividing by the largest entry first keeps the squares from overflowing or vanishing.
    rows = rows / largest[:, None]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def checked_labels(labels, name, count):
    """`labels` as a (count,) array of numbers or text."""
    array = np.asarray(labels)
    if array.shape != (count,):
        raise ValueError(f"`{name}` must have shape ({count},). Received: {name}.shape={array.shape}")
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        array = array.astype(str)
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"`{name}` must be integers or strings. Received: {name}.dtype={array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"`{name}` must be finite. Received: {name}[{row}]={array[row]}")
    return array


def checked_scores(scores, same):
    """`scores` as (P,) float64 and `same` as (P,) bool, with at least one pair of each kind."""
    scores = as_float64(scores, "scores", ndim=1)
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise ValueError(f"`scores` must be finite. Received: scores[{bad[0]}]={scores[bad[0]]}")
    same = np.asarray(same)
    if same.shape != scores.shape:
        raise ValueError(
            f"`same` must have one entry for each score, shape {scores.shape}. Received: same.shape={same.shape}"
        )
    if same.dtype != bool:
        same = _zero_one(same)
    genuine = int(same.sum())
    if genuine == 0 or genuine == same.size:
        raise ValueError(
            "`same` must mark at least one genuine and one impostor pair. "
            f"Received: same with {genuine} genuine and {same.size - genuine} impostor pairs"
        )
    return scores, same


def _zero_one(same):
    flags = as_float64(same, "same", ndim=1)
    bad = np.flatnonzero((flags != 0.0) & (flags != 1.0))
    if bad.size:
        raise ValueError(f"`same` must be boolean or 0/1. Received: same[{bad[0]}]={same[bad[0]]}")
    return flags == 1.0
