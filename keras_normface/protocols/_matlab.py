"""MATLAB files of version 5 to 7, whose sizes are checked before SciPy makes anything of them."""

import math
import struct
import zlib

import numpy as np

from keras_normface._arrays import largest_expansion
from keras_normface._io import read_whole, regular_file
from keras_normface.protocols._files import ProtocolFileError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEADER_BYTES, _TAG_BYTES = 128, 8
_COMPRESSED, _MATRIX = 15, 14
_CELL, _CHAR, _NUMBERS = 1, 4, range(6, 16)
_DEEPEST = 4


def read_matlab(path, wanted):
    """Path and names → dictionary of these variables, as SciPy gives them; otherwise a ProtocolFileError."""
    with regular_file(path) as file:
        head = file.read(520)
    if _HDF5 in (head[:8], head[512:]):
        raise ProtocolFileError(
            f"{path} is of MATLAB's version 7.3 (HDF5), which is not read here. "
            "Save it in MATLAB with save(..., '-v7'), or give the directory of the text lists"
        )
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise ImportError("MATLAB files need SciPy: pip install keras-normface[mat]") from error
    try:
        check_matlab(path, wanted)
        variables = loadmat(path, variable_names=list(wanted))
        found = [name for name, _, _ in whosmat(path)]
    # SciPy raises what its decoders happen to raise: zlib.error, TypeError, struct.error, MemoryError and others.
    except Exception as error:
        raise ProtocolFileError(f"{path} is not a valid MATLAB file: {error}") from error
    missing = [field for field in wanted if field not in variables]
    if missing:
        raise ProtocolFileError(
            f"{path} lacks the variables {', '.join(missing)}. It holds: {', '.join(found) or 'none'}"
        )
    return variables


def cells_of(variables, field, path):
    """Variable that is a row or column of cells → list of them."""
    cells = variables[field]
    if cells.dtype != object or cells.ndim != 2 or 1 not in cells.shape:
        raise ProtocolFileError(
            f"{field} in {path} must be a list of cells. It is of shape {cells.shape}, {cells.dtype}"
        )
    return list(cells.ravel())


def text_of(cell, field, path):
    """Cell → its text."""
    if not isinstance(cell, np.ndarray) or cell.dtype.kind != "U" or cell.size != 1:
        raise ProtocolFileError(f"{field} in {path} must hold text. Received: {str(cell)[:80]!r}")
    return str(cell.item()).strip()


def numbers_of(cell, field, path):
    """Cell → (K,) int64."""
    right = isinstance(cell, np.ndarray) and cell.dtype.kind in "fiu" and cell.ndim == 2 and 1 in cell.shape
    if not right or not np.isfinite(cell).all() or (cell != np.floor(cell)).any() or (abs(cell) > 2**31).any():
        raise ProtocolFileError(f"{field} in {path} must hold lists of whole numbers. Received: {str(cell)[:80]!r}")
    return cell.ravel().astype("int64")


def check_matlab(path, wanted):
    """Raise ValueError unless the wanted variables are cells, text and numbers of no more entries than bytes."""
    content = read_whole(path)
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER_BYTES])
    if order is None:
        raise ValueError("its header is not that of version 5 to 7")
    # What is left to make of the file, as of any other that is compressed.
    room, position = largest_expansion(path), _HEADER_BYTES
    while position < len(content):
        kind, start, end, position = _element(content, position, len(content), order, aligned=False)
        variable = content[start:end]
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            variable = inflater.decompress(variable, room)
            room -= len(variable)
            if room <= 0 or inflater.unconsumed_tail:
                raise ValueError(f"it is far larger than its file: at most {largest_expansion(path)} bytes are read")
            kind, start, end, _ = _element(variable, 0, len(variable), order)
            variable = variable[start:end]
        if kind != _MATRIX:
            raise ValueError(f"it has an element of type {kind} that is not a variable")
        if _head(variable, 0, len(variable), order)[2] in wanted:
            _check_matrix(variable, 0, len(variable), order, 0)


def _element(content, position, limit, order, aligned=True):
    """Return type, start and end of the element at `position`, and where the next one begins."""
    if position + _TAG_BYTES > limit:
        raise ValueError("it is truncated in the first bytes of an element")
    kind, length = struct.unpack_from(f"{order}II", content, position)
    start = position + _TAG_BYTES
    if kind >> 16:  # up to four bytes lie within the tag itself
        kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
        if length > 4:
            raise ValueError(f"it has a short element of {length} bytes")
    if length > limit - start:
        raise ValueError(f"it is truncated: an element of {length} bytes has {limit - start}")
    following = max(start + length, position + _TAG_BYTES)
    return kind, start, start + length, (following + 7) // 8 * 8 if aligned else following


def _head(content, position, limit, order):
    """Return class, dimensions and name of the matrix whose parts begin at `position`, and where they go on."""
    _, start, end, position = _element(content, position, limit, order)
    if end - start != 8:
        raise ValueError("it has a variable without a class")
    kind = struct.unpack_from(f"{order}I", content, start)[0] & 0xFF
    _, start, end, position = _element(content, position, limit, order)
    if (end - start) % 4 or not 8 <= end - start <= 128:
        raise ValueError("it has a variable without dimensions")
    shape = struct.unpack_from(f"{order}{(end - start) // 4}i", content, start)
    _, start, end, position = _element(content, position, limit, order)
    return kind, shape, content[start:end].decode("latin-1"), position


def _check_matrix(content, position, limit, order, depth):
    """Check that a matrix, and those in its cells, have no more entries than bytes."""
    if position == limit:  # an empty cell
        return
    first = position
    kind, shape, name, position = _head(content, position, limit, order)
    if kind not in (_CELL, _CHAR, *_NUMBERS) or depth > _DEEPEST:
        raise ValueError(f"{name[:80]!r} holds something else than cells, text and numbers")
    if min(shape) < 0 or math.prod(shape) > limit - first:
        raise ValueError(f"{name[:80]!r} of shape {shape[:8]} has {limit - first} bytes")
    if kind == _CELL:
        for _ in range(math.prod(shape)):
            inner, start, end, position = _element(content, position, limit, order)
            if inner != _MATRIX:
                raise ValueError(f"{name[:80]!r} has a cell that is not a matrix")
            _check_matrix(content, start, end, order, depth + 1)
