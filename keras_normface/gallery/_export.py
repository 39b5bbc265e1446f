"""What is enrolled, written into a file that others read."""

import csv
import errno
import os

import numpy as np

from keras_normface import _validation
from keras_normface._io import atomic_write, printable
from keras_normface.gallery._storage import is_url

MOST_BYTES_OF_TEXTS = 1 << 30


def export(storage, path):
    """Write the records of a storage into `path`, which ends in .npz or .csv."""
    if is_url(path):
        raise ValueError("`path` must be a file: `copy` writes to a server. Received: a URL")
    ending = os.path.splitext(os.fspath(path))[1]
    if ending not in (".npz", ".csv"):
        raise ValueError(f"`path` must end in .npz or .csv. {_validation.received('path', os.fspath(path))}")
    if storage.is_at(path):
        raise ValueError(f"`path` must be another file than the gallery. Received: path={printable(path)}")
    if not os.path.isdir(os.path.dirname(path) or os.curdir):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.path.dirname(path))
    with storage.reading():
        parts = list(storage.embeddings())
    with atomic_write(path) as beside:
        if ending == ".csv":
            with open(beside, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["name", "image", "sha256"])
                for _, names, images, digests, _ in parts:
                    writer.writerows(zip(names, images, (digest.hex() for digest in digests), strict=True))
            return
        names, images = ([text for part in parts for text in part[place]] for place in (1, 2))
        for texts in (names, images):
            longest = max(map(len, texts), default=0)
            if 4 * longest * len(texts) > MOST_BYTES_OF_TEXTS:
                raise ValueError(
                    f"`path` must end in .csv for names of {longest:,} letters: an array of {len(texts):,} such "
                    f"is too large. Received: path={printable(path)}"
                )
        vectors = [part[4] for part in parts] or [np.empty((0, storage.head()[2] or 0), "float32")]
        with open(beside, "wb") as file:
            np.savez(file, names=np.array(names, str), images=np.array(images, str), embeddings=np.concatenate(vectors))
