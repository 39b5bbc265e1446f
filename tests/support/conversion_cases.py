"""Small models of each published family, random state dicts for them, and what the oracle makes of both."""

import numpy as np

from keras_normface.backbones import IResNet, SphereFaceNet, load_torch
from tests.support import backbone_oracle as published
from tests.support.helpers import to_numpy

# 24×40 leaves a map of 2×3, so that a wrong order of the dense layer's inputs shows.
INPUT, AREA, DIM = (24, 40, 3), 6, 16
KINDS = ["iresnet", "sfnet", "sfnet_bn"]


def model_of(kind):
    if kind == "iresnet":
        return IResNet(18, INPUT, DIM)
    return SphereFaceNet(20, kind == "sfnet_bn", INPUT, DIM, variant="opensphere")


def random_state(kind):
    rng, norm = np.random.default_rng(3), kind == "sfnet_bn"
    if kind == "iresnet":
        shapes = published.iresnet_shapes(published.IRESNET_UNITS[18], AREA, DIM)
    else:
        shapes = published.sfnet_shapes(published.SPHEREFACE_UNITS[20], norm, AREA, DIM)
    return {name: published.random_tensor(rng, name, shape) for name, shape in shapes.items()}


def by_oracle(kind, state, images):
    images = images.transpose(0, 3, 1, 2).astype("float64")
    if kind == "iresnet":
        return published.iresnet(state, images, published.IRESNET_UNITS[18])
    return published.sfnet(state, images, published.SPHEREFACE_UNITS[20], kind == "sfnet_bn")


def images():
    return np.random.default_rng(4).normal(size=(2, *INPUT)).astype("float32")


def check(kind, source, wanted):
    """A fresh model with the weights of `source` gives the embeddings `wanted`, to 1e-4 of the largest number."""
    model = model_of(kind)
    load_torch(model, source)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(to_numpy(model(images())), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
