"""Every family of backbones against a float64 forward pass in NumPy, under the names of the published files."""

import math

import keras
import numpy as np
import pytest

from keras_normface.backbones import (
    ChannelAffine,
    DlibResNet,
    IResNet,
    LightCNN,
    MobileFaceNet,
    PaddedAdd,
    ResNet27,
    SphereFaceNet,
)
from tests.support import backbone_oracle as published
from tests.support.helpers import to_numpy


def torch_tensors(layer, name):
    """The tensors of a layer in PyTorch's and Caffe's order of axes, but for a dense layer on a map."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return {"weight": to_numpy(layer.kernel).transpose(2, 3, 0, 1)}
    if isinstance(layer, keras.layers.Conv2D):
        arrays = {"weight": to_numpy(layer.kernel).transpose(3, 2, 0, 1)}
        return arrays | ({} if layer.bias is None else {"bias": to_numpy(layer.bias)})
    if isinstance(layer, keras.layers.BatchNormalization):
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        weights = {name: getattr(layer, ours, None) for name, ours in names.items()}
        return {name: to_numpy(weight) for name, weight in weights.items() if weight is not None}
    if isinstance(layer, ChannelAffine):
        return {"gamma": to_numpy(layer.gamma), "beta": to_numpy(layer.beta)}
    if isinstance(layer, keras.layers.Dense):
        return {"weight": to_numpy(layer.kernel).T} | ({} if layer.bias is None else {"bias": to_numpy(layer.bias)})
    return {"weight": to_numpy(layer.alpha).reshape(-1)}


def random_tensor(rng, name, shape):
    """A value that lets every layer matter."""
    if name == "moving_variance":
        return rng.uniform(0.5, 2, shape)
    if name == "gamma":
        return rng.uniform(0.3, 1.3, shape) * rng.choice([-1, 1], shape, p=[0.2, 0.8])
    fan_in = math.prod(shape[:-1])
    scale = 0.2 if name in ("bias", "beta", "moving_mean") else (2 / fan_in) ** 0.5 if len(shape) in (2, 4) else 0.4
    return rng.normal(size=shape) * scale


def tensors_of(model, names):
    """Random weights for `model`, and the same under the published names, in `names` by layer."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(random_tensor(rng, weight.name, tuple(weight.shape)))
    weighted = [layer for layer in model.layers if layer.weights]
    assert {layer.name for layer in weighted} == set(names)
    tensors = {}
    for layer in weighted:
        name = names[layer.name]
        tensors |= {f"{name}.{key}": value for key, value in torch_tensors(layer, name).items()}
    return tensors


def agrees(model, images, expected, dense_name, tensors):
    """The flattened map is height, width, channel here and channel, height, width in the oracle."""
    height, width, channels = model.get_layer("flatten").input.shape[1:]
    weight = tensors[f"{dense_name}.weight"]
    reordered = weight.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(weight.shape)
    tensors[f"{dense_name}.weight"] = reordered
    wanted = expected(tensors, images.transpose(0, 3, 1, 2).astype("float64"))
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(to_numpy(model(images)), wanted, atol=2e-5 * np.abs(wanted).max())


def images_for(model, batch=2):
    return np.random.default_rng(0).normal(size=(batch, *model.input_shape[1:])).astype("float32")


def test_spherefacenet_forward():
    model = SphereFaceNet(20, input_shape=(24, 15, 3), embedding_dim=32)
    units = published.SPHEREFACE_UNITS[20]
    names = {"embedding": "fc5"}
    for stage, number in enumerate(units, start=1):
        names |= {f"stage{stage}_conv": f"conv{stage}_1", f"stage{stage}_prelu": f"relu{stage}_1"}
        for unit in range(1, number + 1):
            for i in (1, 2):
                names[f"stage{stage}_unit{unit}_conv{i}"] = f"conv{stage}_{2 * unit - 1 + i}"
                names[f"stage{stage}_unit{unit}_prelu{i}"] = f"relu{stage}_{2 * unit - 1 + i}"
    tensors = tensors_of(model, names)
    agrees(model, images_for(model), lambda p, x: published.sphereface_caffe(p, x, units), "fc5", tensors)


