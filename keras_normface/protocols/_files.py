"""Lines of the text files that protocols come in, and where their images are read from."""

import contextlib
import os
import posixpath
import re
from typing import NamedTuple

from keras_normface._io import ContainedFiles

LONGEST_LINE = 1 << 16
LONGEST_NUMBER = 9
FORBIDDEN = re.compile(r"[\\\0\r\n]")


class ProtocolFileError(ValueError):
    """A protocol's file is not in its format, or contradicts itself."""


class Line(NamedTuple):
    """One line of a text file.

    Attributes:
        path: The file.
        number: The line's number, from 1.
        text: What it says, without white space at its ends.
    """

    path: str
    number: int
    text: str

    def error(self, message):
        """Return a `ProtocolFileError` to raise: what must be or is wrong, with file, line and text.

        Args:
            message: The predicate of a sentence whose subject is the line.
        """
        return ProtocolFileError(f"Line {self.number} of {self.path} {message}. Received: {self.text[:80]!r}")

    def whole_number(self, text, what, least=0):
        """Return a whole number that the line holds.

        Args:
            text: Its digits.
            what: What it is, for the error.
            least: The smallest that is admitted.

        Raises:
            ProtocolFileError: If `text` is none, is below `least` or has more than nine digits.
        """
        if not (text.isascii() and text.isdigit()) or len(text) > LONGEST_NUMBER or int(text) < least:
            raise self.error(f"must give {what} as a whole number from {least} on")
        return int(text)

    def relative_path(self, text):
        """Return a path that the line holds, with `/`, if it stays below the directory that it starts from.

        Raises:
            ProtocolFileError: If it is empty or absolute, leads upwards, or holds a backslash or a zero byte.
        """
        if not is_contained(text):
            raise self.error("must name an image by a path that stays in its directory")
        return posixpath.normpath(text)


@contextlib.contextmanager
def faults_of(path):
    """Turn a ValueError of an inner function, which knows no file, into a `ProtocolFileError` that names it.

    Args:
        path: The file.
    """
    try:
        yield
    except ProtocolFileError:
        raise
    except ValueError as error:
        raise ProtocolFileError(f"{os.fspath(path)}: {error}") from error


def is_contained(text):
    """Tell whether a path with `/` names something below the directory that it starts from.

    Args:
        text: The path.

    Example:
    >>> is_contained("Ada/1.jpg"), is_contained("../1.jpg"), is_contained("/etc/passwd")
    (True, False, False)
    """
    parts = text.split("/")
    names_something = any(part not in ("", ".") for part in parts)
    return names_something and parts[0] != "" and ".." not in parts and not FORBIDDEN.search(text)


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
    with open(path, "rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if len(raw) > LONGEST_LINE:
                raise ProtocolFileError(f"Line {number} of {path} is longer than {LONGEST_LINE} bytes")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise ProtocolFileError(f"Line {number} of {path} is no UTF-8: {error}") from error
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
    """Return the path of a directory as a string.

    Args:
        root: The path.

    Raises:
        NotADirectoryError: If there is no directory.
    """
    if not os.path.isdir(root):
        raise NotADirectoryError(f"`root` must be a directory that exists. Received: root={os.fspath(root)}")
    return os.fspath(root)
