"""Distractors that need not fit into memory, as blocks of unit rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.score_tails import unit_rows_float32


def distractor_blocks(distractors: ArrayLike | Iterable[ArrayLike], dim: int, rows: int) -> Iterator[np.ndarray]:
    """Unit rows in blocks of one size, whatever the sizes in which they come.

    Args:
        distractors: an (N, D) array or memory map, or an iterable of (n, D) blocks, or of (D,) single vectors.
        dim: D.
        rows: rows in a block; the last one may have fewer.

    Yields:
        (n, D) float32 unit rows, 1 <= n <= `rows`.

    Raises:
        ValueError: rows of another length, or a row that is zero or not finite, with its number.

    Example:
        >>> import numpy as np
        >>> [block.shape for block in distractor_blocks(iter([np.ones((2, 3)), np.ones(3)]), 3, 2)]
        [(2, 3), (1, 3)]
    """
    if isinstance(distractors, np.ndarray):
        _check_dim(distractors, dim, 0)
        for start in range(0, len(distractors), rows):
            yield unit_rows_float32(distractors[start : start + rows], "distractors", first=start)
        return
    held, size, first = [], 0, 0
    for part in distractors:
        part = np.atleast_2d(np.asarray(part))
        _check_dim(part, dim, first + size)
        while len(part):
            held.append(part[: rows - size])
            size, part = size + len(held[-1]), part[rows - size :]
            if size == rows:
                yield _joined(held, first)
                held, size, first = [], 0, first + rows
    if held:
        yield _joined(held, first)


def read_ahead(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same blocks, each fetched by another thread while the one before it is in use.

    Args:
        blocks: an iterator that nobody else uses.

    Yields:
        What `blocks` yields; its errors are raised here.

    Example:
        >>> list(read_ahead(iter([1, 2, 3])))
        [1, 2, 3]
    """
    end = object()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, end)
        while (block := coming.result()) is not end:
            coming = reader.submit(next, blocks, end)
            yield block


def _joined(parts: list[np.ndarray], first: int) -> np.ndarray:
    return unit_rows_float32(parts[0] if len(parts) == 1 else np.concatenate(parts), "distractors", first=first)


def _check_dim(part: np.ndarray, dim: int, first: int) -> None:
    if part.ndim != 2 or part.shape[1] != dim:
        raise ValueError(
            f"distractors must have as many columns as probes, {dim}. "
            f"Received: a block of shape {part.shape} from distractors[{first}] on"
        )
