"""What any storage does with its records: adds, fills, reads and pools vectors, finds what is wrong with them."""

import os

import numpy as np

from keras_normface._io import printable

NARROW = 1e-6  # a mean of unit vectors that is shorter has no direction
SHOWN_LETTERS, SHOWN_DIGITS = 200, 16


class Records:
    """A storage of subjects and embeddings at `path`, which was opened for the model `expected`, or `None` for any."""

    rows_at_once = 8192

    def __init__(self, path, expected):
        self.path, self._expected = path, expected
        self._process = os.getpid()

    def check_usable(self):
        """Refuse what is closed, and a connection that another process opened."""
        if self._process is None:
            raise ValueError(f"{printable(self.path)} is closed: open the gallery again")
        if self._process != os.getpid():
            raise ValueError(f"{printable(self.path)} was opened before a fork: each process must open it by itself")

    def corrupt(self, why):
        """The error for a storage that is not what this package writes."""
        return ValueError(f"{printable(self.path)} is not a valid gallery: {one_line(why)}")

    def other_model(self, expected):
        """The error for embeddings of the model `expected` where those of another are stored."""
        stored, model, *_ = self.head()
        return ValueError(
            f"{printable(self.path)} holds embeddings of the model {printable(model)} ({stored[:SHOWN_DIGITS]}), "
            f"which cannot be compared with those of {expected[:SHOWN_DIGITS]}: enrol the images anew"
        )

    def claim(self, fingerprint, model):
        """Make it the gallery of a model, unless embeddings of another were stored, which is an error."""
        if fingerprint not in (None, self.head()[0]) and not self.bind(fingerprint, model):
            raise self.other_model(fingerprint)

    def add(self, entries):
        """Entries (name, image, digest, unit float32 vector) → how many were new."""
        with self.writing():
            # Another process may have bound an empty gallery to its model since this one opened it.
            if self._expected not in (None, self.head()[0]):
                raise self.other_model(self._expected)
            self._fit(len(entries[0][3]))
            numbers = self._introduce(dict.fromkeys(name for name, *_ in entries))
            new = self._insert(entries, numbers)
            self._pool(numbers)
            return new

    def _fit(self, dimension):
        stored = self.head()[2]
        if stored is None:
            self._set_dimension(dimension)
        elif stored != dimension:
            raise ValueError(f"`embeddings` must have {stored} columns, as the gallery has. Received: {dimension}")

    def fill(self, source, progress):
        """Take all that another storage holds, in one transaction, if there is nobody in this one → counts of both."""
        with source.reading(), self.writing():
            if self.count():
                raise ValueError(
                    f"`path` must be that of a gallery with nobody in it. Received: {printable(self.path)}"
                )
            expected, done = source.subjects(), 0
            total = sum(count for _, count in expected)
            # In the order of enrolment, which decides between equal scores.
            numbers = self._introduce(source.names())
            for _, names, images, digests, vectors in source.embeddings():
                if not done:
                    self._fit(vectors.shape[1])
                done += self._insert(list(zip(names, images, digests, vectors, strict=True)), numbers)
                if progress is not None:
                    progress(done, total)
            self._pool(numbers)
            if self.subjects() != expected:
                raise source.corrupt("a copy of it holds other numbers of embeddings")
        return len(expected), total


def pooled(rows, name):
    """(n, dim) unit float32 rows of one subject → (dim,) their mean, at unit length."""
    if not len(rows):
        raise ValueError(f"{printable(name)[:SHOWN_LETTERS]} has no embedding")
    mean = rows.mean(axis=0, dtype="float64")
    length = np.linalg.norm(mean)
    if not length > NARROW:
        raise ValueError(
            f"The embeddings of {printable(name)[:SHOWN_LETTERS]} cancel each other: they have no mean direction"
        )
    return (mean / length).astype("<f4")


def matrix(vectors, dimension, path, *, dtype="<f4", head=0):
    """Vectors (n) as bytes, after `head` others → (n, dim) float32; others are an error that names the gallery."""
    if dimension is None or any(len(vector) != 4 * dimension + head for vector in vectors):
        raise ValueError(f"{printable(path)} is not a valid gallery: a vector has not {dimension} numbers")
    content = b"".join([vector[head:] for vector in vectors] if head else vectors)
    rows = np.frombuffer(content, dtype).astype("<f4", copy=False).reshape(len(vectors), dimension)
    if not np.isfinite(rows).all():
        raise ValueError(f"{printable(path)} is not a valid gallery: a vector is not finite")
    return rows


def faults_of(name, rows, templates):
    """(n, dim) embeddings and (1, dim) template of the subject shown as `name` → list of what is wrong, in words."""
    if not len(rows) or not len(templates):
        return [f"{name} has no {'template' if len(rows) else 'embedding'}"]
    if not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3):
        return [f"{name}: an embedding is not a unit vector"]
    try:
        same = np.allclose(pooled(rows, name), templates[0], atol=1e-5)
    except ValueError as error:
        return [f"{name}: {error}"]
    return [] if same else [f"{name}: the template is not the mean of the embeddings"]


def one_line(error):
    """One line of what a database says, which may quote what is stored."""
    return printable(" ".join(str(error).split()))[:SHOWN_LETTERS]
