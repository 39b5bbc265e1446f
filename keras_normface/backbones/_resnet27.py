"""The residual network of center loss, L-Softmax's successors and NormFace: 27 convolutions."""

import keras
from keras import layers

from keras_normface.backbones._blocks import (
    EMBEDDING,
    caffe_gaussian,
    caffe_xavier,
    checked_input,
    convolution,
    dense_on_map,
    halved,
    prelu,
)

STAGES = ((64, 1), (128, 2), (256, 5), (512, 3))
SMALLEST = 33


def ResNet27(input_shape=(112, 96, 3), embedding_dim=512, dropout=0.0, name=None):
    """The 27-layer residual network that the authors of center loss published.

    Two 3×3 convolutions of 32 and 64 channels, then 1, 2, 5 and 3 residual units of 64, 128, 256 and 512 channels,
    PReLU after every convolution. The convolution before a stage has no padding and is followed by 2×2 max
    pooling; that of a unit has padding, no bias (0 and a learning rate of 0 in the published file), and
    its PReLU comes before the sum. First weights: Caffe's `xavier`, a Gaussian of 0.01 in the units.

    It is the network of the published code. The one drawn in the paper is another, smaller one.

    Args:
        input_shape: `(height, width, channels)` in pixels, height and width at least 33.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the dense layer. The published network has none.
        name: Name of the model.

    Returns:
        A `keras.Model` from images `(batch, *input_shape)` to embeddings `(batch, embedding_dim)`. Its layers are
        called `stem_conv`, `stage1_conv`, `stage2_unit1_conv1`, ..., `embedding`.

    Raises:
        ValueError: If an argument does not fit, or Keras is set to `channels_first`.

    Source: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition (ECCV 2016);
    ydwen/caffe-face, `face_example/face_deploy.prototxt`, read at commit 0437af5 of Caffe's network of forks.

    Example:
    >>> model = ResNet27(input_shape=(40, 40, 3), embedding_dim=16)
    >>> model.output_shape, model.get_layer("stage4_pool").output.shape
    ((None, 16), (None, 1, 1, 512))
    """
    image = checked_input(input_shape, embedding_dim, dropout, at_least=SMALLEST)
    tensor = prelu(convolution(image, 32, "stem_conv", caffe_xavier(), pad=False), "stem_prelu")
    for stage, (channels, units) in enumerate(STAGES, start=1):
        tensor = convolution(tensor, channels, f"stage{stage}_conv", caffe_xavier(), pad=False)
        tensor = halved(prelu(tensor, f"stage{stage}_prelu"), f"stage{stage}_pool")
        for unit in range(1, units + 1):
            tensor = _unit(tensor, f"stage{stage}_unit{unit}")
    tensor = dense_on_map(tensor, embedding_dim, dropout, EMBEDDING, caffe_xavier())
    return keras.Model(image, tensor, name=name or "resnet27")


def _unit(tensor, prefix):
    branch = tensor
    for number in (1, 2):
        branch = convolution(branch, tensor.shape[-1], f"{prefix}_conv{number}", caffe_gaussian(), bias=None)
        branch = prelu(branch, f"{prefix}_prelu{number}")
    return layers.Add(name=f"{prefix}_add")([tensor, branch])
