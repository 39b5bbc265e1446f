"""From a trained model to the exported one: image in, unit embedding out, as a self-contained SavedModel."""

import contextlib
import glob
import io
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import keras
from keras import ops

from keras_normface import _validation
from keras_normface._io import UNFINISHED_SECONDS, JsonFormat, json_text, read_bounded, write_text
from keras_normface._threshold import CalibratedThreshold
from keras_normface._walk import all_layers
from keras_normface.checks import preprocessing_in
from keras_normface.layers import CosineDense
from keras_normface.models import EmbeddingModel
from keras_normface.preprocessing import PixelScaling, preprocessing_from_json

EXTRA_FILE = Path("assets.extra") / "preprocessing.json"
EMBEDDING_FILE = Path("assets.extra/embedding.json")
FORMAT = JsonFormat("keras_normface.embedding", 1)
FLIPS = ("none", "sum")
THRESHOLD_FILE = Path("assets.extra") / "threshold.json"
LARGEST_EXTRA_FILE = 65536


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


def export_embedding_model(model, path, *, layer=None, flip="none", preprocessing=None, overwrite=False):
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
        preprocessing: See `embedding_model`. It, or that of the model's own `PixelScaling`, is also written into the
            SavedModel, as `assets.extra/preprocessing.json`; `read_preprocessing` reads it.
        overwrite: Whether an existing `path` may be replaced.

    Returns:
        The embedding model that was written, a `keras.Model`; it computes in the precision of `model`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set.
        ValueError: From `embedding_model`.
        OSError: If it cannot be written, as on a full disk; what was in `path` stays.

    Example:
    >>> import keras, tempfile
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(classifier, directory + "/embedding")
    """
    path = Path(path)
    _restore_interrupted(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` exists; pass overwrite=True to replace it. Received: path={path}")
    cut = embedding_model(model, layer=layer, flip=flip, preprocessing=preprocessing)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # Keras 3.8 prints whatever `verbose` says.
        with _computing_in_float32(cut), contextlib.redirect_stdout(io.StringIO()):
            _export(cut, beside / "new", path)
        preprocessing = preprocessing_in(cut)
        (beside / "new" / EMBEDDING_FILE).parent.mkdir(exist_ok=True)
        if preprocessing is not None:
            write_text(beside / "new" / EXTRA_FILE, json_text(preprocessing.to_dict()))
        FORMAT.write(beside / "new" / EMBEDDING_FILE, {"flip": flip})
        _replace_directory(beside / "new", path, beside / "old")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return cut


def read_preprocessing(path):
    """Read how a SavedModel of `export_embedding_model` treats pixels.

    Args:
        path: Directory of the SavedModel.

    Returns:
        A `Preprocessing`, or `None` if the model was exported without one.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        ValueError: If the file with the preprocessing is corrupt.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.preprocessing import Preprocessing
    >>> backbone = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(backbone, directory + "/e", preprocessing=Preprocessing(size=(6, 5)))
    ...     read_preprocessing(directory + "/e").size
    (6, 5)
    """
    return _read_extra(path, EXTRA_FILE, preprocessing_from_json)


def read_flip(path):
    """Read whether a SavedModel of `export_embedding_model` adds the flipped image's embedding by itself.

    Args:
        path: Directory of the SavedModel.

    Returns:
        `"none"` or `"sum"`, as the model was exported; `None` if it holds no record of it.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        ValueError: If the record is corrupt, or of another version.

    Example:
    >>> import keras, tempfile
    >>> backbone = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(backbone, directory + "/e", flip="sum")
    ...     read_flip(directory + "/e")
    'sum'
    """
    return _read_extra(path, EMBEDDING_FILE, _flip_from_json)


def store_threshold(path, threshold):
    """Store the threshold that was calibrated for an exported model with it, for whoever loads it.

    It becomes `assets.extra/threshold.json` of the SavedModel, with the cosine and the squared distance; an earlier
    one is replaced, whole or not at all. Exporting again with `overwrite=True` removes it: another model needs
    another threshold.

    Args:
        path: Directory of a SavedModel of `export_embedding_model`. The scores that the threshold was calibrated on
            must be cosines of THIS model's embeddings.
        threshold: `CalibratedThreshold`.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        ValueError: If `threshold` is not a `CalibratedThreshold`.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.metrics.calibration import calibrate_threshold
    >>> backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> threshold = calibrate_threshold([0.9, 0.7, 0.2, 0.125], [1, 1, 0, 0], 0.5, protocol="toy", repeats=20)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(backbone, directory + "/e")
    ...     store_threshold(directory + "/e", threshold)
    ...     read_threshold(directory + "/e") == threshold
    True
    """
    if not isinstance(threshold, CalibratedThreshold):
        raise ValueError(f"`threshold` must be a CalibratedThreshold. Received: {threshold!r}")
    extra = saved_model(path) / THRESHOLD_FILE
    extra.parent.mkdir(exist_ok=True)
    write_text(extra, threshold.to_json())


def read_threshold(path):
    """Read the threshold that `store_threshold` stored.

    Args:
        path: Directory of the SavedModel.

    Returns:
        A `CalibratedThreshold`, or `None` if none was stored.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        ValueError: If the file with the threshold is corrupt.

    Example:
    >>> import keras, tempfile
    >>> backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(backbone, directory + "/e")
    ...     print(read_threshold(directory + "/e"))
    None
    """
    return _read_extra(path, THRESHOLD_FILE, CalibratedThreshold.from_json)


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


def saved_model(path):
    """The path of a SavedModel; FileNotFoundError, which names what an interrupted export left, if it is none."""
    path = Path(path)
    if not (path / "saved_model.pb").is_file():
        old = _interrupted(path)
        hint = "" if old is None else f". An export to it was interrupted: the earlier model is in {old}; export again"
        raise FileNotFoundError(f"`path` must be the directory of a SavedModel. Received: path={path}{hint}")
    return path


def _flip_from_json(text):
    return _validation.choice("flip", FORMAT.parse(text).get("flip"), FLIPS)


def _read_extra(path, name, parse):
    extra = saved_model(path) / name
    return read_bounded(extra, parse, LARGEST_EXTRA_FILE) if extra.exists() else None


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


def _interrupted(path):
    """Where an export that was killed between its two renames left the model that was in `path`, or `None`."""
    return None if path.exists() else max(_moved_away(path), key=lambda old: old.stat().st_ctime, default=None)


def _moved_away(path):
    """What exports to `path`, and not to one whose name goes on after a dot, have moved out of their way."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*/old")
    return [old for old in found if old.parent.name.rpartition(".")[0] == f".{path.name}"]


def _restore_interrupted(path):
    """Put the model that was in `path` back there, with a warning."""
    for left in _moved_away(path) if path.exists() else ():  # of an export that was killed when all but this was done
        if time.time() - left.stat().st_ctime > UNFINISHED_SECONDS:
            shutil.rmtree(left.parent, ignore_errors=True)
    old = _interrupted(path)
    if old is not None:
        os.replace(old, path)
        shutil.rmtree(old.parent, ignore_errors=True)
        message = f"An export to {path} was interrupted: the earlier model, which it had moved to {old}, is there again"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _replace_directory(new, path, old):
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise


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