def test_resnet27_forward():
    model = ResNet27((61, 37, 3), embedding_dim=32)
    names = {"embedding": "fc5", "stem_conv": "conv1a", "stem_prelu": "relu1a"}
    for stage, (entry, number) in enumerate([("1b", 1), ("2", 2), ("3", 5), ("4", 3)], start=1):
        names |= {f"stage{stage}_conv": f"conv{entry}", f"stage{stage}_prelu": f"relu{entry}"}
        for unit in range(1, number + 1):
            for i in (1, 2):
                names[f"stage{stage}_unit{unit}_conv{i}"] = f"conv{stage + 1}_{2 * unit - 2 + i}"
                names[f"stage{stage}_unit{unit}_prelu{i}"] = f"relu{stage + 1}_{2 * unit - 2 + i}"
    agrees(model, images_for(model), published.resnet27, "fc5", tensors_of(model, names))


@pytest.mark.parametrize(("depth", "blocks"), [(9, [0, 0, 0, 0]), (29, [1, 2, 3, 4])])
def test_lightcnn_forward(depth, blocks):
    model = LightCNN(depth, input_shape=(36, 20, 1), embedding_dim=16)
    names = {"stem_conv": "conv1.filter", "fc": "fc.filter"}
    for stage, number in enumerate(blocks, start=1):
        names[f"stage{stage}_reduce"] = f"group{stage}.conv_a.filter"
        names[f"stage{stage}_conv"] = f"group{stage}.conv.filter"
        for unit in range(1, number + 1):
            for i in (1, 2):
                names[f"stage{stage}_unit{unit}_conv{i}"] = f"block{stage}.{unit - 1}.conv{i}.filter"
    tensors = tensors_of(model, names)
    agrees(model, images_for(model), lambda p, x: published.light_cnn(p, x, blocks), "fc.filter", tensors)


def test_iresnet_forward():
    # A map of 2 x 3, so that a wrong order of the dense layer's inputs shows.
    model = IResNet(18, input_shape=(24, 40, 3), embedding_dim=16)
    names = {"stem_conv": "conv1", "stem_bn": "bn1", "stem_prelu": "prelu", "final_bn": "bn2", "fc": "fc"}
    names["embedding"] = "features"
    for stage in range(1, 5):
        names[f"stage{stage}_unit1_shortcut_conv"] = f"layer{stage}.0.downsample.0"
        names[f"stage{stage}_unit1_shortcut_bn"] = f"layer{stage}.0.downsample.1"
        for unit in (1, 2):
            for part in ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"):
                names[f"stage{stage}_unit{unit}_{part}"] = f"layer{stage}.{unit - 1}.{part}"
    tensors = tensors_of(model, names)
    agrees(model, images_for(model), lambda p, x: published.iresnet(p, x, [2, 2, 2, 2]), "fc", tensors)


def test_adaface_forward():
    model = IResNet(18, input_shape=(24, 40, 3), embedding_dim=16, variant="adaface")
    names = {f"stem_{part}": f"input_layer.{i}" for i, part in enumerate(("conv", "bn", "prelu"))}
    names |= {"final_bn": "output_layer.0", "fc": "output_layer.3", "embedding": "output_layer.4"}
    for place in range(8):
        unit = f"stage{place // 2 + 1}_unit{place % 2 + 1}"
        for i, part in enumerate(("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")):
            names[f"{unit}_{part}"] = f"body.{place}.res_layer.{i}"
        if place in (2, 4, 6):
            names[f"{unit}_shortcut_conv"] = f"body.{place}.shortcut_layer.0"
            names[f"{unit}_shortcut_bn"] = f"body.{place}.shortcut_layer.1"
    tensors = tensors_of(model, names)
    agrees(model, images_for(model), lambda p, x: published.adaface(p, x, [2, 2, 2, 2]), "output_layer.3", tensors)


MOBILEFACENET = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]


