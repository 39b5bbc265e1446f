"""Arrays of `.npz` and `.npy` files, whose headers are checked before anything is made of them."""

import math
import os
import tokenize
import warnings
import zipfile
import zlib

import numpy as np

from keras_normface._io import regular_file

# An array may take so many times the file's size, or this many bytes if that is more. Embeddings hardly compress, names
# some forty times; what compresses a thousand times is made to fill the memory.
MOST_EXPANSION = 64
ALWAYS_ALLOWED = 1 << 24
# What zipfile and NumPy raise for corrupt files, and for headers that were made up.
DAMAGE = (
    *(ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(AttributeError, TypeError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError, OSError),
)


def largest_expansion(path):
    """Return how many bytes may be made of a compressed file."""
    return max(MOST_EXPANSION * os.path.getsize(path), ALWAYS_ALLOWED)


def read_npz(path, *names):
    """Return the named arrays of an `.npz` file; ValueError for any other file, OSError if it cannot be read."""
    bound = largest_expansion(path)
    with regular_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive, warnings.catch_warnings():
                # Python 2 wrote headers otherwise, of which NumPy warns without saying in which file.
                warnings.simplefilter("ignore", UserWarning)
                return [_read_member(archive, name, bound) for name in names]
        except DAMAGE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"{os.fspath(path)} must be an .npz file with the arrays {' and '.join(names)}: {reason}"
            ) from error


def _read_member(archive, name, bound):
    """Return one array, after its header was found to fit the bytes that are there."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
        except ValueError as error:
            raise ValueError(f"{name} is not an array") from error
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{name} is an array of the unknown version {version}")
        shape, _, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError(f"{name} is an array of Python objects, which could run code")
        stated, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if min(shape, default=0) < 0 or stated != there:
            raise ValueError(f"{name} is of shape {str(shape)[:80]}, {stated} bytes, but has {there}")
        if stated > bound:
            raise ValueError(f"{name} of {stated} bytes is too large for its file: at most {bound} are read")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def map_npy(path):
    """Return the array of an `.npy` file without reading its numbers; ValueError or another of `DAMAGE` if corrupt."""
    with regular_file(path) as file:
        head = file.read(12)
    # From version 2 on, the header may claim to be of four gigabytes, which would be read.
    if head[6:8] != b"\1\0" and int.from_bytes(head[8:], "little") > os.path.getsize(path):
        raise ValueError(f"the header of {os.fspath(path)} is longer than the file")
    return np.lib.format.open_memmap(path, mode="r")
