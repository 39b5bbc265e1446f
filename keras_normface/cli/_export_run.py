"""What `keras-normface export` does once its options are checked: network, images, comparison, the model itself."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_normface import backbones, recipes
from keras_normface._arrays import DAMAGE, map_npy
from keras_normface._image_headers import check_pixels
from keras_normface._io import ContainedFiles, files_below
from keras_normface.cli import _run_directory
from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import say
from keras_normface.data import EXTENSIONS, center_crop, decode_image, read_pair_file
from keras_normface.inference import CardFigure, export_embedding_model, read_card
from keras_normface.metrics import cross_validated_accuracy, tar_at_far

MOST_IMAGES, MOST_FOLDS = 256, 10
SMALLEST_CLASSES = 2  # the heads are not exported
EXACT_CUT = ((112, 112), (112, 96))  # faces of the one template, cut in their middle, are those of the other
FEWEST_IMPOSTORS = 10  # behind the default rate of TAR@FAR


class Source(NamedTuple):
    """A network with weights and what goes with it; `card` as `export_embedding_model` takes it."""

    network: object
    preprocessing: object
    flip: str
    images: np.ndarray | None
    card: dict


def run_export(request):
    """Write the exported model, and print what it was compared by."""
    source = _ready(request) if request.run in READY_NETWORKS else _trained(request)
    images = source.images
    if request.calibration is not None:
        images = folder_images(request.calibration, source.preprocessing.size)
    card = source.card
    if request.licence is not None:
        card["licence"] = request.licence
    export_embedding_model(
        source.network,
        request.directory,
        flip=source.flip,
        preprocessing=source.preprocessing,
        format=request.to,
        quantize=request.quantize,
        images=images,
        check=None if request.pairs is None else PairCheck(request, source.preprocessing.size),
        card=card,
        overwrite=request.overwrite,
    )
    for figure in read_card(request.directory).figures:
        say(f"{figure.name}: {figure.value:.6g} on {figure.data}")


def _ready(request):
    found = backbones.pretrained(request.run)
    flip = request.flip or "none"
    card = {"licence": found.licence, "source": found.source}
    card["threshold"] = _threshold(found.threshold, flip == "none", request.quantize)
    return Source(found.network, found.preprocessing, flip, None, card)


def _trained(request):
    directory, flip = Path(request.run), request.flip or "sum"
    if not (directory / _run_directory.RECIPE_FILE).is_file():
        raise ValueError(
            f"RUN must be the output directory of keras-normface train or finetune, or {' or '.join(READY_NETWORKS)}. "
            f"Received: {request.run}"
        )
    recipe = recipes.read(directory / _run_directory.RECIPE_FILE)
    weights = directory / _run_directory.BACKBONE_FILE
    if not weights.is_file():
        raise ValueError(f"{weights} is missing: the training has not ended; the same command resumes it")
    run = _run_directory.read_run(directory / _run_directory.RUN_FILE)
    keras.mixed_precision.set_global_policy("float32")
    network = recipe.build(SMALLEST_CLASSES).backbone
    try:
        network.load_weights(weights)
    # h5py raises KeyError, OSError, RuntimeError and others for what is cut or of another network.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{weights} does not hold the weights of {recipe.backbone}: {reason}") from error
    card = _run_directory.card_of(recipe, run)
    if (directory / _run_directory.EXPORTED / "model.json").is_file():
        earlier = read_card(directory / _run_directory.EXPORTED)
        card["licence"] = earlier.licence
        same_numbers = flip == earlier.flip and earlier.quantization == "none"
        card["threshold"] = _threshold(earlier.threshold, same_numbers, request.quantize)
    for figure in card["figures"]:
        figure["name"] += " of the trained network, in float32 with flip sum"
    images = directory / "check_images.npy"
    return Source(network, recipe.preprocessing, flip, _stored_images(images), card)


def _threshold(threshold, same_numbers, quantize):
    """The threshold of the float32 network for what is exported from it: of the same flip, its quantization noted."""
    if threshold is None or not same_numbers or quantize == "none":
        return threshold if same_numbers else None
    noted = f"{threshold.protocol}, in float32 before the quantization to {quantize}"
    return dataclasses.replace(threshold, protocol=noted)


def _stored_images(path):
    """The images that the training wrote, or `None`."""
    if not path.exists():
        return None
    try:
        return np.array(map_npy(path))
    except DAMAGE as error:
        raise ValueError(f"{path} is corrupt: {' '.join(str(error).split())[:200]}") from error


def folder_images(folder, size):
    """Up to `MOST_IMAGES` images below a folder, evenly spread over its names, uint8 `(n, height, width, 3)`."""
    names = [name for name in files_below(folder) if name.lower().endswith(tuple(EXTENSIONS))]
    if not names:
        raise ValueError(f"--calibration {folder} holds no images, {' '.join(EXTENSIONS)}")
    files = ContainedFiles(folder)
    chosen = [
        names[place] for place in np.linspace(0, len(names) - 1, min(len(names), MOST_IMAGES)).round().astype(int)
    ]
    return np.stack([decoded(files.read(name), size, f"--calibration {folder}: {name}") for name in chosen])


def decoded(encoded, size, name):
    """Encoded image of this size, or 112x112 for 112x96 → uint8 `(height, width, 3)`; ValueError with its name."""
    check_pixels([encoded], lambda _: name)
    try:
        image = decode_image(encoded)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"{name} cannot be decoded: {' '.join(str(error.message).split())[:200]}") from error
    cut = (tuple(image.shape[:2]), tuple(size)) == EXACT_CUT
    if tuple(image.shape[:2]) != tuple(size) and not cut:
        raise ValueError(
            f"{name} must be an aligned face of {size[0]} x {size[1]} pixels (height x width). "
            f"Received: {image.shape[0]} x {image.shape[1]}; keras-normface align makes them"
        )
    return center_crop(image, size).numpy()


class PairCheck:
    """Accuracy and TAR@FAR on a pair file, before and after; ValueError if they fall too far."""

    def __init__(self, request, size):
        self._request, pairs = request, read_pair_file(request.pairs)
        self._same, path = pairs.same, request.pairs
        impostors = int(np.count_nonzero(~pairs.same))
        if not 0 < impostors < len(pairs):
            raise ValueError(
                f"--pairs {path} must hold genuine and impostor pairs. Received: {impostors} impostor pairs"
            )
        self._folds = next((count for count in range(MOST_FOLDS, 1, -1) if len(pairs) % count == 0), None)
        if self._folds is None:
            raise ValueError(f"--pairs {path} must make 2 to {MOST_FOLDS} equal folds. Received: {len(pairs)} pairs")
        self._far = max(1e-3, min(1.0, FEWEST_IMPOSTORS / impostors)) if request.far is None else request.far
        self._images = np.stack([decoded(image, size, f"--pairs {path}: {k}") for k, image in enumerate(pairs.images)])
        self._data = f"{path.name}, {len(pairs)} pairs"

    def __call__(self, original, exported):
        """Functions from images to embeddings of the network and of what was written → figures for the card."""
        before, after = self._figures(original(self._images)), self._figures(exported(self._images))
        for name, value in before.items():
            lost = value - after[name]
            if lost > self._request.max_loss and not self._request.insist:
                raise ValueError(
                    f"{name} on {self._data} falls from {value:.4f} to {after[name]:.4f}, by more than --max-loss "
                    f"{self._request.max_loss:g}; --insist writes the model all the same"
                )
        command = f"keras-normface export --pairs {self._request.pairs.name}"
        rows = [(name, after[name]) for name in before] + [(f"{name} of the network", before[name]) for name in before]
        return [CardFigure(name, value, self._data, command) for name, value in rows]

    def _figures(self, embeddings):
        rows = embeddings.astype("float64")
        scores = np.sum(rows[0::2] * rows[1::2], axis=1)
        accuracy = cross_validated_accuracy(scores, self._same, folds=self._folds)
        return {"accuracy": accuracy.mean, f"TAR@FAR={self._far:.3g}": tar_at_far(scores, self._same, self._far).tar}
