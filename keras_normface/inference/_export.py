"""From a trained model to the exported one: image in, unit embedding out, in a file that needs no Keras."""

import contextlib
import dataclasses
import io
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_normface import _validation
from keras_normface._io import failed_writes_named
from keras_normface._walk import all_layers
from keras_normface.checks import preprocessing_in
from keras_normface.inference._card import FLIPS, FORMATS, QUANTIZATIONS, CardFigure, ModelCard, write_files
from keras_normface.inference._converters import litert_versions, onnx_versions, write_litert, write_onnx
from keras_normface.inference._directory import check_replaceable, replace_directory, restore_interrupted
from keras_normface.inference._runtimes import open_runtime
from keras_normface.layers import CosineDense, PixelScaling
from keras_normface.models import EmbeddingModel
from keras_normface.version import __version__

LEAST_COSINE = 1 - 1e-6
RANDOM_IMAGES, BATCH = 16, 32
_WRITERS = {"onnx": (write_onnx, onnx_versions), "litert": (write_litert, litert_versions)}
GIVEN = ("licence", "source", "training_data", "recipe", "threshold", "figures", "compatible_with")


def embedding_model(model, *, layer=None, flip="none", preprocessing=None):
    """Cut the embedding model out of a trained model and end it on the unit sphere.

    Args:
        model: A functional or sequential `keras.Model`, or an `EmbeddingModel` over one.
        layer: Name of the layer whose output is the embedding. `None` takes the input of the model's
            `CosineDense` layers, or the whole model if it has none.
        flip: `"none"`, or `"sum"`: the embeddings of the image and of the flipped image are summed before they are
            normalised; the input must then be images `(height, width, channels)`.
        preprocessing: `None`, or the `Preprocessing` of the images that `model` was trained on. The embedding
            model then takes raw images, uint8 RGB `(batch, height, width, 3)`, and scales them itself.

    Returns:
        A functional `keras.Model` with float32 outputs `(batch, dim)` of unit length, sharing layers and weights with
        `model`, and so its precision. A zero embedding stays zero. Augmentation and dropout do not act, unless it is
        called with `training=True`.

    Raises:
        ValueError: If the embedding cannot be determined, the layer does not exist, the input is not an image, or it is
            not what `preprocessing` makes.

    Source: NormFace (arXiv 1704.06369), §5.1, for the fusion.

    Example:
    >>> import keras
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> embedding_model(classifier).output_shape
    (None, 4)
    """
    if flip not in FLIPS:
        raise ValueError(f"`flip` must be one of {FLIPS}. Received: flip={flip!r}")
    if isinstance(model, EmbeddingModel):
        model = model.backbone
    if len(model.inputs) != 1:
        raise ValueError(f"`model` must have one input. Received: {len(model.inputs)} inputs")
    backbone = keras.Model(model.inputs[0], _embedding_tensor(model, layer))
    image, pixels = _image_and_pixels(model, preprocessing)
    # Keras's augmentation layers act unless they are told that this is inference.
    embedding = backbone(pixels, training=False)
    if flip == "sum":
        if len(pixels.shape) != 4:
            raise ValueError(
                "`flip` needs images (batch, height, width, channels) as input. "
                f"Received: an input of shape {pixels.shape}"
            )
        channels_last = preprocessing is not None or keras.config.image_data_format() == "channels_last"
        mirrored = ops.flip(pixels, axis=2 if channels_last else 3)
        embedding = _in_float32(embedding) + _in_float32(backbone(mirrored, training=False))
    unit = keras.layers.UnitNormalization(dtype="float32", name="unit_embedding")(_in_float32(embedding))
    return keras.Model(image, unit, name="embedding")


