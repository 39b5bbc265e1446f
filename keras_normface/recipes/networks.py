"""The backbone of a recipe, by its name."""

import inspect

import keras

from keras_normface import backbones

OURS = {
    "SphereFaceNet": backbones.SphereFaceNet,
    "ResNet27": backbones.ResNet27,
    "LightCNN": backbones.LightCNN,
    "IResNet": backbones.IResNet,
}


def known_backbones():
    """Return the names of all backbones: those of this package, and the functions of `keras.applications`.

    Example:
    >>> "IResNet" in known_backbones(), "MobileNet" in known_backbones()
    (True, True)
    """
    theirs = [name for name in dir(keras.applications) if name[0].isupper()]
    return (*OURS, *theirs)


def build_backbone(name, input_shape, embedding_dim, dropout, options):
    """Build a network from images to embeddings.

    A network of `keras.applications` comes without its top and, unless `options` say otherwise, without weights and
    without scaling of pixels; its last map is averaged, and a dense layer called `embedding` follows.

    Args:
        name: One of `known_backbones()`.
        input_shape: `(height, width, channels)` in pixels.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped, where the network drops.
        options: Other arguments of the function.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an option is not known, and from the function.

    Example:
    >>> build_backbone("SphereFaceNet", (16, 16, 3), 8, 0.0, {"depth": 4}).output_shape
    (None, 8)
    """
    function = OURS.get(name) or getattr(keras.applications, name)
    try:
        if name in OURS:
            return function(input_shape=input_shape, embedding_dim=embedding_dim, dropout=dropout, **options)
        arguments = {"weights": None, "pooling": "avg", **options}
        if "include_preprocessing" in inspect.signature(function).parameters:
            arguments.setdefault("include_preprocessing", False)
        base = function(include_top=False, input_shape=input_shape, **arguments)
    except TypeError as error:
        raise ValueError(f"`backbone_options` must be arguments of {name}. Received: {options!r}: {error}") from error
    return _with_embedding(base, embedding_dim, dropout)


def scales_pixels(model):
    """Whether a network scales pixels itself, as `EfficientNetB0` of `keras.applications` always does.

    Args:
        model: A `keras.Model`.

    Example:
    >>> scales_pixels(keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Rescaling(1 / 255)]))
    True
    """
    return any(isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in model.layers)


def _with_embedding(base, embedding_dim, dropout):
    tensor = base.output
    if dropout:
        tensor = keras.layers.Dropout(dropout, name="dropout_before_embedding")(tensor)
    full_precision = keras.config.dtype_policy().variable_dtype
    tensor = keras.layers.Dense(embedding_dim, dtype=full_precision, name="embedding")(tensor)
    return keras.Model(base.input, tensor, name=base.name)
