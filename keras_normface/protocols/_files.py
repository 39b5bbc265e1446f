"""Lines of the text files that protocols come in, and where their images are read from."""

import contextlib
import csv
import os
import posixpath
import warnings
from typing import NamedTuple

import numpy as np

from keras_normface._io import ContainedFiles, is_contained, regular_file

LONGEST_LINE = 1 << 16
LONGEST_NUMBER = 9


class ProtocolFileError(ValueError):
    """A protocol's file is not in its format, or contradicts itself."""


class Line(NamedTuple):
    """One line of a text file: its path, its number from 1, its text without white space at the ends."""

    path: str
    number: int
    text: str

    def error(self, message):
        """`ProtocolFileError` to raise: the line, then `message` as its predicate, then its text."""
        return ProtocolFileError(f"Line {self.number} of {self.path} {message}. Received: {self.text[:80]!r}")

    def whole_number(self, text, what, least=0):
        """Digits → an integer of at least `least` and at most nine digits; `what` names it in the error."""
        if not (text.isascii() and text.isdigit()) or len(text) > LONGEST_NUMBER or int(text) < least:
            raise self.error(f"must give {what} as an integer of at least {least}")
        return int(text)

    def relative_path(self, text):
        """Path that stays below its directory → the same with `/`, normalised."""
        if not is_contained(text):
            raise self.error("must name an image by a path that stays in its directory")
        return posixpath.normpath(text)


@contextlib.contextmanager
def faults_of(path):
    """Turn the ValueError of an inner function into a `ProtocolFileError` that names `path`."""
    try:
        yield
    except ProtocolFileError:
        raise
    except ValueError as error:
        raise ProtocolFileError(f"{os.fspath(path)}: {error}") from error


def numbered_lines(path, blank=False):
    r"""Read a text file line by line.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        blank: Whether blank lines are given too.

    Yields:
        `Line`s, in order.

    Raises:
        ProtocolFileError: If a line is longer than 65 536 bytes or no UTF-8.
        OSError: If the file cannot be read.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "pairs.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("10 300\n\nAda 1 2\n")
    >>> [(line.number, line.text) for line in numbered_lines(path)]
    [(1, '10 300'), (3, 'Ada 1 2')]
    """
    path = os.fspath(path)
    with regular_file(path) as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if len(raw) > LONGEST_LINE:
                raise ProtocolFileError(f"Line {number} of {path} is longer than {LONGEST_LINE} bytes")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise ProtocolFileError(f"Line {number} of {path} is not valid UTF-8: {error}") from error
            if text or blank:
                yield Line(path, number, text)


class FolderImages:
    """Images of a protocol that are files below a directory.

    Args:
        root: The directory that the protocol's names start from.

    Raises:
        NotADirectoryError: If there is none.

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> with open(os.path.join(root, "1.jpg"), "wb") as file:
    ...     _ = file.write(b"a picture")
    >>> images = FolderImages(root)
    >>> images.read("1.jpg"), images.missing(["1.jpg", "2.jpg"])
    (b'a picture', ['2.jpg'])
    """

    def __init__(self, root):
        self.root = checked_root(root)
        self._files = ContainedFiles(root)

    def read(self, name):
        """Return the bytes of an image.

        Args:
            name: One of the protocol's `images`.

        Raises:
            ValueError: If the name, or a link there, leads out of the directory.
            OSError: If it cannot be read.
        """
        if not is_contained(name):
            raise ValueError(f"`name` must be a path that stays in {self.root}. Received: name={name!r}")
        return self._files.read(name)

    def missing(self, names):
        """Return those of `names` that are no files, in their order.

        Args:
            names: Names of images.
        """
        return [name for name in names if not os.path.isfile(os.path.join(self.root, name))]


class PackedImages:
    """Images of a protocol that are held in memory.

    Args:
        encoded: Dictionary of the bytes by name.

    Example:
    >>> PackedImages({"0": b"a picture"}).read("0")
    b'a picture'
    """

    def __init__(self, encoded):
        self._encoded = encoded

    def read(self, name):
        """Return the bytes of an image.

        Args:
            name: One of the protocol's `images`.

        Raises:
            KeyError: If there is no such image.
        """
        return self._encoded[name]

    def missing(self, names):
        """Return those of `names` that are not there, in their order.

        Args:
            names: Names of images.
        """
        return [name for name in names if name not in self._encoded]


def checked_root(root):
    """Path of a directory that exists → str."""
    if not os.path.isdir(root):
        raise NotADirectoryError(f"`root` must be a directory that exists. Received: root={os.fspath(root)}")
    return os.fspath(root)


def protocol_file(directory, *parts):
    """Path of a protocol's own file below its directory; `ProtocolFileError` if a link leads out of it."""
    with faults_of(directory):
        return ContainedFiles(directory).checked_path("/".join(parts))


def read_numbers(path, columns, delimiter=None):
    """Table of integers of at most nine digits → (lines, columns) int64; `columns` are named in errors."""
    path = os.fspath(path)
    # A handle and not the path: of a path, NumPy would decompress a .gz and fetch a URL.
    with regular_file(path, "r", encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = np.loadtxt(file, dtype="int64", comments=None, delimiter=delimiter, ndmin=2)
        except (ValueError, Warning) as error:
            raise _fault(path, columns, delimiter, error) from error
    if table.shape[1] != len(columns) or table.min() < 0 or table.max() >= 10**LONGEST_NUMBER:
        raise _fault(path, columns, delimiter, f"{table.shape[1]} columns, {table.min()} to {table.max()}")
    return table


def _fault(path, columns, delimiter, reason):
    """Return the error for the first line that is wrong, found by reading again line by line."""
    line = None
    for line in numbered_lines(path):
        fields = [field.strip() for field in line.text.split(delimiter)]
        if len(fields) != len(columns):
            return line.error(f"must hold {len(columns)} numbers: {', '.join(columns)}")
        wrong = next((column for field, column in zip(fields, columns, strict=True) if not _is_number(field)), None)
        if wrong is not None:
            return line.error(f"must give the {wrong} as an integer of at most {LONGEST_NUMBER} digits")
    return ProtocolFileError(f"{path} is empty" if line is None else f"{path} is not a table of integers: {reason}")


def _is_number(text):
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER


def rows_of(path, *wanted):
    """Yield a `Line` and its texts in the wanted columns; of a tuple of headings the first present counts."""
    places, fields, line = None, 0, None
    for line in numbered_lines(path):
        try:
            texts = [text.strip() for text in next(csv.reader([line.text]), [])]
        except csv.Error as error:
            raise line.error(f"is not a comma-separated line: {error}") from error
        if places is None:
            places, fields = _places(path, [text.upper() for text in texts], wanted), len(texts)
            continue
        if len(texts) != fields:
            raise line.error(f"must hold {fields} fields, as the headings do, but holds {len(texts)}")
        yield line, [texts[place] for place in places]
    if line is None or line.number == 1:
        raise ProtocolFileError(f"{os.fspath(path)} holds no faces")


def _places(path, headings, wanted):
    places = []
    for choice in wanted:
        choice = (choice,) if isinstance(choice, str) else choice
        there = [heading for heading in choice if heading in headings]
        if not there:
            raise ProtocolFileError(
                f"{os.fspath(path)} must have a column {' or '.join(choice)}. "
                f"Its columns are: {', '.join(headings)[:400]}"
            )
        places.append(headings.index(there[0]))
    return places
