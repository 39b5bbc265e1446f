"""One checkpoint, one file: a JSON header, the bytes of the arrays, a SHA-256 of both. No pickle.

Layout: 8 bytes of magic, 8 bytes with the header's length (little-endian), the header, the arrays one after
the other in C order, 32 bytes of SHA-256 over all that precedes.
"""

import hashlib
import json
from pathlib import Path

import ml_dtypes  # noqa: F401  gives NumPy the names bfloat16 and float8_*
import numpy as np

from keras_normface.written_beside import written_beside

MAGIC = b"KNFCKPT1"
DIGEST_BYTES = 32


class CorruptCheckpointError(ValueError):
    """A checkpoint file is truncated, damaged, or no checkpoint."""


def write_checkpoint(path, header, arrays):
    """Write a checkpoint so that `path` is either complete or not there.

    It is written beside `path`, synced to the disk, and renamed. If anything fails, what was at `path` stays.

    Args:
        path: File to write.
        header: Dictionary that JSON can hold; the key `"arrays"` is taken.
        arrays: List of NumPy arrays.

    Raises:
        OSError: If the disk is full or cannot be written.
    """
    specs = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({**header, "arrays": specs}).encode()
    with written_beside(path) as beside, open(beside, "wb") as file:
        digest = hashlib.sha256()
        for chunk in (MAGIC, len(text).to_bytes(8, "little"), text, *map(_bytes_of, arrays)):
            digest.update(chunk)
            file.write(chunk)
        file.write(digest.digest())


def read_checkpoint(path):
    """Read what `write_checkpoint` wrote.

    Args:
        path: File to read.

    Returns:
        Pair of the header and the list of arrays.

    Raises:
        CorruptCheckpointError: If the file is not exactly what was written.
        OSError: If it cannot be read.
    """
    content = memoryview(Path(path).read_bytes())
    start = len(MAGIC) + 8
    if len(content) < start + DIGEST_BYTES or content[: len(MAGIC)] != MAGIC:
        raise CorruptCheckpointError(f"{path} is no checkpoint, or only the beginning of one")
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise CorruptCheckpointError(f"{path} is truncated or damaged: its checksum is wrong")
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    header = json.loads(bytes(body[start:end]))
    arrays = []
    for spec in header.pop("arrays"):
        dtype, shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(body, dtype, count, offset=end).reshape(shape))
        end += count * dtype.itemsize
    return header, arrays


def _bytes_of(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
