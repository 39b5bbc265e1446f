"""Millions of names in one block of bytes."""

from array import array
from collections.abc import Sequence

import numpy as np


class PackedNames(Sequence):
    """Strings in one block of bytes: a sequence that costs each name its bytes and four or eight more.

    A list of ten million Python strings takes the better part of a gigabyte; this takes the tenth of it.

    Args:
        names: Iterable of strings.

    Example:
    >>> names = PackedNames(["Ada", "Grace", ""])
    >>> len(names), names[1], names[-1]
    (3, 'Grace', '')
    >>> names == ["Ada", "Grace", ""]
    True
    """

    def __init__(self, names):
        blob, ends = bytearray(), [np.zeros(1, "uint64")]
        part = []
        for name in names:
            blob += name.encode("utf-8", "surrogatepass")
            part.append(len(blob))
            if len(part) == 65536:
                ends.append(np.array(part, "uint64"))
                part = []
        self._blob = bytes(blob)
        ends.append(np.array(part, "uint64"))
        self._ends = np.concatenate(ends).astype("uint32" if len(blob) < 2**32 else "uint64")

    @property
    def nbytes(self):
        """Bytes of memory the names take."""
        return len(self._blob) + self._ends.nbytes

    def __len__(self):
        return len(self._ends) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} names. Received: index={index}")
        return self._blob[int(self._ends[number]) : int(self._ends[number + 1])].decode("utf-8", "surrogatepass")

    def __eq__(self, other):
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} names: {shown}{', ...' if len(self) > 3 else ''}>"


class PackedPaths(Sequence):
    """Paths with `/`, of which each directory is kept once: a path costs the bytes of its file name and eight more.

    Args:
        paths: Iterable of strings.

    Example:
    >>> paths = PackedPaths(["Ada/1.jpg", "Ada/2.jpg", "3.jpg"])
    >>> len(paths), paths[1], paths[2]
    (3, 'Ada/2.jpg', '3.jpg')
    """

    def __init__(self, paths):
        numbers, numbers_of = {}, array("i")
        self._names = PackedNames(_file_names(paths, numbers, numbers_of))
        self._directories = PackedNames(numbers)
        self._directory_of = np.array(numbers_of, "int32")

    @property
    def nbytes(self):
        """Bytes of memory the paths take."""
        return self._names.nbytes + self._directories.nbytes + self._directory_of.nbytes

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        return self._directories[self._directory_of[index]] + self._names[index]


def _file_names(paths, numbers, numbers_of):
    for path in paths:
        cut = path.rfind("/") + 1
        numbers_of.append(numbers.setdefault(path[:cut], len(numbers)))
        yield path[cut:]
