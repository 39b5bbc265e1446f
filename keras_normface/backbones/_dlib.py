"""dlib's residual network for faces, and the two layers in which it differs from others."""

import keras
from keras import layers, ops

from keras_normface.backbones._blocks import EMBEDDING, checked_input, convolution, full_precision

STEM = 32
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels and units
# Below this a convolution of the last stage has no pixel left.
SMALLEST = 103


@keras.saving.register_keras_serializable(package="keras_normface")
class ChannelAffine(layers.Layer):
    """A scale and an offset for each channel: what is left of a batch norm whose statistics are fixed.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(..., channels)`, the channels known. Output shape: the same. Its weights `gamma` and `beta` are
    trained, and begin at 1 and 0.

    Source: `affine_` of dlib, which takes the place of `bn_con` after training.

    Example:
    >>> from keras import ops
    >>> layer = ChannelAffine()
    >>> layer.build((None, 2))
    >>> layer.set_weights([ops.array([2.0, 3.0]), ops.array([0.0, 1.0])])
    >>> ops.convert_to_numpy(layer(ops.array([[1.0, 1.0]]))).tolist()
    [[2.0, 4.0]]
    """

    def build(self, input_shape):
        """Create the weights."""
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        """Return the inputs, scaled and shifted."""
        return inputs * self.gamma + self.beta

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="keras_normface")
class PaddedAdd(layers.Layer):
    """The sum of two maps that need not have one size: zeros stand for the rows, columns and channels one lacks.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: a pair of `(batch, height, width, channels)`, all but the batch known. Output shape: the larger one
    in each dimension. Both maps begin in the same corner and at the same channel.

    Raises:
        ValueError: When it is called, if the input is not such a pair.

    Source: `add_prev_` of dlib.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(PaddedAdd()([ops.ones((1, 1, 2, 2)), ops.ones((1, 2, 2, 1))]))[0, :, 0].tolist()
    [[2.0, 1.0], [1.0, 0.0]]
    """

    def call(self, inputs):
        """Return the sum."""
        shape = self.compute_output_shape([part.shape for part in inputs])
        first, second = (_extended(part, shape[1:]) for part in inputs)
        return first + second

    def compute_output_shape(self, input_shape):
        """Return the larger size in each dimension.

        Raises:
            ValueError: If the input is not a pair of maps whose sizes are known.
        """
        shapes = [tuple(shape) for shape in input_shape]
        if len(shapes) != 2 or any(len(shape) != 4 or None in shape[1:] for shape in shapes):
            raise ValueError(f"The input must be a pair of maps of known size. Received: shapes {shapes}")
        return (shapes[0][0], *map(max, *(shape[1:] for shape in shapes)))


def _extended(tensor, sizes):
    """(batch, h, w, c) → (batch, *sizes), zeros at the end of each dimension."""
    missing = [(0, 0), *((0, size - own) for size, own in zip(sizes, tensor.shape[1:], strict=True))]
    return ops.pad(tensor, missing) if any(end for _, end in missing) else tensor


def DlibResNet(input_shape=(150, 150, 3), embedding_dim=128, dropout=0.0, name=None):
    """The network of dlib's face recognition: 29 convolutions, about 5.6 million parameters.

    A 7×7 convolution of stride 2, max pooling, and five stages of residual units. A unit is 3×3 convolution, affine,
    ReLU, 3×3 convolution, affine, sum, ReLU. In the first unit of every stage but the first, the first convolution has
    stride 2 and the skip is a 2×2 average pooling; the sum is a `PaddedAdd`. Average of the last map, and a dense
    layer without bias. Convolutions of stride 2 and poolings are not padded. All have a bias and a `ChannelAffine`
    behind, as in the published weights, which `load_dlib` reads; dlib trained with batch norm in its place.

    Args:
        input_shape: `(height, width, channels)` in pixels, height and width at least 103.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the dense layer.
        name: Name of the model.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stage2_unit1_conv1`, `stage2_unit1_affine1`, `stage2_unit1_skip`, ..., `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: dlib, `examples/dnn_face_recognition_ex.cpp`; He et al., "Deep Residual Learning for Image Recognition",
    arXiv 1512.03385.

    Example:
    >>> model = DlibResNet()
    >>> model.output_shape, model.get_layer("stage5_unit1_add").output.shape
    ((None, 128), (None, 2, 2, 256))
    """
    image = checked_input(input_shape, embedding_dim, dropout, at_least=SMALLEST)
    tensor = _conv_affine(image, STEM, "stem_conv", "stem_affine", size=7, strides=2)
    tensor = layers.ReLU(name="stem_relu")(tensor)
    tensor = layers.MaxPooling2D(3, 2, "valid", data_format="channels_last", name="stem_pool")(tensor)
    for stage, (channels, count) in enumerate(STAGES, start=1):
        for unit in range(1, count + 1):
            strides = 2 if stage > 1 and unit == 1 else 1
            tensor = _unit(tensor, channels, strides, f"stage{stage}_unit{unit}")
    tensor = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(tensor)
    if dropout:
        tensor = layers.Dropout(dropout, name="dropout")(tensor)
    tensor = layers.Dense(embedding_dim, use_bias=False, dtype=full_precision(), name=EMBEDDING)(tensor)
    return keras.Model(image, tensor, name=name or "dlib_resnet")


def _unit(tensor, channels, strides, prefix):
    branch = _conv_affine(tensor, channels, f"{prefix}_conv1", f"{prefix}_affine1", strides=strides)
    branch = layers.ReLU(name=f"{prefix}_relu1")(branch)
    branch = _conv_affine(branch, channels, f"{prefix}_conv2", f"{prefix}_affine2")
    if strides > 1:
        pool = layers.AveragePooling2D(2, 2, "valid", data_format="channels_last", name=f"{prefix}_skip")
        tensor = pool(tensor)
    return layers.ReLU(name=f"{prefix}_relu")(PaddedAdd(name=f"{prefix}_add")([branch, tensor]))


def _conv_affine(tensor, channels, conv, affine, size=3, strides=1):
    tensor = convolution(tensor, channels, conv, "glorot_uniform", size=size, strides=strides, pad=strides == 1)
    return ChannelAffine(name=affine)(tensor)
