"""MobileFaceNet, a network of one million parameters for phones."""

import keras
from keras import layers

from keras_normface.backbones._blocks import (
    EMBEDDING,
    batch_norm,
    checked_input,
    convolution,
    dense_on_map,
    full_precision,
    prelu,
    torch_kaiming,
)

# The paper's t, c, n and s: expansion, channels, units, stride of the first.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def MobileFaceNet(input_shape=(112, 112, 3), embedding_dim=128, dropout=0.0, name=None):
    """MobileFaceNet: inverted bottlenecks, and one weight for each pixel of the last map instead of its average.

    A 3×3 convolution of stride 2 and a depthwise 3×3 convolution with 64 channels; fifteen bottlenecks; a 1×1
    convolution to 512 channels; a depthwise convolution as large as the map ("linear GDConv"), 7×7 at 112×112
    pixels; a linear layer. A bottleneck is a 1×1 convolution that widens, a depthwise 3×3 convolution, and a 1×1
    convolution that narrows; its input is added where it has the same shape. Batch norm follows each convolution and
    the linear layer, PReLU all but those that narrow and the last two. No layer has a bias.

    First weights: normal with variance 2 / fan_out, that of one channel in depthwise convolutions; the paper does not
    name any.

    Args:
        input_shape: `(height, width, channels)` in pixels. The paper has 112×112, 112×96 and 96×96.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the linear layer.
        name: Name of the model.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stem_depthwise`, `stage1_unit1_expand`, `stage1_unit1_depthwise`, `stage1_unit1_project`,
        ..., `last_conv`, `global_depthwise`, `fc`, `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: MobileFaceNets (arXiv 1804.07573), table 1 and §3.3.

    Example:
    >>> model = MobileFaceNet((112, 96, 3))
    >>> model.output_shape, model.get_layer("last_conv").output.shape, len(model.get_layer("global_depthwise").weights)
    ((None, 128), (None, 7, 6, 512), 1)
    """
    image = checked_input(input_shape, embedding_dim, dropout)
    tensor = _activated(_convolution(image, 64, "stem_conv", size=3, strides=2), "stem_conv")
    tensor = _activated(_depthwise(tensor, 3, "stem_depthwise"), "stem_depthwise")
    for stage, (expansion, channels, count, strides) in enumerate(STAGES, start=1):
        for unit in range(1, count + 1):
            tensor = _unit(tensor, expansion, channels, strides if unit == 1 else 1, f"stage{stage}_unit{unit}")
    tensor = _activated(_convolution(tensor, 512, "last_conv"), "last_conv")
    tensor = _depthwise(tensor, tuple(tensor.shape[1:3]), "global_depthwise", pad=False)
    tensor = dense_on_map(tensor, embedding_dim, dropout, "fc", torch_kaiming(), bias=None)
    tensor = batch_norm(tensor, EMBEDDING, dtype=full_precision())
    return keras.Model(image, tensor, name=name or "mobilefacenet")


def _unit(tensor, expansion, channels, strides, prefix):
    branch = _convolution(tensor, expansion * tensor.shape[-1], f"{prefix}_expand")
    branch = _activated(branch, f"{prefix}_expand")
    branch = _depthwise(branch, 3, f"{prefix}_depthwise", strides)
    branch = _activated(branch, f"{prefix}_depthwise")
    branch = _convolution(branch, channels, f"{prefix}_project")
    if strides > 1 or tensor.shape[-1] != channels:
        return branch
    return layers.Add(name=f"{prefix}_add")([tensor, branch])


def _activated(tensor, name):
    return prelu(tensor, f"{name}_prelu")


def _convolution(tensor, channels, name, size=1, strides=1):
    tensor = convolution(tensor, channels, name, torch_kaiming(), size=size, strides=strides, bias=None)
    return batch_norm(tensor, f"{name}_bn")


def _depthwise(tensor, size, name, strides=1, pad=True):
    if pad and strides > 1:
        tensor = layers.ZeroPadding2D(size // 2, data_format="channels_last", name=f"{name}_pad")(tensor)
    tensor = layers.DepthwiseConv2D(
        size,
        strides,
        "same" if pad and strides == 1 else "valid",
        data_format="channels_last",
        use_bias=False,
        depthwise_initializer=torch_kaiming(),
        name=name,
    )(tensor)
    return batch_norm(tensor, f"{name}_bn")
