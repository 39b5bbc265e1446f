"""Millions of names in one block of bytes."""

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
