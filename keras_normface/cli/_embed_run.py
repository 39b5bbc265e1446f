"""What `keras-normface embed` does once its options are checked."""

import os

import numpy as np

from keras_normface._io import ContainedFiles, files_below
from keras_normface.cli._console import say
from keras_normface.cli._verify_run import open_embedder
from keras_normface.data import EXTENSIONS, PHOTO_EXTENSIONS
from keras_normface.inference import embed_images, save_embeddings
from keras_normface.protocols.pairs import flip_fused

__all__ = ["open_embedder", "save_embeddings"]

SHOWN_NAMES = 10


def list_images(sources, aligned):
    """Paths of images and folders → pairs (name, path), and how many files in the folders are of other kinds."""
    endings, images, others = EXTENSIONS if aligned else PHOTO_EXTENSIONS, {}, 0
    for source in sources:
        found, skipped = _below(source, endings) if os.path.isdir(source) else ([(source.as_posix(), source)], 0)
        others += skipped
        for name, path in found:
            if images.setdefault(name, os.fspath(path)) != os.fspath(path):
                raise ValueError(
                    f"The images must have different names. Received: {name} as {images[name]} and as {path}; give the "
                    "folder that holds both"
                )
    if not images:
        raise ValueError(f"There is no image in {', '.join(map(str, sources))}: none ends in {', '.join(endings)}")
    return list(images.items()), others


def _below(root, endings):
    """Sorted pairs (path from the folder, path) of the images below it, none of which leads out; number of others."""
    files, names = ContainedFiles(root), files_below(root)
    images = [name for name in names if name.lower().endswith(endings)]
    return [(name, files.checked_path(name)) for name in images], len(names) - len(images)


def embed_all(embedder, images, flip, cache, progress):
    """Pairs (name, path) → (N, dim) unit rows, of NaN for a photo without a face."""
    mirror = "both" if flip else "none"
    embedded = embed_images(embedder, images, mirror=mirror, cache=cache, progress=progress)
    rows, there = embedded.front, ~np.isnan(embedded.front[:, 0])
    if flip and there.any():
        rows = rows.copy()
        fused = flip_fused(embedded.front[there], embedded.mirrored[there], "sum", int(there.sum()))
        rows[there] = fused / np.linalg.norm(fused, axis=1, keepdims=True)
    return rows


def with_a_face(rows, names, skip):
    """Rows and names without those of photos that hold no face, which are listed, or are an error unless `skip`."""
    there = ~np.isnan(rows[:, 0])
    without = [name for name, known in zip(names, there, strict=True) if not known]
    if without:
        more = "" if len(without) <= SHOWN_NAMES else f" and {len(without) - SHOWN_NAMES:,} more"
        listed = f"{len(without):,} of {len(names):,} photos hold no face that is found: "
        listed += f"{', '.join(without[:SHOWN_NAMES])}{more}"
        if not skip:
            raise ValueError(f"{listed}; --skip-no-face leaves them out")
        if not there.any():
            raise ValueError(f"{listed}; nothing is left to write")
        say(listed, err=True)
    return rows[there], [name for name, known in zip(names, there, strict=True) if known]


def embed_summary(embedder, images, rows):
    """The rows of the table."""
    return [
        ("images", f"{len(images):,}"),
        ("without a face", f"{len(images) - len(rows):,}"),
        ("embeddings", f"{len(rows):,}"),
        ("dimension", f"{rows.shape[1]:,}"),
        ("embedded now, mirror images too", f"{embedder.embedded:,}"),
        ("model", f"{os.path.basename(os.path.normpath(embedder.name))} ({embedder.shown_fingerprint})"),
    ]
