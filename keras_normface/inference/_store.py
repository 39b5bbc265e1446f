"""Embeddings of many images: made once, cached by the model's fingerprint, stored by name."""

import hashlib
import json
import os
import warnings
from typing import NamedTuple

import numpy as np

from keras_normface._arrays import DAMAGE, read_npz
from keras_normface._io import UNFINISHED_SECONDS, atomic_write, read_whole, remove_unfinished
from keras_normface.inference._embedder import Embedder
from keras_normface.inference._fingerprint import SHOWN_DIGITS

_MOST_LISTED = 5


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
    with atomic_write(path) as beside, open(beside, "wb") as file:
        np.savez(file, names=names, embeddings=embeddings)


def load_embeddings(path):
    """Read embeddings and their images' names.

    Args:
        path: An `.npz` file with the arrays `names` and `embeddings`, as `save_embeddings` or `numpy.savez` write it.
            Nothing in it runs: pickled arrays are refused. So are arrays of more than 64 times the file's size (and
            more than 16 MiB), which only a file made to fill the memory holds.

    Returns:
        Pair of a string array `(N,)` and a float array `(N, dim)`.

    Raises:
        ValueError: If it is not such a file, is corrupt, or the two differ in length.
        OSError: If it cannot be read.
    """
    names, embeddings = read_npz(path, "names", "embeddings")
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


class ChunkCache:
    """A directory of chunks of embeddings, each under a digest of all that it depends on."""

    def __init__(self, directory):
        self.directory = os.fspath(directory)
        os.makedirs(self.directory, exist_ok=True)

    def key(self, fingerprint, identities, settings):
        """Return the name of a chunk."""
        content = json.dumps([fingerprint, identities, settings], sort_keys=True)
        return f"{fingerprint[:SHOWN_DIGITS]}/{hashlib.sha256(content.encode()).hexdigest()}"

    def read(self, key, count):
        """Return the embeddings of a chunk, or `None`: if there are none, or, with a warning, if they are corrupt."""
        path = self._path(key)
        try:
            embeddings, stored = read_npz(path, "embeddings", "key")  # zip files have a checksum of each member
            sound = str(stored) == key and embeddings.ndim == 2 and len(embeddings) == count
            reason = None if sound and embeddings.dtype == np.float32 else "it is not what its name says"
        except FileNotFoundError:
            return None
        except DAMAGE as error:
            reason = error
        if reason is not None:
            warnings.warn(f"The cached embeddings {path} are corrupt and computed again: {reason}", stacklevel=2)
            return None
        return embeddings

    def write(self, key, embeddings):
        """Store the embeddings of a chunk. Either the whole file is there afterwards, or what was there before."""
        path = self._path(key)
        directory = os.path.dirname(path)
        os.makedirs(directory, exist_ok=True)
        remove_unfinished(directory, UNFINISHED_SECONDS)
        with atomic_write(path) as beside, open(beside, "wb") as file:
            np.savez(file, key=np.array(key), embeddings=np.asarray(embeddings, "float32"))

    def _path(self, key):
        return os.path.join(self.directory, f"{key}.npz")


def identity_of(name, image):
    """Name and checksum of an image, its bytes or the path of its file, for `ChunkCache.key`."""
    content = image if isinstance(image, bytes) else read_whole(image)
    return [name, hashlib.sha256(content).hexdigest()]


CHUNK_IMAGES = 1024
MIRRORS = ("none", "both")


class Embedded(NamedTuple):
    """Embeddings of images, and of their mirror images if they were asked for."""

    front: np.ndarray
    mirrored: np.ndarray | None


