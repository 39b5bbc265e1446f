"""Checks of whole models: each loss on the layer it expects, pixels scaled once, by data or model."""

import warnings

import keras

from keras_normface._walk import all_layers
from keras_normface.layers import CosineDense, LearnableScale, PixelScaling
from keras_normface.losses import NormFaceLoss, SphereLoss
from keras_normface.preprocessing import check_same_preprocessing
from keras_normface.sphere import softmax_loss_lower_bound


def check_model(model, data=None):
    """Check that a model's losses belong to its last layers, and that model and training data treat pixels alike.

    Losses on cosines and losses on logits take tensors of the same shape, so nothing else would reveal a wrong pair.
    Outputs whose last layer is another one, or whose loss is not of this package, are not checked.
    `compile` of `DistributedModel` and `EmbeddingModel` calls this, and so does `fit_resumable` with its data.

    Args:
        model: A functional or sequential `keras.Model`, or an `EmbeddingModel`, whose losses are its heads.
        data: Training data, or `None`. What has `preprocessing` and `scale`, such as `ImageBatches`, is compared with
            the model's `PixelScaling` and the shape of its inputs; other data are not looked at.

    Raises:
        ValueError: If a loss that expects cosines is applied to a `LearnableScale`; if pixels would be scaled twice or
            not at all, the preprocessing differs in a field (with both values), or the images are not of the model's
            size; without `data`, if the model has neither a loss nor heads.

    Warns:
        UserWarning: If `NormFaceLoss(scale=1)` is applied directly to `CosineDense`: it cannot fall below the
            bound that the warning names.

    Source: NormFace (arXiv 1704.06369), §3.3 and Proposition 2.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), CosineDense(5), LearnableScale()])
    >>> model.compile(loss=NormFaceLoss())
    >>> check_model(model)
    """
    has_loss = getattr(model, "loss", None) is not None
    if not has_loss and data is None and not getattr(model, "heads", None):
        raise ValueError(f"`model` must be compiled with a loss. Received: model={model!r}")
    for name, output, loss in _outputs_and_losses(model) if has_loss else ():
        if isinstance(loss, SphereLoss):
            _check_loss(name, loss, _producer(model, output))
    if hasattr(data, "preprocessing") and hasattr(data, "scale"):
        _check_pixels(model, data)


def _check_loss(name, loss, layer):
    """Refuse a loss on cosines on a `LearnableScale`; warn of a scale of 1 on bare cosines."""
    if isinstance(layer, LearnableScale) and loss.expects_cosines:
        scale = getattr(loss, "scale", None)
        own = f" with its own scale ({scale:g})" if scale is not None else ""
        raise ValueError(
            f"Output {name!r}: {type(loss).__name__}{own} expects cosines, but is applied to the logits of the "
            f"LearnableScale {layer.name!r}. Put it on CosineDense, or use NormFaceLoss(scale=1) here."
        )
    if isinstance(layer, CosineDense) and isinstance(loss, NormFaceLoss) and not loss.expects_cosines:
        if not (layer.normalize_inputs and layer.normalize_kernel):
            return
        bound = softmax_loss_lower_bound(layer.units, loss.scale)
        warnings.warn(
            f"Output {name!r}: NormFaceLoss(scale=1) is applied directly to CosineDense({layer.units}). The mean "
            f"loss cannot fall below {bound:.4g}, so training will stall. Put a LearnableScale between "
            "them, or give the loss a fixed scale of 20 to 30.",
            stacklevel=4,
        )


def _outputs_and_losses(model):
    outputs = list(getattr(model, "outputs", None) or [])
    names = list(getattr(model, "output_names", None) or [f"output_{k}" for k in range(len(outputs))])
    if isinstance(model.loss, dict):
        losses = [model.loss.get(name) for name in names]
    elif isinstance(model.loss, list | tuple):
        losses = list(model.loss)
    else:
        losses = [model.loss] * len(outputs)
    return list(zip(names, outputs, losses, strict=True))


def _producer(model, tensor):
    """The layer whose output `tensor` is, seen through linear activations; None if unknown."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer) or tensor is not _attribute(layer, "output"):
            continue
        if _is_transparent(layer):
            return _producer(model, _attribute(layer, "input"))
        return layer
    return None


def _is_transparent(layer):
    linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    return linear or isinstance(layer, keras.layers.Identity)


def _attribute(layer, name):
    try:
        return getattr(layer, name)
    except (AttributeError, ValueError):
        return None


def preprocessing_in(model):
    """Return the `Preprocessing` of the model's `PixelScaling`, or `None` if it has none.

    Args:
        model: A `keras.Model`.

    Raises:
        ValueError: If it has several that differ.

    Example:
    >>> import keras
    >>> from keras_normface.preprocessing import Preprocessing
    >>> scaling = PixelScaling(Preprocessing(size=(4, 3)))
    >>> preprocessing_in(keras.Sequential([keras.Input((4, 3, 3), dtype="uint8"), scaling])).size
    (4, 3)
    """
    found = list(dict.fromkeys(layer.preprocessing for layer in all_layers(model) if isinstance(layer, PixelScaling)))
    if len(found) > 1:
        raise ValueError(f"`model` must preprocess in one way. Received: a model with {found}")
    return found[0] if found else None


def _check_pixels(model, data):
    """Refuse data whose preprocessing or image size is not the model's."""
    own = preprocessing_in(model)
    if (own is None) != data.scale:
        scales = "nowhere: give the data scale=True, or the model a PixelScaling" if own is None else "twice"
        raise ValueError(
            "Pixels must be scaled by the data or by the model. "
            f"Received: data with scale={data.scale}, a model with {own}, so that they are scaled {scales}"
        )
    if own is not None:
        remedy = "Give the data the model's: ImageBatches(..., preprocessing=preprocessing_in(model), scale=False)"
        check_same_preprocessing(data.preprocessing, own, remedy=remedy)
    made = data.preprocessing.output_shape if data.scale else (*data.preprocessing.size, 3)
    inputs = getattr(getattr(model, "backbone", model), "inputs", None) or []
    taken = [tuple(tensor.shape)[1:] for tensor in inputs]
    if len(taken) == 1 and len(taken[0]) == 3 and any(t not in (None, m) for t, m in zip(taken[0], made, strict=True)):
        raise ValueError(
            "The data must make the images that the model takes. "
            f"Received: data of (height, width, channels) {made}, a model that takes {taken[0]}"
        )
