"""A text file with a path and a label in each line."""

import os
from array import array

import numpy as np

from keras_normface._alignment import recorded_template
from keras_normface._io import ContainedFiles, regular_file
from keras_normface.data._reader import (
    PackedNames,
    PackedPaths,
    Reader,
    excluded_names,
    is_overlap,
    kept_identities,
    read_only,
    without_excluded,
)
from keras_normface.preprocessing import TEMPLATE_SIZES

LONGEST_LABEL = 18
PLAIN, INSIGHTFACE, MXNET = (
    "a path and a label, a non-negative integer",
    "0 or 1, a path and a label, a non-negative integer, with tabs between them",
    "an index, a label, a non-negative integer, and a path, with tabs between them",
)


class ImageList(Reader):
    r"""Images named in a text file, one in each line.

    The first image's line sets the form of all:

    - `path label`: the label follows the last space or tab; the path may contain spaces.
    - `flag<TAB>path<TAB>label`, InsightFace's `.lst`. The flag, 0 or 1, says whether the image is aligned; it is not
      used. Lists that continue with a box and landmarks are refused: align those images first.
    - `index<TAB>label<TAB>path`, MXNet's `.lst`. Labels may be written as 3.000000; of several the first counts.

    Labels are non-negative integers. Empty lines and lines that begin with `#` are skipped. Labels become dense:
    if 5 does not occur, 6 takes its place. The name of an identity is its label in the file, in decimal digits.

    Args:
        path: The text file, in UTF-8.
        root: Directory that the paths start from. `None`: that of the text file. No path, absolute ones included, may
            lead out of it.
        exclude: Labels to exclude, as strings like `"17"`; or `CASIA_LFW_OVERLAP`, then the identities of
            which an image lies in a directory of one of those names.

    Attributes:
        template: Name of the landmark template, if `align` wrote `root`; `image_size` is then its size.

    Raises:
        FileNotFoundError: If there is no such file or root.
        NotADirectoryError: If `root` is a file.
        ValueError: If a line cannot be understood or its path leads out of `root` (with the number of the line);
            if there are no images; if `exclude` holds labels that do not occur.

    Example:
    >>> import os, tempfile
    >>> root = tempfile.mkdtemp()
    >>> for name in ["a b.jpg", "c.jpg"]:
    ...     with open(os.path.join(root, name), "wb") as file:
    ...         _ = file.write(name.encode())
    >>> with open(os.path.join(root, "list.txt"), "w") as file:
    ...     _ = file.write("# a comment\na b.jpg 7\nc.jpg\t2\n")
    >>> faces = ImageList(os.path.join(root, "list.txt"))
    >>> faces.labels.tolist(), list(faces.identities)
    ([1, 0], ['2', '7'])
    >>> faces.sample(0)
    (b'a b.jpg', 1)
    """

    def __init__(self, path, root=None, exclude=()):
        self.path = os.fspath(path)
        root = os.path.dirname(os.path.abspath(self.path)) if root is None else os.fspath(root)
        if not os.path.isdir(root):
            kind = NotADirectoryError if os.path.exists(root) else FileNotFoundError
            raise kind(f"`root` must be a directory. Received: {root}")
        self._files = ContainedFiles(root)
        self.template = recorded_template(root)
        self.image_size = TEMPLATE_SIZES.get(self.template)
        original = array("q")
        with regular_file(self.path) as file:
            self._names = PackedPaths(self._paths(file, original))
        if not original:
            raise ValueError(f"`path` must name images, `path label` in each line. Received: {self.path}, with none")
        values, labels = np.unique(np.frombuffer(original, "int64"), return_inverse=True)
        self.labels, self.identities = read_only(labels.astype("int32")), PackedNames(map(str, values.tolist()))
        exclude = excluded_names(exclude)
        if exclude:
            self._leave_out(exclude)

    def name(self, index):
        """Return a sample's path below `root`.

        Args:
            index: Number of the sample.
        """
        return self._names[self.checked_index(index)]

    def _read(self, indices):
        return [self._files.read(self._names[index]) for index in indices.tolist()]

    def _paths(self, lines, labels):
        """Yield the paths below the root, and append their labels."""
        form = None
        for number, line in enumerate(lines, 1):
            line = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if line and not line.startswith(b"#"):
                form = form or _form(line)
                # A line of another form than the first would give a wrong path or label.
                fields = None if b"\0" in line or (form == PLAIN and _form(line) != PLAIN) else _FIELDS[form](line)
                if fields is None:
                    raise ValueError(
                        f"Line {number} of {self.path} must be {form}. Received: {os.fsdecode(line[:80])!r}"
                    )
                labels.append(fields[1])
                yield self._checked(os.fsdecode(fields[0]), number)

    def _checked(self, path, number):
        """Return a path as it is below the root."""
        if ".." in path or "./" in path or "//" in path or path.startswith("/") or os.sep != "/":
            path = self._within_root(path, number)
        return path

    def _within_root(self, path, number):
        try:
            return self._files.relative(path)
        except ValueError as error:
            raise ValueError(
                f"Line {number} of {self.path} leads out of {self._files.root}. Received: {path[:80]!r}"
            ) from error

    def _leave_out(self, exclude):
        kept = self._outside_directories(exclude) if is_overlap(exclude) else kept_identities(self.identities, exclude)
        stays, self.labels = without_excluded(self.labels, kept)
        self._names = PackedPaths(self._names[index] for index in np.flatnonzero(stays).tolist())
        self.identities = PackedNames(self.identities[index] for index in np.flatnonzero(kept).tolist())

    def _outside_directories(self, exclude):
        kept, any_like_them = np.ones(self.num_identities, bool), False
        for path, label in zip(self._names, self.labels.tolist(), strict=True):
            directory = os.path.basename(os.path.dirname(path))
            any_like_them = any_like_them or (len(directory) == 7 and directory.isdigit())
            if directory in exclude:
                kept[label] = False
        if not any_like_them:
            raise ValueError(
                "`exclude` is CASIA_LFW_OVERLAP, names of directories such as 0000513, but no image of "
                f"{self.path} lies in a directory of such a name: give the labels to exclude instead"
            )
        if not kept.any():
            raise ValueError("`exclude` must leave an identity. Received: all there are")
        return kept


