"""Embeddings on the disk, in chunks of a few hundred images, so that a run that was cut goes on where it was."""

import hashlib
import json
import os
import warnings

import numpy as np

from keras_normface.embedding_store.fingerprint import SHOWN_DIGITS
from keras_normface.embedding_store.stored import DAMAGE
from keras_normface.written_beside import written_beside


class ChunkCache:
    """A directory of chunks of embeddings, each under a digest of all that it depends on.

    Args:
        directory: Is made if it is not there.

    Example:
    >>> import tempfile
    >>> cache = ChunkCache(tempfile.mkdtemp())
    >>> key = cache.key("0" * 64, [["a.jpg", 5, 17]], {"mirror": False})
    >>> cache.write(key, np.ones((1, 2)))
    >>> cache.read(key, 1).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, directory):
        self.directory = os.fspath(directory)
        os.makedirs(self.directory, exist_ok=True)

    def key(self, fingerprint, identities, settings):
        """Return the name of a chunk.

        Args:
            fingerprint: That of the model.
            identities: For each image a list that changes when the image does: see `identity_of`.
            settings: Dictionary of whatever else the embeddings depend on.
        """
        content = json.dumps([fingerprint, identities, settings], sort_keys=True)
        return f"{fingerprint[:SHOWN_DIGITS]}/{hashlib.sha256(content.encode()).hexdigest()}"

    def read(self, key, count):
        """Return the embeddings of a chunk, or `None` if there are none. A damaged chunk is none, with a warning.

        Args:
            key: From `key`.
            count: Number of its images.
        """
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as file:  # zip files have a checksum of each member
                embeddings, stored = file["embeddings"], file["key"]
            sound = str(stored) == key and embeddings.ndim == 2 and len(embeddings) == count
            reason = None if sound and embeddings.dtype == np.float32 else "it is not what its name says"
        except FileNotFoundError:
            return None
        except DAMAGE as error:
            reason = error
        if reason is not None:
            warnings.warn(f"The cached embeddings {path} are damaged and made anew: {reason}", stacklevel=2)
            return None
        return embeddings

    def write(self, key, embeddings):
        """Store the embeddings of a chunk. Either the whole file is there afterwards, or what was there before.

        Args:
            key: From `key`.
            embeddings: Numbers `(count, dim)`.
        """
        path = self._path(key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with written_beside(path) as beside, open(beside, "wb") as file:
            np.savez(file, key=np.array(key), embeddings=np.asarray(embeddings, "float32"))

    def _path(self, key):
        return os.path.join(self.directory, f"{key}.npz")


def identity_of(name, image):
    """Return a list that changes when an image does, for `ChunkCache.key`.

    Args:
        name: What the protocol calls it.
        image: Its bytes, or the path of its file, of which the place, size and time of change are taken.

    Raises:
        OSError: If there is no such file.

    Example:
    >>> identity_of("a.jpg", b"")[1][:8]
    'e3b0c442'
    """
    if isinstance(image, bytes):
        return [name, hashlib.sha256(image).hexdigest()]
    found = os.stat(image)
    return [name, os.path.realpath(image), found.st_size, found.st_mtime_ns]
