"""Image files that must lie within a directory."""

import errno
import os

from keras_normface.data.open_files import read_whole


class ContainedFiles:
    """Reads files below a directory, and none to which a symbolic link leads out of it.

    Args:
        root: The directory. It may itself be reached through a link.

    Example:
    >>> import os, tempfile
    >>> root = tempfile.mkdtemp()
    >>> with open(os.path.join(root, "file"), "wb") as file:
    ...     _ = file.write(b"content")
    >>> os.symlink("/dev/null", os.path.join(root, "link"))
    >>> files = ContainedFiles(root)
    >>> files.read("file")
    b'content'
    >>> files.read("link")
    Traceback (most recent call last):
    ...
    ValueError: link leads out of the directory of the images, to /dev/null
    """

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)
        self._contained = set()

    def check(self, relative):
        """Raise ValueError if `relative` leads out of the directory, by links or otherwise."""
        real = os.path.realpath(os.path.join(self.root, relative))
        if real != self._real_root and not real.startswith(os.path.join(self._real_root, "")):
            raise ValueError(f"{relative} leads out of the directory of the images, to {real}")

    def read(self, relative):
        """Return the bytes of a file.

        Args:
            relative: Its path below the directory.

        Raises:
            ValueError: If it leads out of the directory.
            OSError: If it cannot be read.
        """
        directory = os.path.dirname(relative)
        if directory not in self._contained:
            self.check(directory)
            self._contained.add(directory)
        path = os.path.join(self.root, relative)
        try:
            return read_whole(path, getattr(os, "O_NOFOLLOW", 0))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        self.check(relative)
        return read_whole(path)
