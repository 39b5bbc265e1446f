"""The lock of an output directory."""

import contextlib
import os


class OutputError(ValueError):
    """The output directory holds something else, or what another run began."""


@contextlib.contextmanager
def locked(directory):
    """Make the directory if need be, and keep other runs from it meanwhile."""
    os.makedirs(directory, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing keeps others away there
        yield directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"Another run holds the lock of {directory}") from error
        yield directory
    finally:
        os.close(descriptor)
