"""Which reader reads a path, told by what lies there."""

import os
from pathlib import Path

from keras_normface.data import CASIA_LFW_OVERLAP, IdentityFolder, ImageList, RecordIO, TFRecordShards
from keras_normface.data.sidecar import SIDECAR_NAME

FORMATS = ("folder", "list", "recordio", "shards")
LISTS = (".txt", ".lst", ".list")


def guess_format(source):
    """Tell a source's format: "folder", "list", "recordio" or "shards".

    Args:
        source: A path that exists.

    Raises:
        ValueError: If it is a file of no known ending.

    Example:
    >>> import tempfile
    >>> guess_format(tempfile.mkdtemp())
    'folder'
    """
    source = Path(source)
    if source.is_dir():
        if (source / SIDECAR_NAME).is_file():
            return "shards"
        return "recordio" if any(source.glob("*.rec")) else "folder"
    suffix = source.suffix.lower()
    if suffix != ".rec" and suffix not in LISTS:
        raise ValueError(f"--format must be given for a file such as {source.name}: one of {', '.join(FORMATS)}")
    return "recordio" if suffix == ".rec" else "list"


def record_path(source):
    """Return the `.rec` file that is meant: `source` itself, or that in the directory.

    Args:
        source: Path of a file or of a directory.

    Raises:
        ValueError: If the directory has none, or several of which none is called `train.rec`.
    """
    source = Path(source)
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.rec"))
    named = [path for path in found if path.name == "train.rec"] or found
    if len(named) != 1:
        raise ValueError(f"SOURCE must be a .rec file or hold one. Received: {source} with {len(found)} of them")
    return named[0]


def open_source(source, kind, exclude=(), overlap=False, root=None, identities=None):
    """Open a reader.

    Args:
        source: Path of the source.
        kind: One of `FORMATS`.
        exclude: Names of identities to leave out.
        overlap: Whether to leave out `CASIA_LFW_OVERLAP` too.
        root: Directory that the paths of a list start from.
        identities: Path of a text file with a name a line, for the labels of a RecordIO file.

    Returns:
        Pair of the reader and the sorted names that were left out.

    Raises:
        ValueError: If the options do not fit, or the source is damaged.
        OSError: If something cannot be read.
    """
    options = {}
    if kind == "list":
        options["root"] = root
    if kind == "recordio":
        source = record_path(source)
        options["identities"] = None if identities is None else _lines(identities)
    opened = {"folder": IdentityFolder, "list": ImageList, "recordio": RecordIO, "shards": TFRecordShards}[kind]
    if not overlap or not exclude:
        names = CASIA_LFW_OVERLAP if overlap else frozenset(exclude)
        return opened(os.fspath(source), exclude=names, **options), sorted(names)
    if kind == "list":
        raise ValueError("--exclude and --exclude-lfw-overlap cannot both be given for a list: its names are labels")
    present = CASIA_LFW_OVERLAP.intersection(opened(os.fspath(source), **options).identities)
    names = present.union(exclude)
    return opened(os.fspath(source), exclude=names, **options), sorted(CASIA_LFW_OVERLAP.union(exclude))


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()
