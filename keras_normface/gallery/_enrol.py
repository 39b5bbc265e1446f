"""From images of subjects to what is stored of them; and the checks of names."""

import hashlib
import os

import numpy as np

from keras_normface import _validation
from keras_normface._io import printable, read_whole
from keras_normface.gallery._results import Enrolment
from keras_normface.metrics import unit_rows

IMAGES_AT_ONCE = 256


def enrol_part(database, embedder, subjects):
    """Dictionary from names to images, embedded together and stored in one transaction → `Enrolment`."""
    wanted, known, seen = [], 0, set()
    for name, images in subjects.items():
        digests = database.known_digests(name)
        for place, image in enumerate(images):
            content = image if isinstance(image, bytes) else read_whole(image)
            digest = hashlib.sha256(content).digest()
            if digest in digests or (name, digest) in seen:
                known += 1
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
    """Dictionary from names to images → such dictionaries of about `IMAGES_AT_ONCE` images, each subject in one."""
    part, images = {}, 0
    for name, those in subjects.items():
        if part and images + len(those) > IMAGES_AT_ONCE:
            yield part
            part, images = {}, 0
        part[name] = those
        images += len(those)
    yield part


def unit_where(rows, there):
    """(P, dim) of which the rows `there` are finite → float32, those at unit length."""
    unit = np.zeros(rows.shape, "float32")
    if there.any():
        unit[there] = unit_rows(rows[there], "embeddings", dtype=np.float32)
    return unit


def checked_name(name):
    """Name of a subject, which must not be empty."""
    return checked_text("name", name, least=1)


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
