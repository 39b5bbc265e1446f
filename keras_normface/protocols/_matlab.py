"""MATLAB files of version 5 to 7: cells, text and numbers, of which no more is made than the file holds."""

import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

from keras_normface._arrays import largest_expansion
from keras_normface._io import regular_file
from keras_normface.protocols._files import ProtocolFileError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEADER_BYTES, _TAG_BYTES = 128, 8
_COMPRESSED, _MATRIX = 15, 14
_CELL, _CHAR, _NUMBERS, _OPAQUE = 1, 4, range(6, 16), 17
_COMPLEX = 0x800
_DEEPEST = 4
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_EMPTY = np.zeros((0, 0))


def read_matlab(path, wanted):
    """Path and names → dictionary of these variables; otherwise a ProtocolFileError."""
    with regular_file(path) as file:
        head = file.read(520)
    if _HDF5 in (head[:8], head[512:]):
        raise ProtocolFileError(
            f"{path} is of MATLAB's version 7.3 (HDF5), which is not read here. "
            "Save it in MATLAB with save(..., '-v7'), or give the directory of the text lists"
        )
    try:
        variables, found = _variables(path, wanted)
    except ValueError as error:
        raise ProtocolFileError(f"{path} is not a valid MATLAB file: {error}") from error
    missing = [field for field in wanted if field not in variables]
    if missing:
        found = [name if name.isprintable() else repr(name) for name in found]
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
        raise ProtocolFileError(f"{field} in {path} must hold lists of integers. Received: {str(cell)[:80]!r}")
    return cell.ravel().astype("int64")


def _variables(path, wanted):
    """Return the wanted variables by name, and the names of all; ValueError for what is not such a file."""
    with regular_file(path) as file:
        content = file.read()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER_BYTES])
    if order is None:
        raise ValueError("its header is not that of version 5 to 7")
    # What is left to make of the file, as of any other that is compressed.
    room, position, variables, names = largest_expansion(path), _HEADER_BYTES, {}, []
    while position < len(content):
        kind, start, end, position = _element(content, position, len(content), order, aligned=False)
        variable = content[start:end]
        if kind == _COMPRESSED:
            variable = _inflated(variable, room)
            room -= len(variable)
            kind, start, end, _ = _element(variable, 0, len(variable), order)
            variable = variable[start:end]
        if kind != _MATRIX:
            raise ValueError(f"it has an element of type {kind} that is not a variable")
        name = _head(variable, 0, len(variable), order).name
        names.append(name)
        if name in wanted:
            variables[name] = _matrix(variable, 0, len(variable), order, name)
    return variables, names


def _inflated(packed, room):
    """Return what was compressed, less than `room` bytes."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, room)
    except zlib.error as error:
        raise ValueError(f"it has a variable that is corrupt: {error}") from error
    if len(content) >= room:
        raise ValueError("it is far larger than its file")
    if not inflater.eof:
        raise ValueError("it has a variable that is truncated")
    return content


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


class _Head(NamedTuple):
    """Class, dimensions and name of a matrix, whether it is complex, and where its parts go on."""

    kind: int
    shape: tuple
    name: str
    is_complex: bool
    end: int


def _head(content, position, limit, order):
    """Return the `_Head` of the matrix whose parts begin at `position`."""
    _, start, end, position = _element(content, position, limit, order)
    if end - start != 8:
        raise ValueError("it has a variable without a class")
    flags = struct.unpack_from(f"{order}I", content, start)[0]
    if flags & 0xFF == _OPAQUE:  # MATLAB's string, table, datetime, ...: the name follows at once
        _, start, end, position = _element(content, position, limit, order)
        return _Head(_OPAQUE, (), content[start:end].decode("latin-1"), False, position)
    _, start, end, position = _element(content, position, limit, order)
    if (end - start) % 4 or not 8 <= end - start <= 128:
        raise ValueError("it has a variable without dimensions")
    shape = struct.unpack_from(f"{order}{(end - start) // 4}i", content, start)
    _, start, end, position = _element(content, position, limit, order)
    return _Head(flags & 0xFF, shape, content[start:end].decode("latin-1"), bool(flags & _COMPLEX), position)


def _matrix(content, position, limit, order, name, depth=0):
    """Return numbers as an array, text as an array of strings, cells as an array of objects."""
    if position == limit:  # an empty cell
        return _EMPTY
    head = _head(content, position, limit, order)
    if head.kind not in (_CELL, _CHAR, *_NUMBERS) or depth > _DEEPEST:
        raise ValueError(f"{name!r} holds something else than cells, text and numbers")
    count = math.prod(head.shape)
    if min(head.shape) < 0 or count > limit - position:
        raise ValueError(f"{name!r} of shape {head.shape[:8]} has {limit - position} bytes")
    position = head.end
    if head.kind == _CELL:
        cells = np.empty(count, object)
        for place in range(count):
            kind, start, end, position = _element(content, position, limit, order)
            if kind != _MATRIX:
                raise ValueError(f"{name!r} has a cell that is not a matrix")
            cells[place] = _matrix(content, start, end, order, name, depth + 1)
        return cells.reshape(head.shape, order="F")
    kind, start, end, _ = _element(content, position, limit, order)
    if head.kind == _CHAR:
        return _strings(content[start:end], kind, head.shape, order)
    if kind not in _TYPES or end - start != count * np.dtype(_TYPES[kind]).itemsize:
        raise ValueError(f"{name!r} of shape {head.shape[:8]} has {end - start} bytes of type {kind}")
    numbers = np.frombuffer(content, np.dtype(_TYPES[kind]).newbyteorder(order), count, start)
    return numbers.reshape(head.shape, order="F").astype("complex128" if head.is_complex else _TYPES[kind])


def _strings(content, kind, shape, order):
    """Return text as an array of one string, or of its letters if it has several rows."""
    codec = {2: "latin-1", 16: "utf-8", 17: "utf-16", 4: "utf-16", 18: "utf-32"}.get(kind)
    if codec is None:
        raise ValueError(f"it has text of the unknown type {kind}")
    if codec[-2:] in ("16", "32"):
        codec += "-le" if order == "<" else "-be"
    text = content.decode(codec)
    return np.array([text] if shape[0] == 1 else list(text), str)
