"""Unpickling for files that come from anywhere: bytes, strings, numbers, lists, tuples, arrays of uint8.

Nothing that a pickle names is ever looked up or imported. The few names that harmless files hold lead to
stand-ins below, which check what they are given; every other name is refused.
"""

import io
import pickle

from keras_normface.data.pickle_scan import BrokenPickleError, UnsafePickleError, scan_pickle

NDARRAY = object()
DTYPES = {"u1": "uint8", "b1": "bool"}


class StoredType:
    """A NumPy type in a pickle: its name, "uint8" or "bool"."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name

    def __setstate__(self, state):
        """Take NumPy's state of such a type, and refuse one with fields or another byte order."""
        fits = isinstance(state, tuple) and len(state) in (8, 9) and _text(state[1]) == "|"
        if not fits or any(part is not None for part in state[2:5]):
            raise BrokenPickleError("it holds a NumPy type with fields")


class StoredArray:
    """A NumPy array of one dimension in a pickle: `dtype`, a name, and `data`, its bytes (`None`: unfinished)."""

    __slots__ = ("data", "dtype")

    def __init__(self):
        self.dtype, self.data = None, None

    def __setstate__(self, state):
        """Take NumPy's state of an array: (version, shape, type, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise BrokenPickleError("it holds an array in an unknown state")
        self.fill(*state[-4:-2], state[-1])

    def fill(self, shape, dtype, data):
        """Check that the three belong together, and keep them.

        Args:
            shape: Tuple of one length.
            dtype: A `StoredType`.
            data: Bytes, as many as the shape says.

        Raises:
            BrokenPickleError: If they do not fit.
        """
        if not isinstance(dtype, StoredType) or not isinstance(data, bytes):
            raise BrokenPickleError("it holds an array without bytes or without a type")
        if not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int:
            raise BrokenPickleError("it holds an array that has not one dimension")
        if shape[0] != len(data):
            raise BrokenPickleError(f"it holds an array of length {shape[0]} with {len(data)} bytes")
        self.dtype, self.data = dtype.name, data


def load_harmless(content):
    """Read a pickle without running anything of it.

    Args:
        content: Bytes of one pickle, of protocol 0 to 5, from Python 2 or 3.

    Returns:
        Bytes, strings, numbers, `None`, or lists and tuples of these; NumPy arrays as `StoredArray`, NumPy's
        bools and uint8 numbers as Python's. What Python 2 calls a string comes as bytes.

    Raises:
        UnsafePickleError: If it names anything else; the message has the module and the name.
        BrokenPickleError: If it is no whole pickle, or holds other things.

    Example:
    >>> import pickle
    >>> load_harmless(pickle.dumps(([b"image"], [True])))
    ([b'image'], [True])
    >>> load_harmless(pickle.dumps(print))
    Traceback (most recent call last):
    ...
    keras_normface.data.pickle_scan.UnsafePickleError: it names 'builtins.print', which could run code
    """
    scan_pickle(content)
    try:
        return HarmlessUnpickler(content).load()
    except (UnsafePickleError, BrokenPickleError, MemoryError):
        raise
    except Exception as error:  # the unpickler has many for bytes that are no pickle: KeyError, EOFError, ...
        raise BrokenPickleError(
            f"it is no pickle, or a damaged one: {type(error).__name__}: {str(error)[:200]}"
        ) from error


class HarmlessUnpickler(pickle.Unpickler):
    """Python's unpickler with stand-ins for the only names that it may meet.

    Args:
        content: Bytes that `scan_pickle` let pass.
    """

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
            raise BrokenPickleError("it encodes something that is no string, or not as Latin-1")
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
        raise BrokenPickleError(f"it names the NumPy type {_text(name)!r}; only uint8 and bool are read")
    return StoredType(DTYPES[_text(name)])


def empty_array(kind, shape, letter):
    """Stand in for NumPy's `_reconstruct`, which makes an array that is filled later."""
    if kind is not NDARRAY or shape != (0,) or _text(letter) != "b":
        raise BrokenPickleError("it makes an array in an unknown way")
    return StoredArray()


def stored_scalar(dtype, data):
    """Stand in for NumPy's `scalar`."""
    if not isinstance(dtype, StoredType) or not isinstance(data, bytes) or len(data) != 1:
        raise BrokenPickleError("it holds a NumPy number that is neither uint8 nor bool")
    return data != b"\0" if dtype.name == "bool" else data[0]


def _text(value):
    """Return a short string, also one that Python 2 wrote, or `None`."""
    if isinstance(value, bytes):
        value = value[:20].decode("latin-1")
    return value[:20] if isinstance(value, str) else None
