"""Embeddings in a file, each under the name of its image."""

import os
import tokenize
import zipfile
import zlib

import numpy as np

from keras_normface.written_beside import written_beside

_MOST_LISTED = 5
# What NumPy and zipfile raise for damaged files, and for headers that were made up.
DAMAGE = (
    *(ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(AttributeError, TypeError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError),
)


def save_embeddings(path, names, embeddings):
    """Write embeddings and their images' names. Either the whole file is there afterwards, or what was there before.

    Args:
        path: The file, ending in `.npz`.
        names: N strings, each once.
        embeddings: Numbers `(N, dim)`; they are stored as float32.

    Raises:
        ValueError: If the numbers of names and rows differ, a name occurs twice, or the file is not called `.npz`.
        OSError: If it cannot be written.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "ours.npz")
    >>> save_embeddings(path, ["a.jpg", "b.jpg"], [[1, 0], [0, 2]])
    >>> load_embeddings(path)[0].tolist()
    ['a.jpg', 'b.jpg']
    """
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"`path` must end in .npz. Received: path={os.fspath(path)}")
    names, embeddings = _checked(np.array(list(names), dtype=str), np.asarray(embeddings, "float32"), "names")
    with written_beside(path) as beside, open(beside, "wb") as file:
        np.savez(file, names=names, embeddings=embeddings)


def load_embeddings(path):
    """Read embeddings and their images' names.

    Args:
        path: An `.npz` file with the arrays `names` and `embeddings`, as `save_embeddings` or `numpy.savez` write it.
            Nothing in it runs: pickled arrays are refused.

    Returns:
        Pair of a string array `(N,)` and a float array `(N, dim)`.

    Raises:
        ValueError: If it is no such file, is damaged, or the two do not fit each other.
        OSError: If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, embeddings = file["names"], file["embeddings"]
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise ValueError(
            f"{os.fspath(path)} must be an .npz file with the arrays names and embeddings: {error}"
        ) from error
    return _checked(names, embeddings, os.fspath(path))


def named_rows(names, embeddings, wanted, source="the file"):
    """Return the rows of embeddings in the order of a protocol's images.

    Args:
        names: Strings `(N,)`.
        embeddings: Numbers `(N, dim)`.
        wanted: Names of images, `protocol.images`.
        source: What is called by its name in the error.

    Returns:
        Array `(len(wanted), dim)`.

    Raises:
        ValueError: If an image has no embedding; the first missing ones are listed.

    Example:
    >>> named_rows(np.array(["a", "b"]), np.array([[1, 0], [0, 2]]), ["b"]).tolist()
    [[0, 2]]
    """
    places = {name: place for place, name in enumerate(np.asarray(names).tolist())}
    check_none_missing([name for name in wanted if name not in places], len(wanted), f"{source} has no embedding of")
    return np.asarray(embeddings)[[places[name] for name in wanted]]


def check_none_missing(missing, count, message):
    """Raise a ValueError that lists the first of the missing images, if there are any.

    Args:
        missing: Their names.
        count: How many images there are in all.
        message: How the error begins.
    """
    if missing:
        more = "" if len(missing) <= _MOST_LISTED else f" and {len(missing) - _MOST_LISTED} more"
        listed = ", ".join(missing[:_MOST_LISTED])
        raise ValueError(f"{message} {len(missing)} of the protocol's {count} images: {listed}{more}")


def _checked(names, embeddings, source):
    if names.ndim != 1 or names.dtype.kind != "U" or embeddings.ndim != 2 or embeddings.dtype.kind not in "biuf":
        raise ValueError(
            f"{source} must hold names, a list of texts, and embeddings, a matrix of numbers. Received: "
            f"names of shape {names.shape}, {names.dtype}; embeddings of shape {embeddings.shape}, {embeddings.dtype}"
        )
    if len(names) != len(embeddings):
        raise ValueError(f"{source} must hold a row for each name, not {len(embeddings)} rows for {len(names)} names")
    values, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{source} must hold each name once. {values[counts.argmax()]!r} occurs more than once")
    return names, embeddings