def _form(line):
    """Return the form that a line is in."""
    first, *fields = line.split(b"\t")
    if len(fields) < 2 or not first.strip().isdigit():
        return PLAIN
    # InsightFace's second field is a path, which is not a number; MXNet's is a label.
    return INSIGHTFACE if _number(fields[0]) is None else MXNET


def _number(text):
    """Return the number in a field, a float, else `None`."""
    try:
        return float(text) if text.strip() and not set(text) - _DIGITS else None
    except ValueError:
        return None


_DIGITS = frozenset(b"0123456789.+-eE ")


def _plain_fields(line):
    """Return path and label of `path label`, `None` if it is not."""
    fields = line.rsplit(None, 1)
    return (fields[0].rstrip(), int(fields[1])) if len(fields) == 2 and _is_label(fields[1]) else None


def _insightface_fields(line):
    """Return path and label of `flag<TAB>path<TAB>label`, `None` if it is not."""
    fields = [field.strip() for field in line.split(b"\t")]
    fits = len(fields) == 3 and fields[0] in (b"0", b"1") and fields[1] and _is_label(fields[2])
    return (fields[1], int(fields[2])) if fits else None


def _mxnet_fields(line):
    """Return path and label of `index<TAB>label<TAB>path`, `None` if it is not."""
    index, *fields = (field.strip() for field in line.split(b"\t"))
    labels, path = fields[:-1], fields[-1] if fields else b""
    numbers = [_number(label) for label in labels]
    if not labels or not index.isdigit() or not path or None in numbers:
        return None
    if _is_label(labels[0]):
        return path, int(labels[0])
    # Beyond 2^53 a float is not the number that was written.
    return (path, int(numbers[0])) if numbers[0].is_integer() and 0 <= numbers[0] <= 2**53 else None


def _is_label(text):
    """Tell whether a field is an integer of at most 18 digits."""
    return text.isdigit() and len(text) <= LONGEST_LABEL


_FIELDS = {PLAIN: _plain_fields, INSIGHTFACE: _insightface_fields, MXNET: _mxnet_fields}
