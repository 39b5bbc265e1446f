"""What `keras-normface evaluate` reads: features, distractors, and the identities seen in training."""

import dataclasses
import os

import numpy as np

from keras_normface._arrays import DAMAGE, map_npy
from keras_normface._io import ContainedFiles, printable
from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import progress_bar, say
from keras_normface.cli._verify_run import open_embedder
from keras_normface.data import EXTENSIONS, PHOTO_EXTENSIONS
from keras_normface.data.shards import METADATA_NAME, read_metadata
from keras_normface.inference import (
    check_none_missing,
    embed_blocks,
    embed_images,
    load_embeddings,
    named_rows,
)
from keras_normface.metrics.leakage import find_leaks
from keras_normface.protocols import FolderImages, numbered_lines
from keras_normface.protocols.megaface import MegafaceFeatures
from keras_normface.protocols.pair_files import COLUMNS
from keras_normface.protocols.pairs import flip_fused


class ModelFeatures:
    """Features that a model makes of images, with its mirror images' if they are asked for."""

    def __init__(self, path, request):
        options = {"resize": request.resize, "center_crop": request.center_crop, "batch_size": request.batch_size}
        self._embedder = open_embedder(path, aligned=True, **options)
        self._cache, self._mirror = request.cache_directory, request.flip
        self.name = f"{os.path.basename(os.path.abspath(path))} ({self._embedder.shown_fingerprint})"
        self.settings = {
            "model": os.fspath(path),
            "fingerprint": self._embedder.fingerprint,
            "preprocessing": self._embedder.preprocessing.to_dict(),
            "flip": request.flip,
            "resize": request.resize,
            "center_crop": request.center_crop,
        }

    def of(self, names, images):
        """Return the features `(N, dim)` of images."""
        listed, before = listed_images(names, images), self._embedder.embedded
        with progress_bar("images") as progress:
            embedded = embed_images(self._embedder, listed, progress=progress, **self._options())
        new = self._embedder.embedded - before
        both = (1 + (self._mirror != "none")) * len(listed)
        say(f"{self.name}: {new:,} images embedded, {both - new:,} taken from the cache", err=True)
        return self._fused(embedded)

    def blocks(self, names, images):
        """Yield the features of images in blocks."""
        with progress_bar("distractors") as progress:
            listed = listed_images(names, images)
            for embedded in embed_blocks(self._embedder, listed, progress=progress, **self._options()):
                yield self._fused(embedded)

    def _options(self):
        return {"mirror": "none" if self._mirror == "none" else "both", "cache": self._cache}

    def _fused(self, embedded):
        flip = "none" if embedded.mirrored is None else self._mirror
        return flip_fused(embedded.front, embedded.mirrored, flip, len(embedded.front))


class StoredFeatures:
    """Features from a file of embeddings, or from a directory of MegaFace's feature files."""

    def __init__(self, path, request):
        self._path, self._suffix = path, request.feature_suffix
        self.name = os.path.basename(os.path.abspath(path))
        self.settings = {"embeddings": os.fspath(path)}

    def of(self, names, images):
        """Return the features `(N, dim)` of images."""
        if os.path.isdir(self._path):
            return np.concatenate(list(MegafaceFeatures(self._path, names, self._suffix)))
        stored, embeddings = load_embeddings(self._path)
        return flip_fused(named_rows(stored, embeddings, names, self._path), None, "none", len(names))


def open_features(path, request):
    """Return the `ModelFeatures` of a model, or `StoredFeatures`."""
    model = path in READY_NETWORKS or (os.path.isdir(path) and path != request.embeddings)
    return ModelFeatures(path, request) if model else StoredFeatures(path, request)


def listed_images(names, images):
    """Return pairs of a name and the image, its bytes or its path, none of which leads out of its directory."""
    if not isinstance(images, FolderImages):
        check_none_missing(images.missing(names), len(names), "The protocol's file lacks")
        return [(name, images.read(name)) for name in names]
    check_none_missing(images.missing(names), len(names), f"{images.root} lacks")
    files = ContainedFiles(images.root)
    return [(name, files.checked_path(name)) for name in names]


