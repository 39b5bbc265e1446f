"""A reader, from the options of a command."""

from keras_normface.data import CASIA_LFW_OVERLAP, open_reader


def open_source(source, kind, exclude=(), overlap=False, root=None, identities=None):
    """Open a reader.

    Args:
        source: Path of the source.
        kind: Its format, see `open_reader`.
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
        options["identities"] = None if identities is None else _lines(identities)
    if not overlap or not exclude:
        names = CASIA_LFW_OVERLAP if overlap else frozenset(exclude)
        return open_reader(source, kind, exclude=names, **options), sorted(names)
    if kind == "list":
        raise ValueError("--exclude and --exclude-lfw-overlap cannot both be given for a list: its names are labels")
    present = CASIA_LFW_OVERLAP.intersection(open_reader(source, kind, **options).identities)
    names = present.union(exclude)
    return open_reader(source, kind, exclude=names, **options), sorted(CASIA_LFW_OVERLAP.union(exclude))


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()
