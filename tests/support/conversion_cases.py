"""Small models of each published family, random state dicts for them, and what the oracle makes of both."""

import numpy as np

from keras_normface.backbones import IResNet, SphereFaceNet, load_torch
from tests.support import backbone_oracle as published
from tests.support.helpers import to_numpy

# 24×40 leaves a map of 2×3, so that a wrong order of the dense layer's inputs shows.
INPUT, AREA, DIM = (24, 40, 3), 6, 16
KINDS = ["iresnet", "magface", "adaface", "sfnet", "sfnet_bn"]
VARIANTS = {"iresnet": "insightface", "magface": "magface", "adaface": "adaface"}
UNITS = published.IRESNET_UNITS[18]


def model_of(kind):
    if kind in VARIANTS:
        return IResNet(18, INPUT, DIM, variant=VARIANTS[kind])
    return SphereFaceNet(20, kind == "sfnet_bn", INPUT, DIM, variant="opensphere")


def random_state(kind):
    rng, norm = np.random.default_rng(3), kind == "sfnet_bn"
    if kind in ("iresnet", "magface"):
        shapes = published.iresnet_shapes(UNITS, AREA, DIM)
    elif kind == "adaface":
        shapes = published.adaface_shapes(UNITS, AREA, DIM)
    else:
        shapes = published.sfnet_shapes(published.SPHEREFACE_UNITS[20], norm, AREA, DIM)
    state = {name: published.random_tensor(rng, name, shape) for name, shape in shapes.items()}
    return with_small_variances(state) if kind == "magface" else state


def with_small_variances(state):
    """The same with a hundredth of the variances and a tenth of the scales: now another ε shows."""
    scales = {name.replace("running_var", "weight") for name in state if name.endswith("running_var")}
    factors = {name: 0.1 if name in scales else 0.01 if name.endswith("running_var") else 1 for name in state}
    return {name: value * factors[name] for name, value in state.items()}


def by_oracle(kind, state, images):
    images = images.transpose(0, 3, 1, 2).astype("float64")
    if kind in ("iresnet", "magface"):
        return published.iresnet(state, images, UNITS, 2e-5 if kind == "magface" else 1e-5)
    if kind == "adaface":
        return published.adaface(state, images, UNITS)
    return published.sfnet(state, images, published.SPHEREFACE_UNITS[20], kind == "sfnet_bn")


def images():
    return np.random.default_rng(4).normal(size=(2, *INPUT)).astype("float32")


def check(kind, source, wanted):
    """A fresh model with the weights of `source` gives the embeddings `wanted`, to 1e-4 of the largest number."""
    model = model_of(kind)
    load_torch(model, source)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(to_numpy(model(images())), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
