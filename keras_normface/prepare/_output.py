"""The lock of an output directory."""

import os

from keras_normface import _io


class OutputError(ValueError):
    """The output directory holds something else, or what another run began."""


def locked(directory):
    """Make the directory if need be, and keep other runs from it meanwhile."""
    return _io.locked(directory, OutputError)


def kind_of(path):
    """Ending of a file's name, with its dot, in small letters, for lists of what is not taken."""
    return os.path.splitext(path)[1].lower() or "no ending"
