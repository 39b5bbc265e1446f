"""A restricted unpickler for files that come from anywhere."""

import io
import math
import pickle
import re

import numpy as np

MOST_LISTS = 16
LONGEST_NUMBER = 32
# Of the bytes beyond these one in 16 may begin an instruction: images are far longer than what stores one takes.
LEAST_INSTRUCTIONS = 1 << 14
ADMITTED_NAMES = frozenset(
    ["_codecs.encode", "__builtin__.bytes", "builtins.bytes", "numpy.ndarray", "numpy.dtype"]
    + [
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    ]
)


class UnsafePickleError(ValueError):
    """A pickle wants something that could run code. Nothing of it was run."""


class BrokenPickleError(ValueError):
    """Bytes are not a valid pickle, or not one of the supported types."""


# What follows the instruction: n bytes; a length of n bytes and then so many bytes; or lines.
FIXED = {
    **dict.fromkeys(b"(.NR]aebt)l\x85\x86\x87\x88\x89\x93\x94", 0),
    **{ord("\x80"): 1, ord("K"): 1, ord("h"): 1, ord("q"): 1, ord("M"): 2, ord("J"): 4, ord("j"): 4, ord("r"): 4},
    **{ord("G"): 8, 0x95: 8},
}
COUNTED = {ord("C"): 1, ord("U"): 1, 0x8C: 1, 0x8A: 1, ord("B"): 4, ord("T"): 4, ord("X"): 4}
COUNTED.update({0x8E: 8, 0x8D: 8, 0x96: 8})
LINES = {**dict.fromkeys(b"ILFSVpg", 1), ord("c"): 2}
UNSAFE = {
    **{ord("i"): "INST", ord("o"): "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX", 0x82: "EXT1", 0x83: "EXT2"},
    **{0x84: "EXT4", ord("P"): "PERSID", ord("Q"): "BINPERSID", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER"},
}
OTHER_THINGS = {
    **dict.fromkeys(b"}dsu", "a dictionary"),
    **dict.fromkeys(b"\x8f\x90\x91", "a set"),
    0x8B: "an enormous number",
}
STOP, FRAME, MEMOIZE, GLOBAL, STACK_GLOBAL, SHORT_BINUNICODE = ord("."), 0x95, 0x94, ord("c"), 0x93, 0x8C
FLAGS = frozenset(b"\x88\x89")
RUN_OF_FLAGS = re.compile(rb"[\x88\x89]+")
LISTS = frozenset(b"]l")
TUPLES = frozenset(b"t\x85\x86\x87")
NUMBER_LINES = frozenset(b"ILFpg")
PUTS = {ord("p"): None, ord("q"): 1, ord("r"): 4}


def scan_pickle(content):
    """Refuse a pickle with instructions that none of our files needs, or with claims larger than itself."""
    position, instructions, lists, tuples, memo, strings = 0, 0, 0, 0, 0, []
    most_tuples, most_memo = 64 + len(content) // 8, 64 + len(content) // 3
    most_instructions = LEAST_INSTRUCTIONS + len(content) // 16
    while True:
        if position >= len(content):
            raise BrokenPickleError("it is truncated, or not a pickle: its end is missing")
        start, code = position, content[position]
        instructions += 1
        if instructions > most_instructions:
            raise BrokenPickleError(f"it has more instructions than such a file needs, at byte {start}")
        if code in FLAGS:
            position, strings = RUN_OF_FLAGS.match(content, start).end(), []
            continue
        argument, position = _argument(content, start)
        _check_name(code, content[start + 1 : position] if code == GLOBAL else strings)
        if code == SHORT_BINUNICODE:
            strings.append(content[start + 2 : position])
        elif code != MEMOIZE and code not in PUTS:
            strings = []
        lists += code in LISTS
        tuples += code in TUPLES
        memo += code == MEMOIZE
        memo = max(memo, _place(code, argument)) if code in PUTS else memo
        if lists > MOST_LISTS or tuples > most_tuples or memo > most_memo:
            raise BrokenPickleError(f"it has more lists, tuples or memo places than such a file needs, at byte {start}")
        if code == STOP:
            break
    if position < len(content):
        raise BrokenPickleError(f"{len(content) - position} bytes follow its end")


def _argument(content, start):
    """Return the short argument of an instruction (`None` for a long one), and where the next one starts."""
    code, first = content[start], start + 1
    if code in FIXED:
        end = first + FIXED[code]
        argument = content[first:end]
        if code == FRAME and int.from_bytes(argument, "little") > len(content) - end:
            raise BrokenPickleError(f"it is truncated: a frame reaches beyond its end, at byte {start}")
    elif code in COUNTED:
        argument, after = None, first + COUNTED[code]
        end = after + int.from_bytes(content[first:after], "little")
    elif code in LINES:
        argument, end = None, first
        for _ in range(LINES[code]):
            end = content.find(b"\n", end) + 1 or len(content) + 1
        if code in NUMBER_LINES:
            argument = content[first : min(end - 1, first + LONGEST_NUMBER + 1)]
            if len(argument) > LONGEST_NUMBER and end <= len(content):
                raise BrokenPickleError(f"it holds an enormous number, at byte {start}")
    else:
        raise _refused(code, start)
    if end > len(content):
        raise BrokenPickleError(
            f"it is truncated, or not a pickle: the instruction at byte {start} reaches beyond its end"
        )
    return argument, end


def _refused(code, start):
    if code in UNSAFE:
        return UnsafePickleError(f"it has the instruction {UNSAFE[code]}, at byte {start}")
    if code in OTHER_THINGS:
        return BrokenPickleError(f"it holds {OTHER_THINGS[code]}, at byte {start}")
    return BrokenPickleError(f"it is not a valid pickle: it has the instruction {code:#04x}, at byte {start}")


def _check_name(code, parts):
    """Refuse a name that is written out where it is used; the unpickler's `find_class` meets all the others."""
    if code == GLOBAL:
        parts = parts.split(b"\n")[:2]
    if code == GLOBAL or (code == STACK_GLOBAL and len(parts) >= 2):
        name = b".".join(parts[-2:]).decode("utf-8", "replace")
        if name not in ADMITTED_NAMES:
            raise UnsafePickleError(f"it names {name[:200]!r}, which could run code")


def _place(code, argument):
    if PUTS[code] is not None:
        return int.from_bytes(argument, "little")
    if not argument.isdigit():
        raise BrokenPickleError(f"it is not a valid pickle: {argument!r} is not a place in its memo")
    return int(argument)


NDARRAY = object()
DTYPES = frozenset(["b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))])


class StoredType:
    """A NumPy type in a pickle, of bools or integers: `dtype` is NumPy's own."""

    __slots__ = ("dtype",)

    def __init__(self, name):
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        """Take the byte order from NumPy's state of such a type, and refuse a type with fields."""
        order = _text(state[1]) if isinstance(state, tuple) and len(state) in (8, 9) else None
        orders = ("|",) if self.dtype.itemsize == 1 else ("<", ">")
        if order not in orders or any(part is not None for part in state[2:5]):
            raise BrokenPickleError("it holds a NumPy type with fields")
        self.dtype = self.dtype.newbyteorder(order)


class StoredArray:
    """A NumPy array of one row or column in a pickle: `dtype` and `data`, its bytes (`None`: unfinished)."""

    __slots__ = ("data", "dtype")

    def __init__(self):
        self.dtype, self.data = None, None

    def __setstate__(self, state):
        """Take NumPy's state of an array: (version, shape, type, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise BrokenPickleError("it holds an array in an unknown state")
        self.fill(*state[-4:-2], state[-1])

    def fill(self, shape, dtype, data):
        """Check that the three belong together, and keep them."""
        if not isinstance(dtype, StoredType) or not isinstance(data, bytes):
            raise BrokenPickleError("it holds an array without bytes or without a type")
        whole = isinstance(shape, tuple) and all(type(side) is int for side in shape)
        if not whole or not 1 <= len(shape) <= 2 or (len(shape) == 2 and 1 not in shape):
            raise BrokenPickleError("it holds an array that is not of one dimension, one row or one column")
        if min(shape) < 0 or math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise BrokenPickleError(f"it holds an array of shape {str(shape)[:40]} with {len(data)} bytes")
        self.dtype, self.data = dtype.dtype, data


def restricted_loads(content):
    """Read a pickle without running anything of it."""
    scan_pickle(content)
    try:
        return RestrictedUnpickler(content).load()
    except (UnsafePickleError, BrokenPickleError, MemoryError):
        raise
    except Exception as error:  # the unpickler has many for bytes that are not a pickle: KeyError, EOFError, ...
        raise BrokenPickleError(
            f"it is not a valid pickle: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error


class RestrictedUnpickler(pickle.Unpickler):
    """Python's unpickler with stand-ins for the only names that it may meet."""

    def __init__(self, content):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.bytes_left_to_copy = len(content)
        self.stand_ins = {
            "_codecs.encode": self.encode,
            "__builtin__.bytes": no_bytes,
            "builtins.bytes": no_bytes,
            "numpy.ndarray": NDARRAY,
            "numpy.dtype": stored_type,
        }
        for core in ("numpy.core", "numpy._core"):
            self.stand_ins[f"{core}.multiarray._reconstruct"] = empty_array
            self.stand_ins[f"{core}.multiarray.scalar"] = stored_scalar
            self.stand_ins[f"{core}.numeric._frombuffer"] = self.from_buffer

    def find_class(self, module, name):
        """Return the stand-in for a name, or refuse it."""
        stand_in = self.stand_ins.get(f"{module}.{name}")
        if stand_in is None or "." in name:
            raise UnsafePickleError(f"it names {f'{module}.{name}'[:200]!r}, which could run code")
        return stand_in

    def persistent_load(self, pid):
        """Refuse what lies outside the file."""
        raise UnsafePickleError("it refers to something outside of itself")

    def encode(self, text, encoding):
        """Stand in for `_codecs.encode`, by which Python 3 writes bytes in protocols 0 to 2."""
        if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
            raise BrokenPickleError("it encodes something that is not a string, or not as Latin-1")
        self._copy(len(text))
        return text.encode("latin-1")

    def from_buffer(self, data, dtype, shape, order):
        """Stand in for NumPy's `_frombuffer`, by which it writes arrays in protocol 5."""
        if not isinstance(data, bytes | bytearray) or _text(order) not in ("C", "F"):
            raise BrokenPickleError("it holds an array without bytes, or in an unknown order")
        if isinstance(data, bytearray):
            self._copy(len(data))
        array = StoredArray()
        array.fill(shape, dtype, bytes(data))
        return array

    def _copy(self, count):
        """Bound what is copied: the same bytes could be named again and again."""
        self.bytes_left_to_copy -= count
        if self.bytes_left_to_copy < 0:
            raise BrokenPickleError("it makes more bytes than it has itself")


def no_bytes():
    """Stand in for `bytes`, which Python 3 calls without arguments in protocols 0 to 2."""
    return b""


def stored_type(name, *flags):
    """Stand in for `numpy.dtype`."""
    if isinstance(_text(name), str) and _text(name).startswith("O"):
        raise UnsafePickleError(f"it names the NumPy type {_text(name)!r}, Python objects")
    if _text(name) not in DTYPES or any(type(flag) not in (bool, int) for flag in flags):
        raise BrokenPickleError(f"it names the NumPy type {_text(name)!r}; only bools and integers are read")
    return StoredType(_text(name))


def empty_array(kind, shape, letter):
    """Stand in for NumPy's `_reconstruct`, which makes an array that is filled later."""
    if kind is not NDARRAY or shape != (0,) or _text(letter) != "b":
        raise BrokenPickleError("it makes an array in an unknown way")
    return StoredArray()


def stored_scalar(dtype, data):
    """Stand in for NumPy's `scalar`."""
    if not isinstance(dtype, StoredType) or not isinstance(data, bytes) or len(data) != dtype.dtype.itemsize:
        raise BrokenPickleError("it holds a NumPy number whose bytes do not fit its type")
    return np.frombuffer(data, dtype.dtype)[0].item()


def _text(value):
    """Return a short string, also one that Python 2 wrote, or `None`."""
    if isinstance(value, bytes):
        value = value[:20].decode("latin-1")
    return value[:20] if isinstance(value, str) else None
