"""What tells one model from another: a checksum of all that decides what it computes."""

import hashlib
import os
from pathlib import Path

import numpy as np

from keras_normface._io import json_text, regular_file
from keras_normface.inference._card import CARD_FILES, FORMATS, read_card

SHOWN_DIGITS = 16
_BLOCK_BYTES = 1 << 20
# Beside the file of the format: the directories of a SavedModel.
_DIRECTORIES = ("variables", "assets")


def model_fingerprint(path):
    """Return the SHA-256 of an exported model: of all that decides what it computes.

    That is the names and bytes of the files with its graph and weights, and the preprocessing and the flip of its card.
    A threshold that is stored with the model later leaves the fingerprint as it is.

    Args:
        path: Directory of the exported model.

    Returns:
        64 hexadecimal digits. The first 16 are shown to people.

    Raises:
        FileNotFoundError: If there is no exported model in `path`.
        ValueError: If its card is corrupt.
        OSError: If a file cannot be read.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.inference import export_embedding_model
    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(backbone, directory + "/model")
    ...     len(model_fingerprint(directory + "/model"))
    64
    """
    path, card = Path(path), read_card(path)
    preprocessing = None if card.preprocessing is None else card.preprocessing.to_dict()
    whole = hashlib.sha256(json_text({"flip": card.flip, "preprocessing": preprocessing}).encode())
    for name in sorted(_files(path, card.format)):
        whole.update(f"{len(name)}:{name}:{_digest(path / name)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _files(path, format):
    """The files that decide what a model computes: of a SavedModel those that TensorFlow reads, otherwise all."""
    if format == "saved_model":
        yield FORMATS[format]
    for part in _DIRECTORIES if format == "saved_model" else (".",):
        for directory, _, names in os.walk(path / part):
            for name in names:
                found = (Path(directory) / name).relative_to(path).as_posix()
                if found not in CARD_FILES:
                    yield found


def _digest(path):
    digest = hashlib.sha256()
    with regular_file(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def network_fingerprint(model):
    """SHA-256 of a `PretrainedNetwork`: name, preprocessing, weights; its layers' names change from run to run."""
    whole = hashlib.sha256(json_text({"name": model.name, **model.preprocessing.to_dict()}).encode())
    for weight in model.network.get_weights():
        whole.update(f"{weight.shape} {weight.dtype}".encode())
        whole.update(np.ascontiguousarray(weight).tobytes())
    return whole.hexdigest()
