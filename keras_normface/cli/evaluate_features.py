"""Features of a protocol's images: from an exported model, or as they were stored."""

import os

import numpy as np
import typer

from keras_normface.cli.show import progress_bar
from keras_normface.data.contained import ContainedFiles
from keras_normface.embedding_store import ImageEmbedder, embed_blocks, embed_images, load_embeddings, named_rows
from keras_normface.embedding_store.stored import check_none_missing
from keras_normface.evaluation.pair_features import fused_features
from keras_normface.protocols import FolderImages, MegafaceFeatures


class ModelFeatures:
    """Features that an exported model makes of images, with its mirror images' if they are asked for.

    Args:
        path: Directory of the SavedModel.
        request: A `Request`.
    """

    def __init__(self, path, request):
        self._embedder = ImageEmbedder(path, batch_size=request.batch_size, resize=request.resize)
        self._cache, self._mirror = request.cache_directory, request.mirror
        self.name = f"{os.path.basename(os.path.abspath(path))} ({self._embedder.shown_fingerprint})"
        self.settings = {
            "model": os.fspath(path),
            "fingerprint": self._embedder.fingerprint,
            "preprocessing": self._embedder.preprocessing.to_dict(),
            "mirror": request.mirror,
            "resize": request.resize,
        }

    def of(self, names, images):
        """Return the features `(N, dim)` of images.

        Args:
            names: Their names.
            images: `FolderImages` or `PackedImages`.
        """
        listed, before = listed_images(names, images), self._embedder.embedded
        with progress_bar("images") as progress:
            embedded = embed_images(self._embedder, listed, progress=progress, **self._options())
        new = self._embedder.embedded - before
        both = (1 + (self._mirror != "none")) * len(listed)
        typer.echo(f"{self.name}: {new:,} images embedded, {both - new:,} taken from the cache", err=True)
        return self._fused(embedded)

    def blocks(self, names, images):
        """Yield the features of images in blocks.

        Args:
            names: Their names.
            images: `FolderImages`.
        """
        with progress_bar("distractors") as progress:
            listed = listed_images(names, images)
            for embedded in embed_blocks(self._embedder, listed, progress=progress, **self._options()):
                yield self._fused(embedded)

    def _options(self):
        return {"mirror": "none" if self._mirror == "none" else "both", "cache": self._cache}

    def _fused(self, embedded):
        fusion = None if embedded.mirrored is None else self._mirror
        return fused_features(embedded.front, embedded.mirrored, fusion, len(embedded.front))


class StoredFeatures:
    """Features from a file of embeddings, or from a directory of MegaFace's feature files.

    Args:
        path: An `.npz` file of names and embeddings, or a directory.
        request: A `Request`.
    """

    def __init__(self, path, request):
        self._path, self._suffix = path, request.feature_suffix
        self.name = os.path.basename(os.path.abspath(path))
        self.settings = {"embeddings": os.fspath(path)}

    def of(self, names, images):
        """Return the features `(N, dim)` of images.

        Args:
            names: Their names.
            images: Is not needed.
        """
        if os.path.isdir(self._path):
            return np.concatenate(list(MegafaceFeatures(self._path, names, self._suffix)))
        stored, embeddings = load_embeddings(self._path)
        return fused_features(named_rows(stored, embeddings, names, self._path), None, None, len(names))


def open_features(path, request):
    """Return the `ModelFeatures` of a SavedModel, or `StoredFeatures`.

    Args:
        path: `--model`, `--embeddings` or `--compare`.
        request: A `Request` that was checked.
    """
    model = os.path.isdir(path) and path != request.embeddings
    return ModelFeatures(path, request) if model else StoredFeatures(path, request)


def listed_images(names, images):
    """Return pairs of a name and the image, its bytes or its path, none of which leads out of its directory.

    Args:
        names: Names of images.
        images: `FolderImages` or `PackedImages`.

    Raises:
        ValueError: If images are missing, or a link leads out of the directory; the first missing ones are listed.
    """
    if not isinstance(images, FolderImages):
        check_none_missing(images.missing(names), len(names), "The protocol's file lacks")
        return [(name, images.read(name)) for name in names]
    check_none_missing(images.missing(names), len(names), f"{images.root} lacks")
    files = ContainedFiles(images.root)
    for name in names:
        files.check(name)
    return [(name, os.path.join(images.root, name)) for name in names]
