"""SphereFace's residual networks of 4 to 64 convolutions, as first published and as in OpenSphere."""

import keras
from keras import layers

from keras_normface.backbones._blocks import (
    EMBEDDING,
    batch_norm,
    caffe_gaussian,
    caffe_xavier,
    checked_choice,
    checked_input,
    convolution,
    dense_on_map,
    full_precision,
    prelu,
    torch_kaiming,
    torch_uniform,
)

UNITS = {4: (0, 0, 0, 0), 10: (0, 1, 2, 0), 20: (1, 2, 4, 1), 36: (2, 4, 8, 2), 64: (3, 8, 16, 3)}
VARIANTS = {"caffe": "caffe", "opensphere": "opensphere"}
CHANNELS = (64, 128, 256, 512)


def SphereFaceNet(
    depth=20,
    batch_norm=False,
    input_shape=(112, 112, 3),
    embedding_dim=512,
    dropout=0.0,
    name=None,
    variant="caffe",
):
    """SphereFace's network: four stages that halve the image, residual units of two 3×3 convolutions, a dense layer.

    Every stage begins with a 3×3 convolution of stride 2 and has 64, 128, 256 or 512 channels. `depth` counts the
    convolutions; the dense layer comes on top.

    - `variant="caffe"` is the one of the paper: PReLU with a slope a channel, also at the end of the branch of a
      unit, before the sum. First weights: Caffe's `xavier` at the beginning of a stage and in the dense layer,
      a Gaussian of 0.01 in the units. The units have no bias: there is one in the published files, but it is 0 and
      has a learning rate of 0.
    - `variant="opensphere"` is that of the authors' PyTorch code: ReLU, the second one of a unit after the sum, a
      bias in all convolutions. First weights: normal with variance 2 / fan_out, PyTorch's defaults elsewhere.

    Args:
        depth: 4, 10, 20, 36 or 64.
        batch_norm: Whether batch norm follows every convolution, which then has no bias, and the dense
            layer. Published for `"opensphere"` alone.
        input_shape: `(height, width, channels)` in pixels. The paper has (112, 96, 3), OpenSphere (112, 112, 3).
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the dense layer.
        name: Name of the model.
        variant: `"caffe"` or `"opensphere"`.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stage1_conv`, `stage2_unit1_conv1`, ..., `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: SphereFace (arXiv 1704.08063), table 2; wy1iu/sphereface, `sphereface_model.prototxt` and
    `make_spherenet.py`; ydwen/opensphere, `model/backbone/sfnet.py`. The published `sphereface_64_model.prototxt`
    has 7 units in its second stage; the script and OpenSphere have 8, as here.

    Example:
    >>> model = SphereFaceNet(4, input_shape=(112, 96, 3))
    >>> model.output_shape, model.count_params()
    ((None, 512), 12562496)
    """
    units = checked_choice("depth", depth, UNITS)
    style = _Style(checked_choice("variant", variant, VARIANTS), batch_norm)
    image = tensor = checked_input(input_shape, embedding_dim, dropout)
    for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), start=1):
        tensor = style.begin(tensor, channels, f"stage{stage}")
        for unit in range(1, count + 1):
            tensor = style.unit(tensor, f"stage{stage}_unit{unit}")
    tensor = style.end(tensor, embedding_dim, dropout)
    return keras.Model(image, tensor, name=name or f"spherefacenet{depth}")


class _Style:
    """How one variant builds a stage."""

    def __init__(self, variant, batch_norm):
        self.caffe, self.batch_norm = variant == "caffe", batch_norm

    def begin(self, tensor, channels, prefix):
        tensor = self._convolution(tensor, channels, f"{prefix}_conv", f"{prefix}_bn", first=True)
        return self._activation(tensor, f"{prefix}_")

    def unit(self, tensor, prefix):
        channels = tensor.shape[-1]
        branch = self._convolution(tensor, channels, f"{prefix}_conv1", f"{prefix}_bn1")
        branch = self._activation(branch, f"{prefix}_", 1)
        branch = self._convolution(branch, channels, f"{prefix}_conv2", f"{prefix}_bn2")
        if self.caffe:
            return layers.Add(name=f"{prefix}_add")([tensor, self._activation(branch, f"{prefix}_", 2)])
        return self._activation(layers.Add(name=f"{prefix}_add")([tensor, branch]), f"{prefix}_", 2)

    def end(self, tensor, embedding_dim, dropout):
        initializer, bias = (caffe_xavier(), "zeros") if self.caffe else (torch_uniform(), "torch")
        name = "fc" if self.batch_norm else EMBEDDING
        tensor = dense_on_map(tensor, embedding_dim, dropout, name, initializer, bias)
        return batch_norm(tensor, EMBEDDING, dtype=full_precision()) if self.batch_norm else tensor

    def _convolution(self, tensor, channels, name, bn_name, first=False):
        if self.caffe:
            initializer, bias = (caffe_xavier(), "zeros") if first else (caffe_gaussian(), None)
        else:
            initializer, bias = torch_kaiming(), "torch"
        bias = None if self.batch_norm else bias
        tensor = convolution(tensor, channels, name, initializer, strides=2 if first else 1, bias=bias)
        return batch_norm(tensor, bn_name) if self.batch_norm else tensor

    def _activation(self, tensor, prefix, number=""):
        if self.caffe:
            return prelu(tensor, f"{prefix}prelu{number}")
        return layers.ReLU(name=f"{prefix}relu{number}")(tensor)
