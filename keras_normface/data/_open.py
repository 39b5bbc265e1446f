"""The reader of a path, inferred from its content."""

import os
from pathlib import Path

from keras_normface.data._folder import IdentityFolder
from keras_normface.data._image_list import ImageList
from keras_normface.data._recordio import RecordIO
from keras_normface.data._tfrecord_shards import TFRecordShards
from keras_normface.data.shards import METADATA_NAME

READERS = {"folder": IdentityFolder, "list": ImageList, "recordio": RecordIO, "shards": TFRecordShards}
LISTS = (".txt", ".lst", ".list")


def open_reader(path, format=None, **arguments):
    """Open a data set of faces in any of the formats that are read.

    Args:
        path: A directory with a directory for each identity, a text file that lists images, a `.rec` file or the
            directory that holds it, or a directory of shards.
        format: "folder", "list", "recordio" or "shards"; `None`: inferred by `guess_format`.
        **arguments: Further arguments of the reader, such as `exclude`.

    Returns:
        An `IdentityFolder`, `ImageList`, `RecordIO` or `TFRecordShards`.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the format cannot be inferred, or from the reader.
        TypeError: If the reader has no such argument.

    Example:
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "Ada").mkdir()
    >>> (root / "Ada" / "1.jpg").write_bytes(b"a picture")
    9
    >>> open_reader(root).sample(0)
    (b'a picture', 0)
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"`path` must exist. Received: path={os.fspath(path)}")
    format = guess_format(path) if format is None else format
    if format not in READERS:
        raise ValueError(f"`format` must be one of {list(READERS)}. Received: format={format!r}")
    if format == "recordio":
        path = record_path(path)
    return READERS[format](os.fspath(path), **arguments)


def guess_format(path):
    """Infer the format of a data set from its path and content: "folder", "list", "recordio" or "shards".

    Args:
        path: A path that exists.

    Raises:
        ValueError: If it is a file with an unknown suffix.

    Example:
    >>> import tempfile
    >>> guess_format(tempfile.mkdtemp())
    'folder'
    """
    path = Path(path)
    if path.is_dir():
        if (path / METADATA_NAME).is_file():
            return "shards"
        return "recordio" if any(path.glob("*.rec")) else "folder"
    suffix = path.suffix.lower()
    if suffix != ".rec" and suffix not in LISTS:
        raise ValueError(f"the format must be given for a file such as {path.name}: one of {', '.join(READERS)}")
    return "recordio" if suffix == ".rec" else "list"


def record_path(path):
    """Return the `.rec` file that is meant: `path` itself, or that in the directory."""
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.rec"))
    named = [file for file in found if file.name == "train.rec"] or found
    if len(named) != 1:
        raise ValueError(f"`path` must be a .rec file or hold one. Received: {path} with {len(found)} of them")
    return named[0]