def export_embedding_model(
    model,
    path,
    *,
    layer=None,
    flip="none",
    preprocessing=None,
    format="saved_model",
    quantize="none",
    images=None,
    check=None,
    card=None,
    overwrite=False,
):
    """Write the embedding model of a trained model, as a SavedModel, for ONNX or for LiteRT.

    What is written needs neither this package nor Keras: a SavedModel is loaded by `tf.saved_model.load(path)`, and its
    `serve` function maps images to unit embeddings; `model.onnx` is run by `onnxruntime`, `model.tflite` by
    `ai-edge-litert`; all take any number of images. Layers trained in `mixed_float16` or `mixed_bfloat16` compute in
    float32 there. It is compared with the Keras model, then renamed to `path`, so `path` is never half-written. Where
    an export with `overwrite` was killed between moving the earlier model aside and that rename, the next call puts the
    earlier model back, with a warning that names both places.

    Args:
        model: See `embedding_model`.
        path: Directory to write.
        layer: See `embedding_model`.
        flip: See `embedding_model`.
        preprocessing: See `embedding_model`. It, or that of the model's own `PixelScaling`, is also in the card. ONNX
            and LiteRT need one of them.
        format: "saved_model", "onnx" (needs the extra `onnx`) or "litert" (the extra `litert`).
        quantize: "none", float32, which is all that a SavedModel has. For the others also "float16" and "dynamic",
            8-bit weights, with activations that are quantized as they come; and "int8", 8-bit weights and activations,
            whose ranges are those of `images`.
        images: `None`, or aligned faces, uint8 RGB `(n, height, width, 3)`, as the model meets them: the model that
            was written is compared with the Keras model on them, and must have cosines of at least 1 - 1e-6 with it
            unless it is quantized; the smallest is in the card's figures. Without them ONNX and LiteRT are compared on
            random pixels; "int8" needs them.
        check: `None`, or a function that is called before the model is put in place, with two functions from images,
            as above, to embeddings: the Keras model and the one that was written. It returns a list of `CardFigure`,
            which the card receives; a ValueError in it refuses the model.
        card: `None`, or a dictionary of what only you know of the model, as fields of `ModelCard`: "licence", "source"
            and "training_data" of the weights, "recipe", "threshold", "figures". The card lies in `path` as
            `model.json`, which `read_card` reads, and for people as `README.md`.
        overwrite: Whether an exported model that is in `path` may be replaced.

    Returns:
        The embedding model that was written, a `keras.Model`; it computes in the precision of `model`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set, or it holds something else than an exported
            model.
        ValueError: From `embedding_model`; if `format` and `quantize` do not go together, or the model takes no raw
            images as ONNX and LiteRT need them; if `images` do not fit; if `card` has another key, or a value that
            `ModelCard` does not take; or if the model that was written differs from the Keras model. What was in `path`
            stays.
        ImportError: If a package that writes or runs the format is not installed; the message says what to install.
        OSError: If it cannot be written, as on a full disk; what was in `path` stays.

    Example:
    >>> import keras, tempfile
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(classifier, directory + "/embedding")
    """
    _check_form(format, quantize)
    path = Path(path)
    restore_interrupted(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` exists; pass overwrite=True to replace it. Received: path={path}")
    check_replaceable(path)
    cut = embedding_model(model, layer=layer, flip=flip, preprocessing=preprocessing)
    images = _checked_images(cut, format, quantize, images)
    versions = {} if format == "saved_model" else _WRITERS[format][1]()
    made = _card(cut, format, quantize, flip, versions, _checked_given({} if card is None else card))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with _computing_in_float32(cut), failed_writes_named(path):
            _write(cut, beside / "new", path, format, quantize, images)
            figures = _compared(cut, beside / "new", format, quantize, images, check)
        write_files(beside / "new", dataclasses.replace(made, figures=made.figures + figures))
        replace_directory(beside / "new", path, beside / "old")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return cut


def _check_form(format, quantize):
    _validation.choice("format", format, tuple(FORMATS))
    _validation.choice("quantize", quantize, QUANTIZATIONS)
    if format == "saved_model" and quantize != "none":
        raise ValueError(
            "`quantize` must be 'none' for format='saved_model': ONNX and LiteRT can be quantized. "
            f"Received: quantize={quantize!r}"
        )


def _checked_images(cut, format, quantize, images):
    """The images to compare on: those given, or random ones; `None` for a SavedModel without any."""
    shape = tuple(cut.inputs[0].shape[1:])
    if preprocessing_in(cut) is None and (format != "saved_model" or images is not None):
        raise ValueError(
            "`preprocessing` must be given, or be in the model: ONNX and LiteRT, and `images`, are for models of raw "
            f"images. Received: a model that takes {cut.inputs[0].dtype} of shape {shape}"
        )
    if images is None:
        if quantize == "int8":
            raise ValueError("`images` must be given for quantize='int8', whose ranges they set. Received: images=None")
        random = np.random.default_rng(0).integers
        return None if format == "saved_model" else _Images(random(0, 256, (RANDOM_IMAGES, *shape), "uint8"), True)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"`images` must be uint8 of shape (n, {', '.join(map(str, shape))}), at least one. "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    return _Images(images, False)


class _Images(NamedTuple):
    """Images to compare on, and whether they are random."""

    pixels: np.ndarray
    random: bool


def _write(cut, directory, path, format, quantize, images):
    if format == "saved_model":
        # Keras 3.8 prints whatever `verbose` says.
        with contextlib.redirect_stdout(io.StringIO()):
            _export(cut, directory, path)
    else:
        directory.mkdir()
        write, _ = _WRITERS[format]
        write(cut, str(directory / FORMATS[format]), quantize, images.pixels)


def _compared(cut, directory, format, quantize, images, check):
    """Compare the model that was written with the Keras model → its figures; ValueError if they differ."""
    if images is None and check is None:
        return ()
    written = open_runtime(directory, format, quantize).call

    def original(pixels):
        parts = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return np.concatenate([ops.convert_to_numpy(cut(part, training=False)) for part in parts])

    def exported(pixels):
        return np.concatenate([written(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)])

    figures = [] if images is None else [_smallest_cosine(original, exported, images, quantize)]
    return (*figures, *([] if check is None else check(original, exported)))


def _smallest_cosine(original, exported, images, quantize):
    from keras_normface.metrics import unit_rows  # here, since what embeds alone needs no metrics

    ours, theirs = (unit_rows(embed(images.pixels), "embeddings") for embed in (original, exported))
    smallest = float(np.sum(ours * theirs, axis=1).min())
    if not smallest >= (LEAST_COSINE if quantize == "none" else -1):  # nor NaN
        raise ValueError(f"The exported model differs from the Keras model: cosine {smallest:.8f}, not {LEAST_COSINE}")
    data = f"{len(images.pixels)} {'images of random pixels' if images.random else 'images'}"
    return CardFigure("smallest cosine to the Keras model in float32", smallest, data)


@contextlib.contextmanager
def _computing_in_float32(model):
    """Inside, layers of mixed precision, whose weights are float32, compute in float32."""
    mixed = {
        layer: layer.dtype_policy
        for layer in all_layers(model)
        if layer.dtype_policy.name in ("mixed_float16", "mixed_bfloat16")
    }
    try:
        for layer in mixed:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in mixed.items():
            layer.dtype_policy = policy


def _export(model, directory, path):
    """Export to a directory; what TensorFlow raises where it cannot write becomes an OSError that names `path`."""
    import tensorflow as tf

    errors = tf.errors
    try:
        model.export(str(directory), format="tf_saved_model", verbose=False)
    except (
        *(errors.ResourceExhaustedError, errors.OutOfRangeError, errors.PermissionDeniedError, errors.DataLossError),
        *(errors.UnknownError, errors.FailedPreconditionError),
    ) as error:
        raise OSError(f"{path} could not be written, is the disk full? {type(error).__name__}: {error}") from error


def _card(cut, format, quantize, flip, versions, given):
    """The `ModelCard` of an embedding model; `given` has what the model does not know."""
    return ModelCard(
        format=format,
        quantization=quantize,
        input_shape=tuple(cut.inputs[0].shape[1:]),
        input_dtype=keras.backend.standardize_dtype(cut.inputs[0].dtype),
        dimension=cut.output_shape[-1],
        flip=flip,
        preprocessing=preprocessing_in(cut),
        versions={**_versions(), **versions},
        **given,
    )


def _versions():
    import tensorflow as tf

    packages = {"keras": keras, "tensorflow": tf, "numpy": np}
    return {"keras_normface": __version__} | {name: package.__version__ for name, package in packages.items()}


def _checked_given(card):
    """Refuse fields of a card that the export knows by itself."""
    if not isinstance(card, dict) or not set(card) <= set(GIVEN):
        raise ValueError(f"`card` must be a dictionary of {', '.join(GIVEN)}. {_validation.received('card', card)}")
    return card


def _image_and_pixels(model, preprocessing):
    """Return the input of the embedding model, and what its backbone is called with."""
    shape, dtype = model.inputs[0].shape, model.inputs[0].dtype
    if preprocessing is None:
        image = keras.Input(batch_shape=shape, dtype=dtype, name="image")
        return image, image
    if not keras.backend.is_float_dtype(dtype) or preprocessing_in(model) is not None:
        raise ValueError(
            "`preprocessing` must be None for a model that takes raw images already. "
            f"Received: {preprocessing}, a model with inputs of dtype {dtype}"
        )
    made = (shape[0], *preprocessing.output_shape)
    if len(shape) != 4 or any(theirs not in (None, ours) for theirs, ours in zip(shape, made, strict=True)):
        raise ValueError(
            "`preprocessing` must make what the model takes, (batch, height, width, channels). "
            f"Received: preprocessing makes {made}, the model takes {shape}"
        )
    image = keras.Input(batch_shape=(shape[0], *preprocessing.size, 3), dtype="uint8", name="image")
    return image, PixelScaling(preprocessing, name="pixel_scaling")(image)


def _embedding_tensor(model, layer):
    if layer is not None:
        return model.get_layer(layer).output
    tensors = [layer.input for layer in model.layers if isinstance(layer, CosineDense)]
    if not tensors:
        if len(model.outputs) != 1:
            raise ValueError(
                "`layer` must be given for a model without CosineDense and with several outputs. "
                f"Received: layer=None, outputs={[tensor.shape for tensor in model.outputs]}"
            )
        return model.outputs[0]
    if any(tensor is not tensors[0] for tensor in tensors):
        raise ValueError(
            "`layer` must be given for a model whose CosineDense layers have different inputs. Received: layer=None"
        )
    return tensors[0]


def _in_float32(tensor):
    return ops.cast(tensor, "float32")
