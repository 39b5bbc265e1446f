"""The improved residual networks of InsightFace and OpenSphere."""

import keras
from keras import layers

from keras_normface.backbones._blocks import (
    EMBEDDING,
    batch_norm,
    checked_choice,
    checked_input,
    convolution,
    dense_on_map,
    full_precision,
    prelu,
    torch_uniform,
)

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
CHANNELS = (64, 128, 256, 512)


@keras.saving.register_keras_serializable(package="keras_normface")
class FixedScaleBatchNorm(layers.BatchNormalization):
    """Batch norm whose scale is a weight that begins at 1 and is not trained, also after `trainable = True`.

    Args:
        **kwargs: Arguments of `keras.layers.BatchNormalization`.

    Source: `features` in deepinsight/insightface, `recognition/arcface_torch/backbones/iresnet.py`.

    Example:
    >>> layer = FixedScaleBatchNorm()
    >>> layer.build((None, 4))
    >>> [weight.name for weight in layer.trainable_weights], len(layer.weights)
    (['beta'], 4)
    """

    def build(self, input_shape):
        """Create the weights."""
        self.scale = False
        super().build(input_shape)
        self.scale = True
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[self.axis],), initializer=self.gamma_initializer, trainable=False
        )


def IResNet(depth=50, input_shape=(112, 112, 3), embedding_dim=512, dropout=0.0, name=None):
    """IResNet: a 3×3 convolution, four stages that halve the image, batch norm, a dense layer, batch norm.

    A unit is batch norm, 3×3 convolution, batch norm, PReLU, 3×3 convolution, batch norm; the second convolution
    of the first unit of a stage has stride 2, and a 1×1 convolution with batch norm stands in its shortcut. Nothing
    follows the sum. The last batch norm is a `FixedScaleBatchNorm`. First weights: normal with a standard deviation
    of 0.1 in convolutions, PyTorch's default in the dense layer.

    PyTorch feeds the moving variance with the unbiased variance of a batch, Keras with the biased one; otherwise the
    batch norm is the same.

    Args:
        depth: 18, 34, 50 or 100.
        input_shape: `(height, width, channels)` in pixels.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the dense layer.
        name: Name of the model.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stage2_unit1_conv1`, `stage2_unit1_shortcut_conv`, ..., `fc`, `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: deepinsight/insightface, `recognition/arcface_torch/backbones/iresnet.py`; ydwen/opensphere,
    `model/backbone/iresnet.py`; ArcFace (arXiv 1801.07698), §3.1, for the unit and the end.

    Example:
    >>> model = IResNet(18, input_shape=(32, 32, 3))
    >>> model.output_shape, model.get_layer("stage4_unit2_add").output.shape
    ((None, 512), (None, 2, 2, 512))
    """
    units = checked_choice("depth", depth, UNITS)
    image = checked_input(input_shape, embedding_dim, dropout)
    tensor = batch_norm(convolution(image, 64, "stem_conv", _normal(), bias=None), "stem_bn")
    tensor = prelu(tensor, "stem_prelu")
    for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), start=1):
        for unit in range(1, count + 1):
            tensor = _unit(tensor, channels, 2 if unit == 1 else 1, f"stage{stage}_unit{unit}")
    tensor = batch_norm(tensor, "final_bn")
    tensor = dense_on_map(tensor, embedding_dim, dropout, "fc", torch_uniform(), "torch")
    tensor = FixedScaleBatchNorm(momentum=0.9, epsilon=1e-5, dtype=full_precision(), name=EMBEDDING)(tensor)
    return keras.Model(image, tensor, name=name or f"iresnet{depth}")


def _unit(tensor, channels, strides, prefix):
    branch = batch_norm(tensor, f"{prefix}_bn1")
    branch = batch_norm(convolution(branch, channels, f"{prefix}_conv1", _normal(), bias=None), f"{prefix}_bn2")
    branch = prelu(branch, f"{prefix}_prelu")
    branch = convolution(branch, channels, f"{prefix}_conv2", _normal(), strides=strides, bias=None)
    branch = batch_norm(branch, f"{prefix}_bn3")
    if strides > 1:
        name = f"{prefix}_shortcut_conv"
        tensor = convolution(tensor, channels, name, _normal(), size=1, strides=strides, bias=None)
        tensor = batch_norm(tensor, f"{prefix}_shortcut_bn")
    return layers.Add(name=f"{prefix}_add")([tensor, branch])


def _normal():
    return keras.initializers.RandomNormal(stddev=0.1)
