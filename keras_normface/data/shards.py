"""The files of a directory of shards: TFRecord files of images, an index of where each image lies, `dataset.json`."""

import hashlib
import os
import re
import reprlib
import zlib
from typing import NamedTuple

import numpy as np

from keras_normface._io import ContainedFiles, JsonFormat, OpenFiles, atomic_write, read_bounded, regular_file
from keras_normface.preprocessing import TEMPLATES

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
    """Write a TFRecord file, atomically.

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
    with atomic_write(path) as beside:
        rows, checksums, size = _write(beside, examples)
        if os.path.getsize(beside) != size:
            raise OSError(f"{path} must have {size} bytes after writing. Received: {os.path.getsize(beside)}")
        files = OpenFiles(os.path.dirname(beside), [os.path.basename(beside)])
        for row, checksum in zip(rows, checksums, strict=True):
            if zlib.crc32(files.read(0, int(row["offset"]), int(row["length"]))) != checksum:
                raise OSError(f"{path} does not hold at byte {row['offset']} the image that was written")
        return ShardEntry(rows, file_sha256(beside), size)


def write_index(directory, rows):
    """Write `index.npy`, atomically.

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
    with atomic_write(os.path.join(directory, INDEX_NAME)) as beside, open(beside, "wb") as file:
        np.save(file, rows, allow_pickle=False)


def file_sha256(path):
    """Return the SHA-256 of a file, in hexadecimal digits.

    Args:
        path: The file.

    Example:
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     file_sha256(empty.name)[:12]
    'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    with regular_file(path) as file:
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


METADATA_NAME = "dataset.json"
FORMAT = JsonFormat("keras_normface.shards", 2, indent=1)
MOST_SHARDS = 2**16
LARGEST_METADATA = 1 << 30


class MetadataError(ValueError):
    """A directory of shards, or the `dataset.json` in it, is not what it should be."""


def write_metadata(directory, metadata):
    """Write `dataset.json` atomically.

    Args:
        directory: Directory of the shards.
        metadata: Dictionary with the keys `format` ("keras_normface.shards"), `version` (2), `samples`,
            `num_identities`, `identities` (names by label), `image_size` (`[height, width]` in pixels or `None`),
            `template` (name of the landmark template by which the faces were aligned, or `None`), `source`
            (dictionary), `excluded` (names), `skipped` (pairs of a name and a reason), `shards` (dictionaries of
            `name`, `samples`, `bytes`, `sha256`), and `created_by`.

    Raises:
        MetadataError: If it would not be read back.
        OSError: If it cannot be written.

    Example:
    >>> import tempfile
    >>> shard = {"name": "shard-00000-of-00001.tfrecord", "samples": 2, "bytes": 99, "sha256": "0" * 64}
    >>> directory = tempfile.mkdtemp()
    >>> write_metadata(directory, {
    ...     "format": "keras_normface.shards", "version": 2, "samples": 2, "num_identities": 1,
    ...     "identities": ["0000045"], "image_size": [112, 112], "template": None, "source": {},
    ...     "excluded": [], "skipped": [], "shards": [shard], "created_by": "keras_normface"})
    >>> read_metadata(directory)["samples"]
    2
    """
    check_metadata(metadata)
    FORMAT.write(os.path.join(directory, METADATA_NAME), metadata)


def read_metadata(directory):
    """Read and check `dataset.json`.

    Args:
        directory: Directory of the shards.

    Returns:
        The dictionary; see `write_metadata`. Keys it does not know are left in it.

    Raises:
        MetadataError: If it is not valid JSON, or something in it is missing, of a wrong type, or contradicts the rest.
        OSError: If it cannot be read.
    """
    path = ContainedFiles(directory).checked_path(METADATA_NAME)
    return read_bounded(path, _parsed_metadata, LARGEST_METADATA, MetadataError)


def _parsed_metadata(text):
    metadata = {**FORMAT.head, **FORMAT.parse(text)}
    check_metadata(metadata)
    return metadata


def check_metadata(metadata):
    """Raise MetadataError, with the name of the key, if a metadata is not as `write_metadata` describes it.

    Args:
        metadata: Anything.
    """
    _require_valid(isinstance(metadata, dict), "the metadata", "be a dictionary", metadata)
    for key, (holds, expected) in CHECKS.items():
        if key not in metadata:
            raise MetadataError(f"`{key}` is missing")
        _require_valid(holds(metadata[key]), f"`{key}`", f"be {expected}", metadata[key])
    for number, shard in enumerate(metadata["shards"]):
        for key, (holds, expected) in SHARD_CHECKS.items():
            where = f"`shards[{number}].{key}`"
            _require_valid(isinstance(shard, dict) and key in shard, where, "be there", shard)
            _require_valid(holds(shard[key]), where, f"be {expected}", shard[key])
    names = [shard["name"] for shard in metadata["shards"]]
    _require_valid(len(set(names)) == len(names), "`shards`", "have names that differ", names)
    identities, count = metadata["identities"], metadata["num_identities"]
    _require_valid(
        len(identities) == count, "`num_identities`", f"be the length of `identities`, {len(identities)}", count
    )
    _require_valid(len(set(identities)) == count, "`identities`", "differ", identities)
    total = sum(shard["samples"] for shard in metadata["shards"])
    _require_valid(metadata["samples"] == total, "`samples`", f"be the sum over `shards`, {total}", metadata["samples"])


def _require_valid(holds, where, expected, received):
    if not holds:
        raise MetadataError(f"{where} must {expected}. Received: {reprlib.repr(received)}")


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _is_strings(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_size(value):
    return value is None or (isinstance(value, list) and len(value) == 2 and all(_is_count(v) and v for v in value))


def _is_pairs(value):
    return isinstance(value, list) and all(_is_strings(item) and len(item) == 2 for item in value)


def _is_template(value):
    return isinstance(value, str) and value in TEMPLATES


def _is_file_name(value):
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value, re.ASCII) is not None and ".." not in value


_COUNT = (_is_count, "a non-negative integer")
CHECKS = {
    "format": (lambda value: value == FORMAT.head["format"], repr(FORMAT.head["format"])),
    "version": (lambda value: _is_count(value) and value == FORMAT.head["version"], str(FORMAT.head["version"])),
    "samples": _COUNT,
    "num_identities": _COUNT,
    "identities": (_is_strings, "a list of strings"),
    "image_size": (_is_size, "null or [height, width]"),
    "template": (lambda value: value is None or _is_template(value), f"null or one of {list(TEMPLATES)}"),
    "source": (lambda value: isinstance(value, dict), "a dictionary"),
    "excluded": (_is_strings, "a list of strings"),
    "skipped": (_is_pairs, "a list of pairs of strings, a name and a reason"),
    "shards": (lambda value: isinstance(value, list) and 1 <= len(value) <= MOST_SHARDS, "a list of shards"),
    "created_by": (lambda value: isinstance(value, str), "a string"),
}
SHARD_CHECKS = {
    "name": (_is_file_name, "the name of a file in the same directory"),
    "samples": _COUNT,
    "bytes": _COUNT,
    "sha256": (lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) is not None, "64 hexadecimal digits"),
}
