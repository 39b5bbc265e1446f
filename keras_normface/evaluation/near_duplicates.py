"""Test images that are all but equal to a training image, by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation._checks import unit_rows

_TRAIN_ROWS, _TEST_ROWS = 8192, 1024


@dataclass(frozen=True)
class NearDuplicate:
    """A test image and the training image nearest to it.

    Attributes:
        train_identity: the name that the training set gives it.
        test_identity: the name that the test set gives it.
        train_row: row of the training image.
        test_row: row of the test image.
        cosine: of the two embeddings.

    Example:
        >>> print(NearDuplicate("0000102", "Ada_Lovelace", 7, 2, 0.97))
        test image 2 of 'Ada_Lovelace' is training image 7 of '0000102'? cosine 0.970
    """

    train_identity: str
    test_identity: str
    train_row: int
    test_row: int
    cosine: float

    def __str__(self) -> str:
        return (
            f"test image {self.test_row} of {self.test_identity!r} is training image {self.train_row} of "
            f"{self.train_identity!r}? cosine {self.cosine:.3f}"
        )


def near_duplicates(
    ours: Sequence[str], theirs: Sequence[str], train: np.ndarray, test: np.ndarray, threshold: float
) -> tuple[NearDuplicate, ...]:
    """Test images whose nearest training image is near enough, nearest first.

    Args:
        ours: N names, one for each row of `train`.
        theirs: M names, one for each row of `test`.
        train: (N, D) embeddings, an array or a memory map; it is read in blocks.
        test: (M, D) embeddings.
        threshold: the least cosine.

    Returns:
        A `NearDuplicate` for each such image.

    Raises:
        ValueError: shapes that do not fit, or a row that is zero or not finite.

    Example:
        >>> import numpy as np
        >>> near_duplicates(["ada"], ["bob"], np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]]), 0.9)[0].train_identity
        'ada'
    """
    for name, rows, names in (("train_embeddings", train, ours), ("test_embeddings", test, theirs)):
        if rows.ndim != 2 or len(rows) != len(names):
            raise ValueError(f"{name} must have shape ({len(names)}, D), a row a name. Received: shape {rows.shape}")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"test_embeddings must have as many columns as train_embeddings, {train.shape[1]}. "
            f"Received: test_embeddings.shape={test.shape}"
        )
    test = unit_rows(test, "test_embeddings").astype(np.float32)
    best, where = np.full(len(test), -np.inf, np.float32), np.zeros(len(test), np.int64)
    for start in range(0, len(train), _TRAIN_ROWS):
        what = f"train_embeddings[{start}:]"
        block = unit_rows(train[start : start + _TRAIN_ROWS], what).astype(np.float32)
        for first in range(0, len(test), _TEST_ROWS):
            rows = slice(first, first + _TEST_ROWS)
            cosines = test[rows] @ block.T
            nearest = cosines.argmax(axis=1)
            values = cosines[np.arange(len(nearest)), nearest]
            better = values > best[rows]
            best[rows] = np.where(better, values, best[rows])
            where[rows] = np.where(better, start + nearest, where[rows])
    # A float32 product of equal unit vectors may fall short of 1 by this much.
    found = np.flatnonzero(best >= threshold - 1e-6)
    found = found[np.argsort(-best[found], kind="stable")]
    return tuple(
        NearDuplicate(ours[where[row]], theirs[row], int(where[row]), int(row), float(min(best[row], 1.0)))
        for row in found
    )
