"""The directory that a run writes to: one run at a time, and no other run's."""

import contextlib
import os


class OutputError(ValueError):
    """The output directory holds something else, or what another run began."""


@contextlib.contextmanager
def locked(directory):
    """Make the directory if need be, and keep other runs from it meanwhile.

    Args:
        directory: Path of the directory.

    Raises:
        OutputError: A ValueError. If another run is at work there.

    Example:
    >>> import tempfile
    >>> with locked(tempfile.mkdtemp()) as directory:
    ...     with locked(directory):
    ...         pass  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    keras_normface.prepare._output.OutputError: Another run is at work in ...
    """
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
            raise OutputError(f"Another run is at work in {directory}") from error
        yield directory
    finally:
        os.close(descriptor)