def embed_images(embedder, images, *, mirror="none", cache=None, progress=None):
    """Embed images, each once.

    Args:
        embedder: An `Embedder`.
        images: List of pairs of a name and the image: its bytes, or the path of its file.
        mirror: "none", or "both" for the embeddings of the mirror images too.
        cache: `None`, or a directory. Embeddings are kept there in chunks of 1024 images, under the model's
            fingerprint and each image's name and content, which is read for that each time; those of photos also under
            the template and `detect.name`, without which they cannot be kept. An interrupted run resumes with the next
            chunk; a corrupt chunk is computed again, with a warning.
        progress: `None`, or a function that is called with the number of images done and that of all; mirror images
            count.

    Returns:
        An `Embedded`, with a row for each image; see `Embedder` for photos without a face.

    Raises:
        ValueError: If there are no images or a name occurs twice, an image cannot be decoded or is of another size,
            or the mirror images are asked for and the model adds them by itself; or `cache` is given for a detector
            without a name.
        OSError: If a file cannot be read or written.

    Example:
    >>> import keras, tempfile
    >>> import tensorflow as tf
    >>> from keras_normface.inference import export_embedding_model
    >>> from keras_normface.preprocessing import Preprocessing
    >>> net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> picture = tf.io.encode_png(np.full((6, 5, 3), 9, "uint8")).numpy()
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(net, directory + "/model", preprocessing=Preprocessing(size=(6, 5)))
    ...     embedder = Embedder(directory + "/model", faces="aligned")
    ...     embed_images(embedder, [("a", picture), ("b", picture)], cache=directory).front.shape
    (2, 4)
    """
    blocks = list(embed_blocks(embedder, images, mirror=mirror, cache=cache, progress=progress))
    mirrored = np.concatenate([block.mirrored for block in blocks]) if mirror == "both" else None
    return Embedded(np.concatenate([block.front for block in blocks]), mirrored)


def embed_blocks(embedder, images, *, mirror="none", cache=None, progress=None):
    """Embed images as `embed_images` does, but give a chunk at a time, for more than fit into memory.

    Args:
        embedder: See `embed_images`.
        images: See `embed_images`.
        mirror: See `embed_images`.
        cache: See `embed_images`.
        progress: See `embed_images`.

    Yields:
        `Embedded` of up to 1024 images, in their order.

    Raises:
        ValueError: See `embed_images`.
        OSError: See `embed_images`.
    """
    images = list(images)
    if mirror not in MIRRORS:
        raise ValueError(f"`mirror` must be one of {MIRRORS}. Received: mirror={mirror!r}")
    if not images or len({name for name, _ in images}) != len(images):
        raise ValueError(f"`images` must hold at least one image, and each name once. Received: {len(images)} images")
    if not isinstance(embedder, Embedder):
        raise ValueError(f"`embedder` must be an Embedder. Received: {embedder!r}")
    if mirror == "both" and embedder.flip == "sum":
        raise ValueError(
            f"`mirror` must be 'none' for {embedder.name}, which was exported with flip='sum' "
            "and adds the mirror image's embedding by itself. Received: mirror='both'"
        )
    if cache is not None and embedder.settings.get("detector", "") is None:
        raise ValueError("`cache` must be None where the embedder's `detect` has no `name` to store its results under")
    cache = None if cache is None else ChunkCache(cache)
    sides = (False,) if mirror == "none" else (False, True)
    done, total = 0, len(sides) * len(images)

    def report(count):
        if progress is not None:
            progress(done + count, total)

    for start in range(0, len(images), CHUNK_IMAGES):
        chunk, found = images[start : start + CHUNK_IMAGES], [None, None]
        identities = None if cache is None else _identities(chunk)
        for side in sides:
            found[side] = _chunk(embedder, chunk, side, cache, identities, report)
            report(len(chunk))
            done += len(chunk)
        yield Embedded(*found)


def _identities(chunk):
    return [identity_of(name, image) for name, image in chunk]


def _chunk(embedder, chunk, mirror, cache, identities, report):
    names, images = zip(*chunk, strict=True)
    if cache is None:
        return embedder.embed(images, names, mirror=mirror, progress=report)
    key = cache.key(embedder.fingerprint, identities, {"mirror": mirror, **embedder.settings})
    embeddings = cache.read(key, len(chunk))
    if embeddings is None:
        embeddings = embedder.embed(images, names, mirror=mirror, progress=report)
        if _identities(chunk) == identities:  # otherwise a file was replaced while it was embedded
            cache.write(key, embeddings)
    return embeddings
