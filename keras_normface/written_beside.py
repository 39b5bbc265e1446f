"""Files that are either complete or not there."""

import contextlib
import os

UNFINISHED_PREFIX = ".writing-"


@contextlib.contextmanager
def written_beside(path):
    """Give a path to write to; when all went well, what is there is synced to the disk and renamed to `path`.

    If anything fails, it is removed, and what was at `path` stays. What a killed process leaves begins with
    `UNFINISHED_PREFIX`.

    Args:
        path: Where the file will be.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "note.txt")
    >>> with written_beside(path) as beside:
    ...     with open(beside, "w") as file:
    ...         _ = file.write("hello")
    >>> os.listdir(os.path.dirname(path))
    ['note.txt']
    """
    directory, name = os.path.split(os.fspath(path))
    beside = os.path.join(directory, f"{UNFINISHED_PREFIX}{name}-{os.getpid()}")
    try:
        yield beside
        descriptor = os.open(beside, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
        _sync_directory(directory or os.curdir)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise


def _sync_directory(directory):
    """Make the rename itself durable, where a directory can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
