"""What tells one exported model from another."""

import hashlib
import os
from pathlib import Path

SHOWN_DIGITS = 16
_BLOCK_BYTES = 1 << 20
# What may be stored with a model later, such as a threshold, does not change what it computes.
_COMPUTING = ("saved_model.pb", "variables", "assets", "assets.extra/preprocessing.json")


def model_fingerprint(path):
    """Return the SHA-256 of an exported model: of the names and bytes of the files that decide what it computes.

    These are the graph, the variables, the assets and the stored preprocessing. A threshold that is stored with the
    model later leaves the fingerprint as it is.

    Args:
        path: Directory of a SavedModel.

    Returns:
        64 hexadecimal digits. The first 16 are shown to people.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        OSError: If a file cannot be read.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.export import export_embedding_model
    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(backbone, directory + "/model")
    ...     len(model_fingerprint(directory + "/model"))
    64
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file():
        raise FileNotFoundError(f"`path` must be the directory of a SavedModel. Received: path={path}")
    whole = hashlib.sha256()
    for name in sorted(_files(path)):
        whole.update(f"{len(name)}:{name}:{_digest(path / name)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _files(path):
    for part in _COMPUTING:
        if (path / part).is_file():
            yield part
        for directory, _, names in os.walk(path / part):
            for name in names:
                yield (Path(directory) / name).relative_to(path).as_posix()


def _digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
