"""MegaFace's distractors: images to embed, feature files, or one matrix."""

import os

import numpy as np

from keras_normface.cli.evaluate_features import ModelFeatures
from keras_normface.data.identity_folder import EXTENSIONS
from keras_normface.embedding_store.stored import DAMAGE
from keras_normface.protocols import FolderImages, MegafaceFeatures


def find_distractors(request):
    """Return what `open_protocol` needs to know of the distractors: their list, or their number.

    Args:
        request: A `Request`.

    Raises:
        ValueError: If there are none, or `--distractors` is no matrix.
        OSError: If they cannot be read.
    """
    if request.distractor_list is not None:
        return os.fspath(request.distractor_list)
    return len(_matrix(request) if request.distractors.is_file() else _names(request))


def distractor_features(request, protocol, features):
    """Return the features of the distractors, an array on the disk or an iterable of blocks.

    Args:
        request: A `Request`.
        protocol: A `MegaFaceProtocol`.
        features: What makes or holds those of the probes.

    Raises:
        ValueError: If they are images and `features` comes from a file, or one is missing or damaged.
        OSError: If they cannot be read.
    """
    if request.distractors.is_file():
        return _matrix(request)
    names = list(protocol.distractors) if isinstance(protocol.distractors, tuple) else _names(request)
    if request.feature_suffix is not None:
        return MegafaceFeatures(request.distractors, names, request.feature_suffix)
    if not isinstance(features, ModelFeatures):
        raise ValueError(
            f"--distractors {request.distractors} holds images, which {features.name} cannot embed: give --model, or "
            "--feature-suffix if these are feature files"
        )
    return features.blocks(names, FolderImages(request.distractors))


def _matrix(request):
    path = request.distractors
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise ValueError(f"{path} must be an .npy file with a matrix: {error}") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        raise ValueError(f"{path} must be an .npy file with a matrix, a row for each distractor")
    return matrix


def _names(request):
    """Return the sorted names of the images, or of the images of the feature files, below a directory."""
    endings = EXTENSIONS if request.feature_suffix is None else (request.feature_suffix,)
    names = []
    for directory, _, files in os.walk(request.distractors):
        below = os.path.relpath(directory, request.distractors).replace(os.sep, "/")
        wanted = [file for file in files if file.lower().endswith(tuple(ending.lower() for ending in endings))]
        names += [file if below == "." else f"{below}/{file}" for file in wanted]
    if not names:
        raise ValueError(f"{request.distractors} must hold distractors, files that end in {', '.join(endings)}")
    names.sort()
    return names if request.feature_suffix is None else [name[: -len(request.feature_suffix)] for name in names]
