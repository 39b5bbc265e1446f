"""From a trained model to the product: image in, unit embedding out, a SavedModel that needs no package."""

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import keras
from keras import ops

from keras_normface.layers import CosineDense
from keras_normface.models import EmbeddingModel


def embedding_model(model, *, layer=None, fuse_mirror=False):
    """Cut the embedding model out of a trained model and end it on the unit sphere.

    Args:
        model: A functional or sequential `keras.Model`, or an `EmbeddingModel` over one.
        layer: Name of the layer whose output is the embedding. `None` takes the input of the model's
            `CosineDense` layers, or the whole model if it has none.
        fuse_mirror: Whether the embeddings of the image and of its mirror image are summed before they are
            normalised; the input must then be images `(height, width, channels)`.

    Returns:
        A functional `keras.Model` with float32 outputs `(batch, dim)` of unit length, sharing the weights
        of `model`. A zero embedding stays zero.

    Raises:
        ValueError: If the embedding cannot be told, the layer does not exist, or the input is no image.

    Source: NormFace (arXiv 1704.06369), §5.1, for the fusion.

    Example:
    >>> import keras
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> embedding_model(classifier).output_shape
    (None, 4)
    """
    if isinstance(model, EmbeddingModel):
        model = model.backbone
    if len(model.inputs) != 1:
        raise ValueError(f"`model` must have one input. Received: {len(model.inputs)} inputs")
    backbone = keras.Model(model.inputs[0], _embedding_tensor(model, layer))
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype, name="image")
    embedding = backbone(image)
    if fuse_mirror:
        if len(image.shape) != 4:
            raise ValueError(
                "`fuse_mirror` needs images (batch, height, width, channels) as input. "
                f"Received: an input of shape {image.shape}"
            )
        width_axis = 2 if keras.config.image_data_format() == "channels_last" else 3
        embedding = _in_float32(embedding) + _in_float32(backbone(ops.flip(image, axis=width_axis)))
    unit = keras.layers.UnitNormalization(dtype="float32", name="unit_embedding")(_in_float32(embedding))
    return keras.Model(image, unit, name="embedding")


def export_embedding_model(model, path, *, layer=None, fuse_mirror=False, overwrite=False):
    """Write the embedding model of a trained model as a SavedModel.

    The SavedModel is loaded by `tf.saved_model.load(path)` in a process without this package; its `serve`
    function maps images to unit embeddings. It is written beside `path` and renamed, so `path` is never
    half-written.

    Args:
        model: See `embedding_model`.
        path: Directory to write.
        layer: See `embedding_model`.
        fuse_mirror: See `embedding_model`.
        overwrite: Whether an existing `path` may be replaced.

    Returns:
        The embedding model that was written, a `keras.Model`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set.
        ValueError: From `embedding_model`.

    Example:
    >>> import keras, tempfile
    >>> classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), CosineDense(3)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model = export_embedding_model(classifier, directory + "/embedding")
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` exists; pass overwrite=True to replace it. Received: path={path}")
    cut = embedding_model(model, layer=layer, fuse_mirror=fuse_mirror)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Keras 3.8 prints whatever `verbose` says
            cut.export(str(beside / "new"), format="tf_saved_model", verbose=False)
        _replace_directory(beside / "new", path, beside / "old")
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return cut


def _replace_directory(new, path, old):
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise


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
