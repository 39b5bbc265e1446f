"""MegaFace's feature files: one vector each, as the devkit reads and writes them."""

import os

import numpy as np

from keras_normface.protocols.images import checked_root
from keras_normface.protocols.text_lines import ProtocolFileError, is_contained
from keras_normface.written_beside import written_beside

HEADER = np.dtype("<i4")
FLOAT = np.dtype("<f4")
LARGEST_DIMENSION = 1 << 20
# An OpenCV matrix of one column: rows, columns, bytes of a row, and CV_32F, the number of its type.
COLUMN_OF_FLOATS = (1, 4, 5)
BLOCK_BYTES = 1 << 25


def read_megaface_features(path):
    """Read the feature vector of one image.

    The file is an OpenCV matrix of one column: four little-endian int32, which are the rows (the dimension d), the
    columns (1), the bytes of a row (4) and the type (5, CV_32F), then d float32.

    Args:
        path: The file.

    Returns:
        float32 array `(d,)`, as stored.

    Raises:
        ProtocolFileError: If the header is another, the file's size does not fit it, or a number is NaN or infinite.
        OSError: If the file cannot be read.

    Source: the devkit of the MegaFace challenge, which reads matrices in this form.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "1.jpg_ours.bin")
    >>> write_megaface_features(path, np.array([0.5, -1.0]))
    >>> read_megaface_features(path), os.path.getsize(path)
    (array([ 0.5, -1. ], dtype=float32), 24)
    """
    with open(path, "rb") as file:
        content = file.read(16 + 4 * LARGEST_DIMENSION + 1)
    path = os.fspath(path)
    if len(content) < 16:
        raise ProtocolFileError(f"{path} must begin with a header of 16 bytes, but has {len(content)}")
    rows, *rest = np.frombuffer(content, HEADER, 4).tolist()
    if not 1 <= rows <= LARGEST_DIMENSION or tuple(rest) != COLUMN_OF_FLOATS:
        raise ProtocolFileError(f"{path} must begin with the dimension, 1, 4, 5. It begins with {[rows, *rest]}")
    if len(content) != 16 + 4 * rows:
        raise ProtocolFileError(
            f"{path} must have {16 + 4 * rows} bytes for its {rows} numbers, but has {os.path.getsize(path)}"
        )
    vector = np.frombuffer(content, FLOAT, rows, 16).astype("float32")
    if not np.isfinite(vector).all():
        raise ProtocolFileError(f"{path} holds NaN or infinity, at place {np.flatnonzero(~np.isfinite(vector))[0]}")
    return vector


def write_megaface_features(path, vector):
    """Write the feature vector of one image. Either the whole file is there afterwards, or what was there before.

    Args:
        path: The file; its directory must be there.
        vector: Numbers `(d,)`; they are stored as float32.

    Raises:
        ValueError: If `vector` is of another shape, or NaN or infinite as float32.
        OSError: If it cannot be written.
    """
    vector = np.asarray(vector)
    if vector.dtype.kind in "cUSOmM":
        raise ValueError(f"`vector` must hold real numbers. Received: dtype {vector.dtype}")
    with np.errstate(over="ignore"):
        vector = vector.astype(FLOAT)
    if vector.ndim != 1 or not 1 <= vector.size <= LARGEST_DIMENSION:
        raise ValueError(
            f"`vector` must have one dimension of 1 to {LARGEST_DIMENSION}. Received: shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"`vector` must be finite as float32. Received: {vector[~np.isfinite(vector)][0]}")
    with written_beside(path) as beside, open(beside, "wb") as file:
        file.write(np.array([vector.size, *COLUMN_OF_FLOATS], HEADER).tobytes() + vector.tobytes())


class MegafaceFeatures:
    """The feature vectors of many images, read from their files block by block, as often as one likes.

    Args:
        root: The directory of the files.
        names: The images' names, with `/`. An image's file is `root/name` and `suffix`.
        suffix: What follows a name, such as "_ours.bin".
        block_rows: Vectors in a block; by default as many as make 32 MiB.

    Raises:
        ValueError: If there are no names, or one leads out of the directory.
        ProtocolFileError: While reading, if a file is damaged or of another dimension than the first.
        OSError: While reading, if a file cannot be read.

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> for number in range(3):
    ...     write_megaface_features(os.path.join(root, f"{number}.jpg_ours.bin"), [number, 1.0])
    >>> features = MegafaceFeatures(root, ["0.jpg", "1.jpg", "2.jpg"], "_ours.bin", block_rows=2)
    >>> [block.tolist() for block in features], len(features)
    ([[[0.0, 1.0], [1.0, 1.0]], [[2.0, 1.0]]], 3)
    """

    def __init__(self, root, names, suffix, block_rows=None):
        self.root, self.names, self.suffix = checked_root(root), names, suffix
        wrong = next((name for name in names if not is_contained(name + suffix)), None)
        if wrong is not None or not len(names):
            raise ValueError(f"`names` must be paths that stay in {self.root}, at least one. Received: {wrong!r}")
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"`block_rows` must be at least 1. Received: block_rows={block_rows}")
        self._block_rows = block_rows

    def __len__(self):
        return len(self.names)

    def __iter__(self):
        first = self._vector(self.names[0])
        rows = self._block_rows or max(1, BLOCK_BYTES // first.nbytes)
        for start in range(0, len(self.names), rows):
            block = np.empty((min(rows, len(self.names) - start), first.size), "float32")
            for row in range(len(block)):
                vector = self._vector(self.names[start + row])
                if vector.size != first.size:
                    raise ProtocolFileError(
                        f"{self._path(self.names[start + row])} is of dimension {vector.size}, not of {first.size} as "
                        f"{self._path(self.names[0])}"
                    )
                block[row] = vector
            yield block

    def _path(self, name):
        return os.path.join(self.root, name + self.suffix)

    def _vector(self, name):
        return read_megaface_features(self._path(name))
