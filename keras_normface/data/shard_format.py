"""Shards: TFRecord files of images, with an index that says where in them each encoded image lies."""

import hashlib
import os
import zlib
from typing import NamedTuple

import numpy as np

from keras_normface.data.open_files import OpenFiles
from keras_normface.written_beside import written_beside

INDEX_NAME = "index.npy"
INDEX_DTYPE = np.dtype([("offset", "<i8"), ("length", "<u4"), ("label", "<i4"), ("shard", "<u2")])
# A TFRecord: the length in 8 bytes, a checksum of 4, the serialised Example, a checksum of 4.
BYTES_BEFORE, BYTES_AFTER = 12, 4


class ShardEntry(NamedTuple):
    """What is known of a shard that was written.

    Attributes:
        rows: Array of `INDEX_DTYPE`, a row an image, with shard number 0.
        sha256: Of the file, in hexadecimal digits.
        bytes: Length of the file.
    """

    rows: np.ndarray
    sha256: str
    bytes: int


def write_shard(path, examples):
    """Write a TFRecord file, so that it is either complete or not there.

    Each record is a `tf.train.Example` of `image/encoded`, `image/class/label`, `image/class/text` (the identity)
    and `image/filename`. The file is read again before it gets its name, and each image compared.

    Args:
        path: File to write.
        examples: Iterable of tuples of the encoded image (bytes), its label (int), the identity's name and the
            file name (strings).

    Returns:
        A `ShardEntry`.

    Raises:
        ValueError: If an image is empty, or a label is negative or above 2^31 - 1.
        OSError: If it cannot be written, or does not hold what was written.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "shard-00000-of-00001.tfrecord")
    >>> entry = write_shard(path, [(b"an image", 0, "0000045", "0000045/001.jpg")])
    >>> with open(path, "rb") as file:
    ...     content = file.read()
    >>> start = int(entry.rows["offset"][0])
    >>> content[start : start + int(entry.rows["length"][0])]
    b'an image'
    """
    with written_beside(path) as beside:
        rows, checksums, size = _write(beside, examples)
        if os.path.getsize(beside) != size:
            raise OSError(f"{path} must have {size} bytes after writing. Received: {os.path.getsize(beside)}")
        files = OpenFiles([beside])
        for row, checksum in zip(rows, checksums, strict=True):
            if zlib.crc32(files.read(0, int(row["offset"]), int(row["length"]))) != checksum:
                raise OSError(f"{path} does not hold at byte {row['offset']} the image that was written")
        return ShardEntry(rows, file_sha256(beside), size)


def write_index(directory, rows):
    """Write `index.npy`, so that it is either complete or not there.

    Args:
        directory: Directory of the shards.
        rows: Array of `INDEX_DTYPE`, a row an image, with the numbers of its shards.

    Raises:
        ValueError: If it is of another dtype.
        OSError: If it cannot be written.

    Example:
    >>> import numpy as np, os, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> write_index(directory, np.array([(28, 8, 0, 0)], INDEX_DTYPE))
    >>> os.listdir(directory)
    ['index.npy']
    """
    if rows.dtype != INDEX_DTYPE or rows.ndim != 1:
        raise ValueError(f"`rows` must be (samples,) of INDEX_DTYPE. Received: shape {rows.shape}, dtype {rows.dtype}")
    with written_beside(os.path.join(directory, INDEX_NAME)) as beside, open(beside, "wb") as file:
        np.save(file, rows, allow_pickle=False)


def file_sha256(path):
    """Return the SHA-256 of a file, in hexadecimal digits.

    Args:
        path: The file.

    Example:
    >>> file_sha256("/dev/null")[:12]
    'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path, examples):
    import tensorflow as tf

    rows, checksums, position = [], [], 0
    with tf.io.TFRecordWriter(path) as writer:
        for encoded, label, identity, file_name in examples:
            if not encoded or not 0 <= label < 2**31:
                raise ValueError(
                    "`examples` must hold images that are not empty and labels from 0 to 2^31 - 1. "
                    f"Received: {len(encoded)} bytes, label {label}, for {file_name}"
                )
            serialised = _example(bytes(encoded), label, identity, file_name).SerializeToString(deterministic=True)
            at = serialised.find(encoded)
            rows.append((position + BYTES_BEFORE + at, len(encoded), label, 0))
            checksums.append(zlib.crc32(encoded))
            writer.write(serialised)
            position += BYTES_BEFORE + len(serialised) + BYTES_AFTER
    return np.array(rows, INDEX_DTYPE), checksums, position


def _example(encoded, label, identity, file_name):
    import tensorflow as tf

    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image/encoded": of_bytes(encoded),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/class/text": of_bytes(identity.encode("utf-8", "surrogateescape")),
        "image/filename": of_bytes(file_name.encode("utf-8", "surrogateescape")),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))
