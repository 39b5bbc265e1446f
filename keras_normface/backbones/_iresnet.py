"""The improved residual networks of InsightFace and OpenSphere, of MagFace, of AdaFace and CVLface."""

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
    torch_kaiming,
    torch_uniform,
)

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
CHANNELS = (64, 128, 256, 512)
# Arguments of every batch norm. MagFace's code writes eps=2e-05, momentum=0.9, and Keras calls that momentum 0.1.
VARIANTS = {"insightface": {}, "magface": {"epsilon": 2e-5, "momentum": 0.1}, "adaface": {}}


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


def IResNet(depth=50, input_shape=(112, 112, 3), embedding_dim=512, dropout=0.0, name=None, variant="insightface"):
    """IResNet: a 3×3 convolution, four stages that halve the image, batch norm, a dense layer, batch norm.

    A unit is batch norm, 3×3 convolution, batch norm, PReLU, 3×3 convolution, batch norm; the second convolution
    of the first unit of a stage has stride 2, and a 1×1 convolution with batch norm stands in its shortcut. Nothing
    follows the sum.

    - `variant="insightface"` is InsightFace's and OpenSphere's. The last batch norm is a `FixedScaleBatchNorm`. First
      weights: normal with a standard deviation of 0.1 in convolutions, PyTorch's default in the dense layer.
    - `variant="magface"` is MagFace's: the same layers, but ε 2e-5 in every batch norm, moving statistics that keep a
      tenth of their old value at a step, and a last batch norm whose scale is trained. First weights: normal with
      variance 2 / fan_out in convolutions, PyTorch's default in the dense layer. With dropout, their code drops whole
      channels of the map; here single numbers are dropped.
    - `variant="adaface"` is AdaFace's and CVLface's: the shortcut of the first unit, which does not widen, takes every
      second pixel and has no weights, and the last batch norm has neither scale nor shift. First weights: normal with
      variance 2 / fan_out in convolutions and in the dense layer, whose bias begins at 0.

    PyTorch feeds the moving variance with the unbiased variance of a batch, Keras with the biased one; otherwise the
    batch norm is the same.

    Args:
        depth: 18, 34, 50 or 100. AdaFace and CVLface call 100 `ir_101`.
        input_shape: `(height, width, channels)` in pixels.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the dense layer. MagFace, AdaFace and CVLface have 0.4.
        name: Name of the model.
        variant: `"insightface"`, `"magface"` or `"adaface"`.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stage2_unit1_conv1`, `stage2_unit1_shortcut_conv`, ..., `fc`, `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: deepinsight/insightface, `recognition/arcface_torch/backbones/iresnet.py`; ydwen/opensphere,
    `model/backbone/iresnet.py`; ArcFace (arXiv 1801.07698), §3.1, for the unit and the end; IrvingMeng/MagFace,
    `models/iresnet.py`; mk-minchul/CVLface, `cvlface/research/recognition/code/run_v1/models/iresnet/model.py`, with
    which AdaFace's `net.py` agrees.

    Example:
    >>> model = IResNet(18, input_shape=(32, 32, 3))
    >>> model.output_shape, model.get_layer("stage4_unit2_add").output.shape
    ((None, 512), (None, 2, 2, 512))
    """
    units = checked_choice("depth", depth, UNITS)
    style = _Style(variant, checked_choice("variant", variant, VARIANTS))
    image = checked_input(input_shape, embedding_dim, dropout)
    tensor = style.norm(style.convolution(image, 64, "stem_conv"), "stem_bn")
    tensor = prelu(tensor, "stem_prelu")
    for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), start=1):
        for unit in range(1, count + 1):
            tensor = style.unit(tensor, channels, 2 if unit == 1 else 1, f"stage{stage}_unit{unit}")
    tensor = style.end(style.norm(tensor, "final_bn"), embedding_dim, dropout)
    return keras.Model(image, tensor, name=name or f"iresnet{depth}")


class _Style:
    """How one variant builds its parts."""

    def __init__(self, variant, norm_options):
        self.variant, self.norm_options = variant, norm_options

    def convolution(self, tensor, channels, name, size=3, strides=1):
        plain = self.variant == "insightface"
        initializer = keras.initializers.RandomNormal(stddev=0.1) if plain else torch_kaiming()
        return convolution(tensor, channels, name, initializer, size=size, strides=strides, bias=None)

    def norm(self, tensor, name, **options):
        return batch_norm(tensor, name, **self.norm_options, **options)

    def unit(self, tensor, channels, strides, prefix):
        branch = self.convolution(self.norm(tensor, f"{prefix}_bn1"), channels, f"{prefix}_conv1")
        branch = prelu(self.norm(branch, f"{prefix}_bn2"), f"{prefix}_prelu")
        branch = self.convolution(branch, channels, f"{prefix}_conv2", strides=strides)
        branch = self.norm(branch, f"{prefix}_bn3")
        if strides > 1:
            tensor = self.shortcut(tensor, channels, strides, f"{prefix}_shortcut")
        return layers.Add(name=f"{prefix}_add")([tensor, branch])

    def shortcut(self, tensor, channels, strides, prefix):
        if self.variant == "adaface" and tensor.shape[-1] == channels:
            return layers.MaxPooling2D(1, strides, data_format="channels_last", name=f"{prefix}_pool")(tensor)
        tensor = self.convolution(tensor, channels, f"{prefix}_conv", size=1, strides=strides)
        return self.norm(tensor, f"{prefix}_bn")

    def end(self, tensor, embedding_dim, dropout):
        ada = self.variant == "adaface"
        initializer, bias = (torch_kaiming(), "zeros") if ada else (torch_uniform(), "torch")
        tensor = dense_on_map(tensor, embedding_dim, dropout, "fc", initializer, bias)
        if self.variant == "insightface":
            return FixedScaleBatchNorm(momentum=0.9, epsilon=1e-5, dtype=full_precision(), name=EMBEDDING)(tensor)
        return self.norm(tensor, EMBEDDING, scale=not ada, center=not ada, dtype=full_precision())
