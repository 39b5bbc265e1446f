"""From a trained model to the exported one: image in, unit embedding out, as a self-contained SavedModel."""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_normface import _validation
from keras_normface._walk import all_layers
from keras_normface.checks import preprocessing_in
from keras_normface.inference._card import FLIPS, ModelCard, write_files
from keras_normface.inference._directory import replace_directory, restore_interrupted
from keras_normface.layers import CosineDense, PixelScaling
from keras_normface.models import EmbeddingModel
from keras_normface.version import __version__

GIVEN = ("licence", "source", "training_data", "recipe", "threshold", "figures")


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


def export_embedding_model(model, path, *, layer=None, flip="none", preprocessing=None, card=None, overwrite=False):
    """Write the embedding model of a trained model as a SavedModel.

    The SavedModel is loaded by `tf.saved_model.load(path)` in a process without this package; its `serve`
    function maps images to unit embeddings. Layers trained in `mixed_float16` or `mixed_bfloat16` compute
    in float32 there. It is written beside `path` and renamed, so `path` is never half-written. Where
    an export with `overwrite` was killed between moving the earlier model aside and that rename, the next call puts the
    earlier model back, with a warning that names both places.

    Args:
        model: See `embedding_model`.
        path: Directory to write.
        layer: See `embedding_model`.
        flip: See `embedding_model`.
        preprocessing: See `embedding_model`. It, or that of the model's own `PixelScaling`, is also in the card.
        card: `None`, or a dictionary of what only you know of the model, as fields of `ModelCard`: "licence", "source"
            and "training_data" of the weights, "recipe", "threshold", "figures". The card lies in `path` as
            `model.json`, which `read_card` reads, and for people as `README.md`.
        overwrite: Whether an existing `path` may be replaced.

    Returns:
        The embedding model that was written, a `keras.Model`; it computes in the precision of `model`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set.
        ValueError: From `embedding_model`, or `card` has another key, or a value that `ModelCard` does not take.
        OSError: If it cannot be written, as on a full disk; what was in `path` stays.

    Example:
    >>> import keras, tempfile
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(classifier, directory + "/embedding")
    """
    path = Path(path)
    restore_interrupted(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` exists; pass overwrite=True to replace it. Received: path={path}")
    cut = embedding_model(model, layer=layer, flip=flip, preprocessing=preprocessing)
    card = _card(cut, flip, _checked_given({} if card is None else card))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # Keras 3.8 prints whatever `verbose` says.
        with _computing_in_float32(cut), contextlib.redirect_stdout(io.StringIO()):
            _export(cut, beside / "new", path)
        write_files(beside / "new", card)
        replace_directory(beside / "new", path, beside / "old")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return cut


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


def _card(cut, flip, given):
    """The `ModelCard` of an embedding model; `given` has what the model does not know."""
    return ModelCard(
        format="saved_model",
        input_shape=tuple(cut.inputs[0].shape[1:]),
        input_dtype=keras.backend.standardize_dtype(cut.inputs[0].dtype),
        dimension=cut.output_shape[-1],
        flip=flip,
        preprocessing=preprocessing_in(cut),
        versions=_versions(),
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
