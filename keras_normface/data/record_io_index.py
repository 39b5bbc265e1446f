"""Where the records of a RecordIO file begin: its `.idx` file, or the same found out."""

import os
import re

import numpy as np

from keras_normface.data.record_file import PREFIX, RecordError

CHUNK_BYTES = 1 << 22
LARGEST_SPAN = 1 << 20


def record_offsets(file, index=None):
    """Return the keys and offsets of the records of a file.

    Args:
        file: A `RecordFile`.
        index: Path of the `.idx` file. `None`: the one beside the file; without one the records are searched.

    Returns:
        Pair of int64 arrays `(records,)`, in the order of the keys.

    Raises:
        RecordError: If the index is garbled, holds a key twice, or points out of the file.
        OSError: If it cannot be read.
    """
    if index is None:
        beside = os.path.splitext(file.path)[0] + ".idx"
        index = beside if os.path.exists(beside) else None
    if index is None:
        offsets = file.scan()
        keys = np.arange(len(offsets))
    else:
        keys, offsets = read_index(index)
        _check_offsets(keys, offsets, index, file)
    if not len(offsets):
        raise RecordError(f"{file.path} holds no records")
    return keys, offsets


def read_index(path):
    r"""Read an `.idx` file: a key, a tab and an offset in each line.

    Args:
        path: The file.

    Returns:
        Pair of int64 arrays `(records,)`, in the order of the keys.

    Raises:
        RecordError: If a line is something else, or a key occurs twice.
        OSError: If it cannot be read.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "train.idx")
    >>> with open(path, "w") as file:
    ...     _ = file.write("0\t0\n1\t48\n")
    >>> [column.tolist() for column in read_index(path)]
    [[0, 1], [0, 48]]
    """
    parts, lines = [np.zeros((0, 2), "int64")], 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES) + file.readline():
            parts.append(_parsed(chunk, path, lines))
            lines += len(parts[-1])
    keys, offsets = np.concatenate(parts).T
    if not np.all(keys[1:] > keys[:-1]):
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            raise RecordError(f"{path} has the key {keys[twice[0]]} twice")
    return keys, np.ascontiguousarray(offsets)


def spans(offsets, size):
    """Return how far it is from each record to the next in the file, uint32, at most a megabyte.

    Args:
        offsets: Where they begin, int64 `(records,)`, in any order.
        size: Length of the file in bytes.

    Example:
    >>> import numpy as np
    >>> spans(np.array([48, 0, 16]), 60).tolist()
    [12, 16, 32]
    """
    if np.all(offsets[1:] > offsets[:-1]):
        following = np.append(offsets[1:], size)
    else:
        bounds = np.append(np.unique(offsets), size)
        following = bounds[np.searchsorted(bounds, offsets, side="right")]
    return np.minimum(following - offsets, LARGEST_SPAN).astype("uint32")


def compact(keys):
    """Return the keys as a range, or int32, if they can be: less memory for the same numbers.

    Args:
        keys: Increasing int64 array.

    Example:
    >>> import numpy as np
    >>> compact(np.array([3, 4, 5]))
    range(3, 6)
    """
    first, last = int(keys[0]), int(keys[-1])
    if last - first == len(keys) - 1:
        return range(first, last + 1)
    return keys.astype("int32") if last < 2**31 else keys


def _parsed(chunk, path, lines_before):
    text = chunk.replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"
    lines = text.count(b"\n")
    if text.translate(None, b"0123456789") == b"\t\n" * lines and not re.search(rb"\d{19}", text):
        numbers = np.fromstring(text, "int64", sep=" ")
        if len(numbers) == 2 * lines:
            return numbers.reshape(lines, 2)
    found = text.split(b"\n")
    number = next(at for at, line in enumerate(found) if not re.fullmatch(rb"[0-9]{1,18}\t[0-9]{1,18}", line))
    raise RecordError(
        f"Line {lines_before + number + 1} of {path} must be two whole numbers, a key and an offset, with a tab "
        f"between. Received: {os.fsdecode(found[number][:80])!r}"
    )


def _check_offsets(keys, offsets, index, file):
    wrong = np.flatnonzero((offsets > file.size - PREFIX.size) | (offsets % 4 != 0))
    if len(wrong):
        raise RecordError(
            f"{index} says that key {keys[wrong[0]]} begins at byte {offsets[wrong[0]]} of {file.path}, "
            f"which is past its end at {file.size} or in the middle of a record"
        )
    if len(offsets):
        file.parts(int(offsets.max()))
