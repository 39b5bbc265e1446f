"""Light CNN with 9 and with 29 layers, and its activation, the max-feature-map."""

import keras
from keras import layers, ops

from keras_normface.backbones._blocks import (
    EMBEDDING,
    checked_choice,
    checked_input,
    convolution,
    dense_on_map,
    full_precision,
    halved,
    torch_uniform,
)

# After every stage's pooling come its residual units, then the group that ends it: channels and whether it pools.
STAGES = (("stage1", 96, True), ("stage2", 192, True), ("stage3", 128, False), ("stage4", 128, True))
UNITS = {9: (0, 0, 0, 0), 29: (1, 2, 3, 4)}


@keras.saving.register_keras_serializable(package="keras_normface")
class MaxFeatureMap(layers.Layer):
    """Max-feature-map: the larger one of channel `i` and channel `i + channels / 2`.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(..., channels)`, an even number. Output shape: `(..., channels / 2)`. It has no weights. Where both
    are equal, each gets half of the gradient.

    Raises:
        ValueError: When it is built, if the number of channels is not known or odd.

    Source: Light CNN (arXiv 1511.02683), MFM 2/1.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(MaxFeatureMap()(ops.array([[1.0, 5.0, 3.0, -2.0]]))).tolist()
    [[3.0, 5.0]]
    """

    def build(self, input_shape):
        """Check the number of channels."""
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        """Return the larger halves."""
        first, second = ops.split(inputs, 2, axis=-1)
        return ops.maximum(first, second)

    def compute_output_shape(self, input_shape):
        """Return the input's shape with half of the channels.

        Raises:
            ValueError: If their number is not known or odd.
        """
        if not input_shape[-1] or input_shape[-1] % 2:
            raise ValueError(
                f"The number of channels must be known and even. Received: input_shape={tuple(input_shape)}"
            )
        return (*input_shape[:-1], input_shape[-1] // 2)


def LightCNN(depth=29, input_shape=(128, 128, 1), embedding_dim=256, dropout=0.0, name=None):
    """Light CNN: a small network for grey faces whose only activation is the max-feature-map.

    A 5×5 convolution, then four stages: residual units of two 3×3 convolutions (at 29 alone), a 1×1 and a 3×3
    convolution; four times 2×2 max pooling; a dense layer. Every convolution and the dense layer have twice the
    channels that `MaxFeatureMap` lets through. First weights: PyTorch's defaults, as in the authors' PyTorch code.

    Args:
        depth: 9 or 29.
        input_shape: `(height, width, channels)` in pixels. Published with grey images of 128×128, pixels from 0 to 1.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction of the embedding that is dropped in training. The published code has 0.5.
        name: Name of the model.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stage2_unit1_conv1`, `stage2_reduce`, `stage2_conv`, ..., `fc`, `embedding`; with dropout,
        the last one is `dropout`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: Light CNN (arXiv 1511.02683); AlfredXiangWu/LightCNN, `light_cnn.py`.

    Example:
    >>> model = LightCNN(9)
    >>> model.output_shape, model.count_params()
    ((None, 256), 5480864)
    """
    units = checked_choice("depth", depth, UNITS)
    image = checked_input(input_shape, embedding_dim, dropout)
    tensor = halved(_mfm(image, 48, "stem_conv", 5), "stem_pool")
    for (stage, channels, pools), count in zip(STAGES, units, strict=True):
        for unit in range(1, count + 1):
            tensor = _unit(tensor, f"{stage}_unit{unit}")
        tensor = _mfm(tensor, tensor.shape[-1], f"{stage}_reduce", 1)
        tensor = _mfm(tensor, channels, f"{stage}_conv")
        tensor = halved(tensor, f"{stage}_pool") if pools else tensor
    tensor = dense_on_map(tensor, 2 * embedding_dim, 0.0, "fc", torch_uniform(), "torch")
    tensor = MaxFeatureMap(dtype=full_precision(), name=EMBEDDING)(tensor)
    if dropout:
        tensor = layers.Dropout(dropout, dtype=full_precision(), name="dropout")(tensor)
    return keras.Model(image, tensor, name=name or f"lightcnn{depth}")


def _mfm(tensor, channels, name, size=3):
    tensor = convolution(tensor, 2 * channels, name, torch_uniform(), size=size, bias="torch")
    return MaxFeatureMap(name=f"{name}_mfm")(tensor)


def _unit(tensor, prefix):
    branch = _mfm(tensor, tensor.shape[-1], f"{prefix}_conv1")
    branch = _mfm(branch, tensor.shape[-1], f"{prefix}_conv2")
    return layers.Add(name=f"{prefix}_add")([tensor, branch])
