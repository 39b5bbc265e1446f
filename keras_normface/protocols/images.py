"""Where the encoded images of a protocol are read from."""

import os

from keras_normface.data.contained import ContainedFiles
from keras_normface.protocols.text_lines import is_contained


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
