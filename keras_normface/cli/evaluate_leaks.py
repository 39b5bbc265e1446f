"""Whom the model has seen in training already, listed before any figure."""

import dataclasses
import os

import typer

from keras_normface.data.sidecar import SIDECAR_NAME, read_sidecar
from keras_normface.embedding_store import load_embeddings
from keras_normface.evaluation.leaks import find_leaks
from keras_normface.protocols.pair_list import COLUMNS
from keras_normface.protocols.text_lines import numbered_lines


def read_train_identities(path):
    """Return the names of the identities that a model was trained on.

    Args:
        path: A text file with a name a line, a directory of shards or its `dataset.json`, or a folder of identities.

    Raises:
        ValueError: If there are none, or the file is damaged.
        OSError: If it cannot be read.
    """
    path = os.fspath(path)
    if os.path.basename(path) == SIDECAR_NAME:
        path = os.path.dirname(path) or os.curdir
    if os.path.isfile(path):
        names = [line.text for line in numbered_lines(path)]
    elif os.path.isfile(os.path.join(path, SIDECAR_NAME)):
        names = read_sidecar(path)["identities"]
    else:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{path} must hold names of identities, and holds none")
    return names


def list_leaks(request, protocol, known, rows):
    """Print who of the protocol was in the training set, by name and by near-duplicate embeddings.

    Args:
        request: A `Request`.
        protocol: The protocol.
        known: Names of the training set's identities, or `None`.
        rows: Features of the protocol's images.

    Raises:
        ValueError: If the file of training embeddings is damaged or does not fit.
        OSError: If it cannot be read.
    """
    if known is not None:
        found = find_leaks(known, tested_identities(request, protocol))
        # Its last line is about embeddings, which are compared below.
        typer.echo(_after("Leak check", str(found).splitlines()[:-1]))
    if request.train_embeddings is not None:
        names, embeddings = load_embeddings(request.train_embeddings)
        # The names are those of images here, and say nothing of persons.
        found = dataclasses.replace(find_leaks(names, protocol.images, embeddings, rows), by_name=())
        typer.echo(_after("Leak check", str(found).splitlines()[1:]))


def tested_identities(request, protocol):
    """Return the names of the persons whom a protocol's images show.

    Args:
        request: A `Request` with a protocol whose files name them.
        protocol: The protocol.

    Raises:
        ValueError: If the images are not called by persons.
    """
    if request.protocol == "pairs":
        rows = [line.text.split("\t") for line in numbered_lines(request.protocol_file)]
        return sorted({name for row in rows if len(row) == len(COLUMNS) and tuple(row) != COLUMNS for name in row[4:]})
    alone = next((image for image in protocol.images if "/" not in image), None)
    if alone is not None:
        raise ValueError(f"--train-identities: {protocol.name} does not say who is shown in {alone}")
    return sorted({image.partition("/")[0] for image in protocol.images})


def _after(head, lines):
    return "\n".join([f"{head}: {lines[0]}", *lines[1:]])
