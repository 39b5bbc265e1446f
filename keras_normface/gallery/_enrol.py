"""From images of subjects to what is stored of them; and the checks of names."""

import hashlib
import os
import reprlib
from collections.abc import Sequence

import numpy as np

from keras_normface import _validation
from keras_normface._io import printable, read_whole
from keras_normface.gallery._results import Enrolment
from keras_normface.metrics import unit_rows

IMAGES_AT_ONCE = 256
IMAGE = (bytes, str, os.PathLike)


def enrol_part(database, embedder, subjects):
    """Dictionary from names to images, embedded together and stored in one transaction → `Enrolment`."""
    wanted, known, seen = [], 0, set()
    for name, images in subjects.items():
        digests = database.known_digests(name)
        for place, image in enumerate(images):
            content = image if isinstance(image, bytes) else read_whole(image)
            digest = hashlib.sha256(content).digest()
            if digest in digests or (name, digest) in seen:
                known += digest in digests
                continue
            seen.add((name, digest))
            shown = f"image {place} of {printable(name)}" if isinstance(image, bytes) else printable(os.fspath(image))
            wanted.append((name, shown, digest, content))
    if not wanted:
        return Enrolment(0, known)
    rows = embedder.embed([content for *_, content in wanted], [shown for _, shown, *_ in wanted])
    there = np.isfinite(rows).all(axis=1)
    without = tuple(shown for (_, shown, *_), found in zip(wanted, there, strict=True) if not found)
    entries = [
        (name, shown, digest, row)
        for (name, shown, digest, _), row, found in zip(wanted, unit_where(rows, there), there, strict=True)
        if found
    ]
    return Enrolment(database.add(entries) if entries else 0, known, without)


def parts(subjects):
    """Dictionary from names to images → such dictionaries of at most `IMAGES_AT_ONCE` images."""
    part, left = {}, IMAGES_AT_ONCE
    for name, images in subjects.items():
        for image in images:
            part.setdefault(name, []).append(image)
            left -= 1
            if not left:
                yield part
                part, left = {}, IMAGES_AT_ONCE
    if part:
        yield part


def checked_images(name, images):
    """One image or several → a list that is not empty."""
    images = [images] if isinstance(images, IMAGE) else images
    fits = isinstance(images, Sequence) and len(images) and all(isinstance(image, IMAGE) for image in images)
    if not fits:
        raise ValueError(
            f"`images` must be the bytes or the path of an image, or a list of at least one. Received for "
            f"{printable(name)[:200]}: {reprlib.repr(images)}"
        )
    return list(images)


def entries_of(names, embeddings, images):
    """Names (N,), numbers (N, dim), names of images or `None` → what is stored of them."""
    if isinstance(names, str):
        raise ValueError(f"`names` must be a list of texts. {_validation.received('names', names)}")
    names = [checked_text("name", name, least=1) for name in names]
    rows = unit_rows(embeddings, "embeddings", dtype=np.float32).astype("<f4")
    images = [""] * len(names) if images is None else [checked_text("images", image) for image in images]
    if not len(names) == len(rows) == len(images):
        raise ValueError(
            f"`names`, `embeddings` and `images` must be as many. Received: {len(names)}, {len(rows)} and {len(images)}"
        )
    digests = [hashlib.sha256(row.tobytes()).digest() for row in rows]
    return list(zip(names, images, digests, rows, strict=True))


def unit_where(rows, there):
    """(P, dim) of which the rows `there` are finite → float32, those at unit length."""
    unit = np.zeros(rows.shape, "float32")
    if there.any():
        unit[there] = unit_rows(rows[there], "embeddings", dtype=np.float32)
    return unit


def checked_text(argument, text, least=0):
    """Text that the database stores as it is."""
    fits = isinstance(text, str) and len(text) >= least and "\0" not in text
    try:
        fits = fits and text.encode() is not None
    except UnicodeEncodeError:  # half of a pair, as in the name of a file that is not UTF-8
        fits = False
    if not fits:
        kind = "a text that is not empty" if least else "a text"
        raise ValueError(
            f"`{argument}` must be {kind}, in valid Unicode without NUL. {_validation.received(argument, text)}"
        )
    return text


def alone(probe):
    """One image → a list of it; one embedding (dim,) → (1, dim)."""
    return [probe] if isinstance(probe, (bytes, str, os.PathLike)) else np.asarray(probe)[None]
