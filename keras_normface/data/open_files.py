"""Files that many threads read at once, each at its own place."""

import contextlib
import os
import weakref


class OpenFiles:
    """Files opened at the first reading, and again after a fork or pickling; read without a shared position.

    Args:
        paths: Paths of the files; they are addressed by their numbers in this list.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "file")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(b"0123456789")
    >>> OpenFiles([path]).read(0, 4, 3)
    b'456'
    """

    def __init__(self, paths):
        self.paths = [os.fspath(path) for path in paths]
        self._descriptors = {}
        weakref.finalize(self, _close, self._descriptors)

    def __getstate__(self):
        return self.paths

    def __setstate__(self, paths):
        self.__init__(paths)

    def descriptor(self, number):
        """Return the file descriptor of file `number` in this process, opened for reading."""
        key = (os.getpid(), number)
        descriptor = self._descriptors.get(key)
        if descriptor is None:
            opened = os.open(self.paths[number], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            # Of two threads that open the same file at once, the one that comes second closes its own.
            descriptor = self._descriptors.setdefault(key, opened)
            if descriptor != opened:
                os.close(opened)
        return descriptor

    def read(self, number, offset, length):
        """Return at most `length` bytes of file `number` from `offset` on; fewer only where the file ends.

        Args:
            number: Number of the file.
            offset: Position of the first byte.
            length: Number of bytes.
        """
        descriptor = self.descriptor(number)
        content = os.pread(descriptor, length, offset)
        while len(content) < length:
            more = os.pread(descriptor, length - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content


def read_whole(path, flags=0):
    """Return the content of a file.

    Args:
        path: Path of the file.
        flags: Further flags of `os.open`.

    Raises:
        OSError: If it cannot be read.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "file")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(b"0123456789")
    >>> read_whole(path)
    b'0123456789'
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | flags)
    try:
        expected = os.fstat(descriptor).st_size
        parts = [os.read(descriptor, expected + 1)]
        if len(parts[0]) == expected:
            return parts[0]
        while parts[-1]:
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _close(descriptors):
    for descriptor in descriptors.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