def find_distractors(request):
    """Return what `open_protocol` needs to know of the distractors: their list, or their number."""
    if request.distractor_list is not None:
        return os.fspath(request.distractor_list)
    return len(_matrix(request) if request.distractors.is_file() else _names(request))


def distractor_features(request, protocol, features):
    """Return the features of the distractors, an array on the disk or an iterable of blocks."""
    if request.distractors.is_file():
        return _matrix(request)
    names = list(protocol.distractors) if isinstance(protocol.distractors, tuple) else _names(request)
    if request.feature_suffix is not None:
        return MegafaceFeatures(request.distractors, names, request.feature_suffix)
    if not isinstance(features, ModelFeatures):
        raise ValueError(
            f"--distractors must be features where {features.name} has none to embed images: give --model, or "
            f"--feature-suffix for feature files. Received: {request.distractors}"
        )
    return features.blocks(names, FolderImages(request.distractors))


def _matrix(request):
    path = request.distractors
    try:
        matrix = map_npy(path)
    except DAMAGE as error:
        raise ValueError(f"{path} must be an .npy file with a matrix: {error}") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        raise ValueError(f"{path} must be an .npy file with a matrix, a row for each distractor")
    return matrix


def _names(request):
    """Return the sorted names of the images, or of the images of the feature files, below a directory."""
    endings = EXTENSIONS if request.feature_suffix is None else (request.feature_suffix,)
    names, others = [], 0
    for directory, _, files in os.walk(request.distractors):
        below = os.path.relpath(directory, request.distractors).replace(os.sep, "/")
        wanted = [file for file in files if file.lower().endswith(tuple(ending.lower() for ending in endings))]
        others += sum(file.lower().endswith(PHOTO_EXTENSIONS) for file in files) if endings is EXTENSIONS else 0
        names += [file if below == "." else f"{below}/{file}" for file in wanted]
    if others > len(names):
        directory = printable(request.distractors)
        say(f"{directory}: {others - len(names):,} images of formats that are not read", err=True)
    if not names:
        raise ValueError(
            f"--distractors must hold files that end in {', '.join(endings)}. Received: {request.distractors}"
        )
    names.sort()
    return names if request.feature_suffix is None else [name[: -len(request.feature_suffix)] for name in names]


def read_train_identities(path):
    """Return the names of the identities that a model was trained on."""
    path = os.fspath(path)
    if os.path.basename(path) == METADATA_NAME:
        path = os.path.dirname(path) or os.curdir
    if os.path.isfile(path):
        names = [line.text for line in numbered_lines(path)]
    elif os.path.isfile(os.path.join(path, METADATA_NAME)):
        names = read_metadata(path)["identities"]
    else:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"--train-identities must name at least one identity. Received: {path}, which names none")
    return names


def list_leaks(request, protocol, known, rows):
    """Print which identities of the protocol were in the training set, by name and by near-duplicate embeddings."""
    if known is not None:
        found = find_leaks(known, tested_identities(request, protocol))
        # Its last line is about embeddings, which are compared below.
        say(_after("Leak check", str(found).split("\n")[:-1]))
    if request.train_embeddings is not None:
        names, embeddings = load_embeddings(request.train_embeddings)
        # The names are those of images here, not of identities.
        found = dataclasses.replace(find_leaks(names, protocol.images, embeddings, rows), by_name=())
        say(_after("Leak check", str(found).split("\n")[1:]))


def tested_identities(request, protocol):
    """Return the names of the identities in a protocol's images."""
    if request.protocol == "pairs":
        rows = [line.text.split("\t") for line in numbered_lines(request.protocol_file)]
        return sorted({name for row in rows if len(row) == len(COLUMNS) and tuple(row) != COLUMNS for name in row[4:]})
    alone = next((image for image in protocol.images if "/" not in image), None)
    if alone is not None:
        raise ValueError(
            f"--train-identities needs a protocol that names identities: {protocol.name} does not name that of {alone}"
        )
    return sorted({image.partition("/")[0] for image in protocol.images})


def _after(head, lines):
    return "\n".join([f"{head}: {lines[0]}", *lines[1:]])
