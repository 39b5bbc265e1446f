"""Verification pairs as InsightFace packs them: lfw.bin, agedb_30.bin, cfp_fp.bin and the like."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_normface._io import read_whole
from keras_normface.data._pickle import BrokenPickleError, StoredArray, UnsafePickleError, restricted_loads


class PairFileError(ValueError):
    """A file is truncated, corrupt, or holds no pairs of images."""


@dataclasses.dataclass(frozen=True, eq=False)
class PairFile:
    """Pairs of encoded images; pair k is `images[2 * k]` and `images[2 * k + 1]`.

    Args:
        images: List of 2N encoded images (JPEG or PNG), bytes.
        same: Bool array `(N,)`: whether a pair shows the same person.
        path: Where it was read from.
    """

    images: list[bytes]
    same: np.ndarray
    path: Path

    def __len__(self):
        return len(self.same)


def read_pair_file(path):
    """Read a pair file without running anything that its pickle may hold.

    The file is a pickle of (images, flags), each a list or tuple, written by Python 2 or 3 in any protocol from 0
    to 5. Images are bytes, or uint8 arrays of one dimension, one row or one column, as `cv2.imencode` gives them.
    Flags are bools, or the integers 0 and 1, of Python or NumPy; they may be one NumPy array. The whole file is held
    in memory.

    Args:
        path: The file.

    Returns:
        A `PairFile`. The images are not decoded.

    Raises:
        UnsafePickleError: If the pickle names anything but the few admitted types; nothing was run.
        PairFileError: If the file is not a complete pickle or does not hold a pair of lists, if they are empty or of
            lengths that do not fit, or if an item is of another type or empty (its index is named).
        OSError: If the file cannot be read.

    Source: the layout is that of the InsightFace project's verification sets.

    Example:
    >>> import os, pickle, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "lfw.bin")
    >>> with open(path, "wb") as file:
    ...     pickle.dump(([b"jpeg 0", b"jpeg 1", b"jpeg 2", b"jpeg 3"], [True, False]), file)
    >>> pairs = read_pair_file(path)
    >>> pairs.images[2:], pairs.same.tolist()
    ([b'jpeg 2', b'jpeg 3'], [True, False])
    """
    path = Path(path)
    try:
        return _pairs(restricted_loads(read_whole(path)), path)
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path} is refused: {error}") from error
    except BrokenPickleError as error:
        raise PairFileError(f"{path} is not a valid pair file: {error}") from error


def _pairs(content, path):
    """Return the `PairFile` of what the pickle holds."""
    if not isinstance(content, tuple | list) or len(content) != 2 or not isinstance(content[0], tuple | list):
        raise BrokenPickleError("it must hold two lists, images and flags")
    images, same = content[0], _flags(content[1])
    if not len(same):
        raise BrokenPickleError("it holds no pairs")
    if len(images) != 2 * len(same):
        raise BrokenPickleError(
            f"it must hold two images for each flag, but holds {len(images)} images and {len(same)} flags"
        )
    return PairFile([_image(item, index) for index, item in enumerate(images)], same, path)


def _flags(stored):
    """Return the flags as a bool array."""
    if isinstance(stored, StoredArray) and stored.data is not None:
        stored = np.frombuffer(stored.data, stored.dtype).tolist()
    if not isinstance(stored, tuple | list):
        raise BrokenPickleError("it must hold two lists, images and flags")
    for index, flag in enumerate(stored):
        if not isinstance(flag, int) or flag not in (0, 1):
            shown = repr(flag)[:40] if isinstance(flag, int) else f"of type {type(flag).__name__}"
            raise BrokenPickleError(f"flag {index} must be a bool, 0 or 1, but is {shown}")
    return np.array(stored, dtype=bool)


def _image(item, index):
    """Return the bytes of one image."""
    if isinstance(item, StoredArray):
        if item.data is not None and item.dtype != np.uint8:
            raise BrokenPickleError(f"image {index} must be an array of uint8, but is one of {item.dtype}")
        item = item.data
    if not isinstance(item, bytes):
        raise BrokenPickleError(f"image {index} must be bytes or a uint8 array, but is of type {type(item).__name__}")
    if not item:
        raise BrokenPickleError(f"image {index} is empty")
    return item
