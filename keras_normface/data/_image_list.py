"""A text file with a path and a label in each line."""

import os
from array import array

import numpy as np

from keras_normface._io import ContainedFiles
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

LONGEST_LABEL = 18


class ImageList(Reader):
    r"""Images named in a text file, `path label` in each line.

    The label is what follows the last space or tab, a whole number not below 0; the path may contain spaces.
    Empty lines and lines that begin with `#` are passed over. Labels become dense: if 5 does not occur, 6 takes
    its place. The name of an identity is its label in the file, in decimal digits.

    Args:
        path: The text file, in UTF-8.
        root: Directory that the paths start from. `None`: that of the text file. No path may lead out of it.
        exclude: Labels to leave out, as strings like `"17"`; or `CASIA_LFW_OVERLAP`, then the identities of
            which an image lies in a directory of one of those names.

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
        original = array("q")
        with open(self.path, "rb") as file:
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
        for number, line in enumerate(lines, 1):
            line = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if line and not line.startswith(b"#"):
                path, label = self._parsed(line, number)
                labels.append(label)
                yield path

    def _parsed(self, line, number):
        fields = line.rsplit(None, 1)
        if len(fields) != 2 or not fields[1].isdigit() or len(fields[1]) > LONGEST_LABEL or b"\0" in line:
            raise ValueError(
                f"Line {number} of {self.path} must be a path and a label, a whole number not below 0. "
                f"Received: {os.fsdecode(line[:80])!r}"
            )
        path = os.fsdecode(fields[0].rstrip())
        if ".." in path or "./" in path or path.startswith("/") or os.sep != "/":
            path = self._within_root(path, number)
        return path, int(fields[1])

    def _within_root(self, path, number):
        start = os.path.join(self._files.root, "")
        whole = os.path.normpath(os.path.join(start, path))
        if not whole.startswith(start):
            raise ValueError(f"Line {number} of {self.path} leads out of {self._files.root}. Received: {path[:80]!r}")
        return whole[len(start) :]

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
                f"{self.path} lies in a directory of such a name: give the labels to leave out instead"
            )
        if not kept.any():
            raise ValueError("`exclude` must leave an identity. Received: all there are")
        return kept