def mobilefacenet_names():
    """The layers counted as the oracle does: `n`, its batch norm `n.b`, its slopes `n`, where the key is `a`."""
    units = [f"stage{s}_unit{u}" for s, (_, _, n, _) in enumerate(MOBILEFACENET, start=1) for u in range(1, n + 1)]
    parts = [f"{unit}_{part}" for unit in units for part in ("expand", "depthwise", "project")]
    order = ["stem_conv", "stem_depthwise", *parts, "last_conv", "global_depthwise"]
    linear = ("_project", "global_depthwise")
    names = {"fc": f"{len(order)}", "embedding": f"{len(order)}.b"}
    for number, name in enumerate(order):
        names |= {name: f"{number}", f"{name}_bn": f"{number}.b"}
        names |= {} if name.endswith(linear) else {f"{name}_prelu": f"{number}.a"}
    return names


@pytest.mark.parametrize(
    "size",
    [pytest.param((112, 112), marks=pytest.mark.slow), (112, 96), pytest.param((40, 23), marks=pytest.mark.slow)],
    ids=lambda size: "{}x{}".format(*size),
)
def test_mobilefacenet_forward(size):
    model = MobileFaceNet((*size, 3), embedding_dim=32)
    tensors = tensors_of(model, mobilefacenet_names())
    tensors = {name.replace(".a.weight", ".a"): value for name, value in tensors.items()}
    wanted = published.mobilefacenet(tensors, images_for(model).transpose(0, 3, 1, 2).astype("float64"), MOBILEFACENET)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(to_numpy(model(images_for(model))), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("norm", [False, True])
def test_opensphere_forward(norm):
    units = published.SPHEREFACE_UNITS[20]
    model = SphereFaceNet(20, norm, (24, 40, 3), 16, variant="opensphere")
    names = {"fc": "fc", "embedding": "features"} if norm else {"embedding": "fc"}
    for stage, number in enumerate(units, start=1):
        names[f"stage{stage}_conv"] = f"layer{stage}.0.conv1"
        names |= {f"stage{stage}_bn": f"layer{stage}.0.bn1"} if norm else {}
        for unit in range(1, number + 1):
            for part in ("conv1", "conv2", *(("bn1", "bn2") if norm else ())):
                names[f"stage{stage}_unit{unit}_{part}"] = f"layer{stage}.{unit}.{part}"
    tensors = tensors_of(model, names)
    agrees(model, images_for(model), lambda p, x: published.sfnet(p, x, units, norm), "fc", tensors)


# At 103 no map is smaller; at 150 the third and the fourth sum are of maps of two sizes, at 126 x 158 one way only.
@pytest.mark.parametrize("size", [(103, 103), (150, 150), (126, 158)])
def test_dlib_forward(size):
    model = DlibResNet((*size, 3), 16)
    names = {layer.name: layer.name for layer in model.layers if layer.weights}
    tensors = tensors_of(model, names)
    images = images_for(model)
    stages = [(32, 3), (64, 4), (128, 3), (256, 3), (256, 1)]
    wanted = published.dlib_resnet(tensors, images.transpose(0, 3, 1, 2).astype("float64"), stages)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(to_numpy(model(images)), wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [((3, 3, 2), (4, 4, 2), (4, 4, 2)), ((1, 2, 3), (2, 1, 1), (2, 2, 3)), ((2, 2, 4), (2, 2, 4), (2, 2, 4))],
)
def test_padded_add(first, second, wanted):
    parts = [np.random.default_rng(0).normal(size=(2, *shape)).astype("float32") for shape in (first, second)]
    total = np.zeros((2, *wanted), "float32")
    for part in parts:
        total[tuple(map(slice, part.shape))] += part
    layer = PaddedAdd()
    np.testing.assert_array_equal(to_numpy(layer(parts)), total)
    assert layer.compute_output_shape([(None, *first), (None, *second)]) == (None, *wanted)


@pytest.mark.parametrize("shapes", [[(None, 2, 2, 1)], [(None, 2, 2, 1), (None, None, 2, 1)], [(None, 2), (None, 2)]])
def test_padded_add_refuses(shapes):
    with pytest.raises(ValueError, match="a pair of maps of known size"):
        PaddedAdd().compute_output_shape(shapes)
