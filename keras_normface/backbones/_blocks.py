"""What the backbones share: checks of their arguments, symmetric convolutions, Caffe's and PyTorch's first weights."""

import keras
from keras import layers

from keras_normface import _validation

EMBEDDING = "embedding"


def checked_input(input_shape, embedding_dim, dropout, at_least=1):
    """Check the arguments that all backbones have, and begin the model."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "The backbones are `channels_last` only; call `keras.config.set_image_data_format('channels_last')`. "
            f"Received: image_data_format={keras.config.image_data_format()!r}"
        )
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape) or min(shape[:2]) < at_least:
        raise ValueError(
            f"`input_shape` must be (height, width, channels), height and width at least {at_least}. "
            f"Received: input_shape={input_shape}"
        )
    _validation.integer("embedding_dim", embedding_dim, 1)
    _validation.number("dropout", dropout, at_least=0, below=1)
    return keras.Input(shape, name="image")


def checked_choice(argument, value, known):
    """Return `known[value]`."""
    if value not in known:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, known))}. Received: {argument}={value!r}")
    return known[value]


def caffe_xavier():
    """Caffe's `xavier`: uniform within ±√(3 / fan_in)."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")


def caffe_gaussian():
    """Caffe's `gaussian` with a standard deviation of 0.01."""
    return keras.initializers.RandomNormal(stddev=0.01)


def torch_uniform():
    """PyTorch's default for kernels: uniform within ±1 / √fan_in."""
    return keras.initializers.VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def torch_kaiming():
    """PyTorch's `kaiming_normal_` by `fan_out`: normal with variance 2 / fan_out."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def torch_bias(fan_in):
    """PyTorch's default for biases: uniform within ±1 / √fan_in, of the kernel's fan_in."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def convolution(tensor, filters, name, initializer, *, size=3, strides=1, pad=True, bias="zeros"):
    """Convolve with the symmetric padding of Caffe and PyTorch, `size // 2` pixels on every side."""
    padding = "same" if pad and strides == 1 else "valid"
    if bias == "torch":
        bias = torch_bias(size * size * tensor.shape[-1])
    if pad and strides > 1 and size > 1:
        tensor = layers.ZeroPadding2D(size // 2, data_format="channels_last", name=f"{name}_pad")(tensor)
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding,
        data_format="channels_last",
        use_bias=bias is not None,
        kernel_initializer=initializer,
        bias_initializer=bias or "zeros",
        name=name,
    )(tensor)


def prelu(tensor, name):
    """PReLU with one slope a channel that begins at 0.25, as in Caffe and PyTorch."""
    return layers.PReLU(keras.initializers.Constant(0.25), shared_axes=[1, 2], name=name)(tensor)


def batch_norm(tensor, name, momentum=0.9, epsilon=1e-5, **options):
    """Batch normalisation, by default with PyTorch's constants: ε 1e-5 and momentum 0.1, which Keras calls 0.9."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name, **options)(tensor)


def halved(tensor, name):
    """2×2 max pooling that keeps an odd last row and column, as Caffe and PyTorch's `ceil_mode` do."""
    return layers.MaxPooling2D(2, 2, "same", data_format="channels_last", name=name)(tensor)


def full_precision():
    """The dtype of the last layers: that of the variables, float32 under a mixed policy."""
    return keras.config.dtype_policy().variable_dtype


def dense_on_map(tensor, units, dropout, name, initializer, bias="zeros"):
    """Flatten in the order height, width, channel; drop; one dense layer in full precision; `bias=None` for none."""
    flat = layers.Flatten(data_format="channels_last", name="flatten")(tensor)
    bias = torch_bias(flat.shape[-1]) if bias == "torch" else bias
    if dropout:
        flat = layers.Dropout(dropout, name="dropout")(flat)
    return layers.Dense(
        units,
        use_bias=bias is not None,
        kernel_initializer=initializer,
        bias_initializer=bias or "zeros",
        dtype=full_precision(),
        name=name,
    )(flat)
