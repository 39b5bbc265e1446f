"""Test images that are all but equal to a training image, by their embeddings."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from keras_normface.metrics._arrays import unit_rows

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

    def __str__(self):
        return (
            f"test image {self.test_row} of {self.test_identity!r} is training image {self.train_row} of "
            f"{self.train_identity!r}? cosine {self.cosine:.3f}"
        )


def near_duplicates(ours, theirs, train, test, threshold):
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
            raise ValueError(f"`{name}` must have shape ({len(names)}, D), a row a name. Received: shape {rows.shape}")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"`test_embeddings` must have as many columns as train_embeddings, {train.shape[1]}. "
            f"Received: test_embeddings.shape={test.shape}"
        )
    test = unit_rows(test, "test_embeddings", dtype=np.float32)
    best, where = np.full(len(test), -np.inf, np.float32), np.zeros(len(test), np.int64)
    for start in range(0, len(train), _TRAIN_ROWS):
        block = unit_rows(train[start : start + _TRAIN_ROWS], "train_embeddings", dtype=np.float32, first=start)
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


NEAR_DUPLICATE = 0.9
_SEPARATORS = re.compile(r"[\s_\-]+")
_SHOWN = 20


@dataclass(frozen=True)
class Leaks:
    """What a training set gives away of a test set.

    Attributes:
        by_name: (training name, test name) of identities whose normalised names are equal, sorted.
        by_embedding: for each test image whose nearest training image is near enough, the two; nearest first. None
            where no embeddings were given.
        threshold: the cosine from which on images count as near.
        num_train: number of training identities.
        num_test: number of test identities.

    Example:
        >>> print(Leaks((("ada lovelace", "Ada_Lovelace"),), None, 0.9, 10, 5))
        1 of 5 test identities are in the training set by name (case, underscores, hyphens and spaces do not count):
          'ada lovelace' as 'Ada_Lovelace'
        embeddings were not compared
    """

    by_name: tuple[tuple[str, str], ...]
    by_embedding: tuple[NearDuplicate, ...] | None
    threshold: float
    num_train: int
    num_test: int

    def __bool__(self):
        return bool(self.by_name or self.by_embedding)

    def __str__(self):
        count = len({normalised_name(name) for _, name in self.by_name})
        lines = [
            f"{count} of {self.num_test} test identities are in the training set by name "
            "(case, underscores, hyphens and spaces do not count)" + (":" if self.by_name else "")
        ]
        lines += _first(f"{ours!r} as {theirs!r}" for ours, theirs in self.by_name)
        if self.by_embedding is None:
            return "\n".join([*lines, "embeddings were not compared"])
        identities = {found.test_identity for found in self.by_embedding}
        lines.append(
            f"{len(self.by_embedding)} test images, of {len(identities)} identities, have a training image at a "
            f"cosine of at least {self.threshold:g}" + (":" if self.by_embedding else "")
        )
        return "\n".join([*lines, *_first(map(str, self.by_embedding))])


def normalised_name(name):
    """A name without differences of spelling.

    Compatibility characters are replaced (Unicode NFKC), case is folded, runs of underscores, hyphens and white
    space become one space, and those at the ends are dropped. Accents count.

    Args:
        name: of an identity.

    Returns:
        The normalised name.

    Example:
        >>> normalised_name(" Ada__LOVELACE-King ")
        'ada lovelace king'
    """
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()


def find_leaks(
    train_identities,
    test_identities,
    train_embeddings=None,
    test_embeddings=None,
    *,
    threshold=NEAR_DUPLICATE,
):
    """Identities of a test set that occur in a training set.

    Args:
        train_identities: names; with embeddings, one for each row, each name as often as it has images.
        test_identities: names; with embeddings, one for each row.
        train_embeddings: (N, D), an array or a memory map; it is read in blocks. Embeddings need not have length one.
        test_embeddings: (M, D).
        threshold: the cosine, in (-1, 1], from which on two images count as near duplicates. The default, 0.9, is
            high on purpose: it finds copies of a photograph rather than other photographs of a person. What is
            right depends on the model; look at what is found.

    Returns:
        `Leaks`, which is false where nothing was found. For each test image at most one training image is listed,
        the nearest (of equally near ones the first), so that the list cannot be longer than the test set.

    Raises:
        ValueError: a name that is not text, embeddings of one side only, shapes that do not fit, a row that is zero
            or not finite, or a threshold out of range.

    Example:
        >>> leaks = find_leaks(["ada lovelace", "bob"], ["Ada_Lovelace", "carl"], [[1, 0], [0, 1]], [[1, 1], [0, 2]])
        >>> leaks.by_name
        (('ada lovelace', 'Ada_Lovelace'),)
        >>> print(leaks.by_embedding[0])
        test image 1 of 'carl' is training image 1 of 'bob'? cosine 1.000
    """
    ours, theirs = (
        _checked_names(train_identities, "train_identities"),
        _checked_names(test_identities, "test_identities"),
    )
    if (train_embeddings is None) != (test_embeddings is None):
        raise ValueError(
            "`train_embeddings` and `test_embeddings` must be given both or not at all. Received: one of them"
        )
    if not -1.0 < threshold <= 1.0:
        raise ValueError(f"`threshold` must be a cosine in (-1, 1]. Received: threshold={threshold!r}")
    near = None
    if train_embeddings is not None:
        near = near_duplicates(ours, theirs, np.asanyarray(train_embeddings), np.asarray(test_embeddings), threshold)
    return Leaks(_same_names(ours, theirs), near, float(threshold), len(set(ours)), len(set(theirs)))


def _same_names(ours, theirs):
    known: dict[str, set[str]] = {}
    for name in ours:
        known.setdefault(normalised_name(name), set()).add(name)
    pairs = {(name, other) for other in theirs for name in known.get(normalised_name(other), ())}
    return tuple(sorted(pairs, key=lambda pair: pair[::-1]))


def _first(lines):
    lines = list(lines)
    shown = [f"  {line}" for line in lines[:_SHOWN]]
    return shown if len(lines) <= _SHOWN else [*shown, f"  ... and {len(lines) - _SHOWN} more"]


def _checked_names(names, what):
    if isinstance(names, (str, bytes)):
        raise ValueError(f"`{what}` must be several names, not one text. Received: {what}={names!r}")
    names = [str(name) if isinstance(name, np.str_) else name for name in names]
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong or not names:
        raise ValueError(f"`{what}` must hold names, at least one. Received: {wrong[0] if wrong else names!r}")
    return names
