"""Stored vectors: read, pooled into templates, and what may be wrong with them."""

import numpy as np

from keras_normface._io import printable

NARROW = 1e-6  # a mean of unit vectors that is shorter has no direction
SHOWN_LETTERS = 200


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


def matrix(vectors, dimension, path):
    """List of n vectors as bytes → (n, dim) float32, read-only; an error that names the gallery if they are others."""
    if dimension is None or any(len(vector) != 4 * dimension for vector in vectors):
        raise ValueError(f"{printable(path)} is not a valid gallery: a vector has not {dimension} numbers")
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), dimension)
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
