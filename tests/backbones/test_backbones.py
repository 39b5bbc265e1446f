"""Backbones: the published counts and shapes; training under XLA and in half precision."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface.backbones import (
    DlibResNet,
    FixedScaleBatchNorm,
    IResNet,
    LightCNN,
    MaxFeatureMap,
    MobileFaceNet,
    ResNet27,
    SphereFaceNet,
)
from tests.support.helpers import to_numpy, value_and_gradients

SMALL = {
    "spherefacenet": lambda **kw: SphereFaceNet(10, input_shape=(32, 32, 3), embedding_dim=8, **kw),
    "spherefacenet_bn": lambda **kw: SphereFaceNet(10, True, input_shape=(32, 32, 3), embedding_dim=8, **kw),
    "opensphere": lambda **kw: SphereFaceNet(
        10, True, input_shape=(32, 32, 3), embedding_dim=8, variant="opensphere", **kw
    ),
    "resnet27": lambda **kw: ResNet27((37, 33, 3), embedding_dim=8, **kw),
    "lightcnn": lambda **kw: LightCNN(9, input_shape=(20, 12, 1), embedding_dim=8, **kw),
    "dlib": lambda **kw: DlibResNet((103, 103, 3), embedding_dim=8, **kw),
    "iresnet": lambda **kw: IResNet(18, input_shape=(32, 32, 3), embedding_dim=8, **kw),
    "magface": lambda **kw: IResNet(18, input_shape=(32, 32, 3), embedding_dim=8, variant="magface", **kw),
    "adaface": lambda **kw: IResNet(18, input_shape=(32, 32, 3), embedding_dim=8, variant="adaface", **kw),
    "mobilefacenet": lambda **kw: MobileFaceNet((32, 40, 3), embedding_dim=8, **kw),
}
IRESNETS = ("iresnet", "magface", "adaface")
QUICK = ["spherefacenet", "iresnet", "resnet27", "lightcnn"]
FAMILIES = [pytest.param(f, marks=[] if f in QUICK else pytest.mark.slow) for f in SMALL]
OTHERS = [family for family in FAMILIES if "dlib" not in family.values]


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def without_statistics(model):
    return [weight for weight in model.weights if "moving" not in weight.name]


def images_for(model, batch=2):
    return np.random.default_rng(0).normal(size=(batch, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [
        (18, 24_025_600),
        pytest.param(34, 34_139_328, marks=pytest.mark.slow),
        pytest.param(50, 43_590_848, marks=pytest.mark.slow),
        (100, 65_156_160),
    ],
)
def test_iresnet_has_the_published_parameters(depth, parameters):
    model = IResNet(depth)
    assert count(without_statistics(model)) == parameters
    # All are trained but the 512 of the last scale, which is fixed at 1 in the published code too.
    assert count(model.trainable_weights) == parameters - 512
    maps = [model.get_layer(f"stage{s}_unit1_add").output.shape[1:] for s in (1, 2, 3, 4)]
    assert maps == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]
    assert model.output_shape == (None, 512)


def test_spherefacenet_20_has_the_parameters_of_the_published_file():
    model = SphereFaceNet(20, input_shape=(112, 96, 3))
    # First of a stage, with bias: 1 792 + 73 856 + 295 168 + 1 180 160. Units, without: 73 728 + 2 · 294 912 +
    # 4 · 1 179 648 + 4 718 592. Slopes: 3 · 64 + 5 · 128 + 9 · 256 + 3 · 512. Dense: 7 · 6 · 512 · 512 + 512.
    assert model.count_params() == 1_550_976 + 10_100_736 + 4_672 + 11_010_560 == 22_666_944
    maps = [model.get_layer(f"stage{s}_prelu").output.shape[1:] for s in (1, 2, 3, 4)]
    assert maps == [(56, 48, 64), (28, 24, 128), (14, 12, 256), (7, 6, 512)]


@pytest.mark.parametrize("depth", [4, 10, 20, 36, 64])
def test_spherefacenet_is_named_by_its_convolutions(depth):
    model = SphereFaceNet(depth, input_shape=(16, 16, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == depth
    assert model.name == f"spherefacenet{depth}"


def test_resnet27_has_the_parameters_of_the_published_file():
    model = ResNet27()
    # With bias: 896 + 18 496 + 73 856 + 295 168 + 1 180 160. Units, without: 73 728 + 2 · 294 912 + 5 · 1 179 648 +
    # 3 · 4 718 592. Slopes: 32 + 3 · 64 + 5 · 128 + 11 · 256 + 7 · 512. Dense: 5 · 4 · 512 · 512 + 512.
    assert model.count_params() == 1_568_576 + 20_717_568 + 7_264 + 5_243_392 == 27_536_800
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 27
    maps = [model.get_layer(f"stage{s}_pool").output.shape[1:] for s in (1, 2, 3, 4)]
    assert maps == [(54, 46, 64), (26, 22, 128), (12, 10, 256), (5, 4, 512)]


@pytest.mark.parametrize(("depth", "units"), [(9, 0), (29, 1)])
def test_lightcnn_has_the_parameters_of_the_published_code(depth, units):
    # Kernel size, channels in, channels out before the max: one line a stage, units and groups.
    sizes = [(5, 1, 96), (1, 48, 96), (3, 48, 192), (1, 96, 192), (3, 96, 384), (1, 192, 384), (3, 192, 256)]
    sizes += [(1, 128, 256), (3, 128, 256)]
    sizes += units * [(3, 48, 96)] * 2 + units * [(3, 96, 192)] * 4
    sizes += units * [(3, 192, 384)] * 6 + units * [(3, 128, 256)] * 8
    wanted = sum(k * k * before * after + after for k, before, after in sizes) + 8 * 8 * 128 * 512 + 512
    model = LightCNN(depth)
    assert model.count_params() == wanted
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == depth
    assert model.get_layer("stage4_pool").output.shape == (None, 8, 8, 128)
    assert model.output_shape == (None, 256)


def test_iresnet_variants_differ_as_their_code_does():
    plain, magface, adaface = (IResNet(18, (32, 32, 3), variant=v) for v in ("insightface", "magface", "adaface"))
    assert count(magface.trainable_weights) == count(without_statistics(magface)) == count(without_statistics(plain))
    # Its first shortcut has no convolution of 64 · 64 and no batch norm, its last batch norm no scale and no shift.
    assert count(without_statistics(adaface)) == count(without_statistics(plain)) - 64 * 64 - 2 * 64 - 2 * 512
    for model, epsilon, momentum in [(plain, 1e-5, 0.9), (magface, 2e-5, 0.1), (adaface, 1e-5, 0.9)]:
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert len(norms) == (30 if model is adaface else 31)
        assert {(layer.epsilon, layer.momentum) for layer in norms} == {(epsilon, momentum)}
    assert adaface.get_layer("stage1_unit1_shortcut_pool").output.shape[1:] == (16, 16, 64)


@pytest.mark.parametrize(
    ("size", "pixels"), [((112, 112), 49), ((112, 96), 42), pytest.param((96, 96), 36, marks=pytest.mark.slow)]
)
def test_mobilefacenet_has_the_parameters_of_the_paper(size, pixels):
    model = MobileFaceNet((*size, 3))
    # Kernels. Bottlenecks of 64 to 64 channels, of 64 to 128, of 128 to 128 with t = 2 and with t = 4; before them
    # 3 · 3 · 3 · 64 and 3 · 3 · 64; after them 128 · 512, a weight for each pixel of 512 channels, 512 · 128.
    units = 5 * 17_536 + 51_456 + 8 * 67_840 + 135_680
    kernels = 1_728 + 576 + units + 65_536 + 512 * pixels + 65_536
    channels = 64 + 64 + 5 * (128 + 128 + 64) + (256 + 256 + 128) + 8 * (256 + 256 + 128) + (512 + 512 + 128)
    channels += 512 + 512 + 128
    slopes = 64 + 64 + 5 * 256 + 512 + 8 * 512 + 1024 + 512
    assert count(without_statistics(model)) == kernels + 2 * channels + slopes
    # The paper counts what is deployed, batch norm folded: one number a channel. 0.99 million, at each size.
    assert round((kernels + channels + slopes) / 1e6, 2) == 0.99
    maps = [model.get_layer(f"stage{s}_unit1_project").output.shape[1:] for s in (1, 2, 3, 4, 5)]
    places = [(size[0] // k, size[1] // k) for k in (4, 8, 8, 16, 16)]
    assert maps == [(*place, c) for place, c in zip(places, (64, 128, 128, 128, 128), strict=True)]
    assert model.output_shape == (None, 128)
    assert sum(layer.name.endswith("_add") for layer in model.layers) == 4 + 6 + 2


def take_a_step(family, jit_compile):
    keras.utils.set_random_seed(0)
    model = SMALL[family](dropout=0.25)
    before = [to_numpy(weight) for weight in model.weights]
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=jit_compile)
    images, wanted = images_for(model, 4), np.random.default_rng(2).normal(size=(4, 8)).astype("float32")
    assert np.isfinite(model.train_on_batch(images, wanted))
    # A batch norm takes away the mean that the dense layer's bias adds before it, so that bias has no gradient.
    still = {"spherefacenet_bn": {"fc/bias"}, "opensphere": {"fc/bias"}, "iresnet": {"fc/bias", "embedding/gamma"}}
    still |= {"magface": {"fc/bias"}, "adaface": {"fc/bias"}}
    for weight, old in zip(model.weights, before, strict=True):
        name = "/".join(weight.path.split("/")[-2:])
        if name not in still.get(family, ()):
            assert np.any(to_numpy(weight) != old), name
    if family == "iresnet":
        np.testing.assert_array_equal(to_numpy(model.get_layer("embedding").gamma), np.ones(8))


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=pytest.mark.slow if f == "iresnet" or f not in QUICK else ()) for f in SMALL]
)
def test_a_step_moves_every_weight(family):
    take_a_step(family, jit_compile=False)


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=pytest.mark.long if f in IRESNETS[1:] else pytest.mark.slow) for f in SMALL if f != "dlib"],
)
def test_a_step_under_xla_moves_every_weight(family):
    take_a_step(family, jit_compile=True)


def test_xla_trains():
    keras.utils.set_random_seed(0)
    model = SphereFaceNet(4, True, (16, 16, 3), 8, dropout=0.1)
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=True)
    first, *_, last = (model.train_on_batch(images_for(model, 4), np.ones((4, 8))) for _ in range(4))
    assert last < first


@pytest.mark.parametrize("family", OTHERS)
def test_half_precision_agrees_and_ends_in_full(family):
    # On maps that are one pixel wide, TensorFlow 2.21 on CPUs with bfloat16 units computes garbage (oneDNN); dlib's
    # network ends in such a map.
    model = SMALL[family]()
    images = images_for(model)
    wanted = to_numpy(model(images))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = SMALL[family]()
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    output = half(images)
    inner = {"mobilefacenet": "stage2_unit1_depthwise"} | dict.fromkeys(IRESNETS, "stage1_unit1_conv1")
    assert half.get_layer(inner.get(family, "stage2_conv")).compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert np.linalg.norm(to_numpy(output) - wanted) < 0.05 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    "family", ["spherefacenet", "lightcnn", "iresnet", "dlib", pytest.param("mobilefacenet", marks=pytest.mark.slow)]
)
def test_save_and_load(family, tmp_path):
    model = SMALL[family](dropout=0.5, name="mine")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.name == "mine"
    assert loaded.get_layer("dropout").rate == 0.5
    images = images_for(model)
    np.testing.assert_array_equal(to_numpy(loaded(images)), to_numpy(model(images)))
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_between_the_map_and_the_dense_layer_or_at_the_end(family):
    model = SMALL[family](dropout=0.5)
    names = [layer.name for layer in model.layers]
    before = {"lightcnn": "embedding", "dlib": "pool"}.get(family, "flatten")
    assert names[names.index("dropout") - 1] == before
    assert "dropout" not in {layer.name for layer in SMALL[family]().layers}


def test_first_weights_are_the_published_ones():
    keras.utils.set_random_seed(0)
    caffe = SphereFaceNet(10, input_shape=(32, 32, 3))
    kernel = to_numpy(caffe.get_layer("stage4_conv").kernel)
    assert abs(kernel).max() == pytest.approx((3 / (9 * 256)) ** 0.5, rel=1e-3)
    first, second = (to_numpy(caffe.get_layer(f"stage3_unit{u}_conv1").kernel) for u in (1, 2))
    assert first.std() == pytest.approx(0.01, rel=0.01)
    assert np.any(first != second)
    assert np.unique(to_numpy(caffe.get_layer("stage1_prelu").alpha)) == 0.25
    torch = SphereFaceNet(10, input_shape=(32, 32, 3), variant="opensphere")
    kernel = to_numpy(torch.get_layer("stage4_conv").kernel)
    assert kernel.std() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert abs(kernel).max() > 4 * kernel.std()
    iresnet = IResNet(18, (16, 16, 3), 256)
    assert to_numpy(iresnet.get_layer("stage4_unit2_conv1").kernel).std() == pytest.approx(0.1, rel=0.01)
    adaface = IResNet(18, (16, 16, 3), 256, variant="adaface")
    for name, fan_out in [("stage4_unit2_conv1", 9 * 512), ("fc", 256)]:
        assert to_numpy(adaface.get_layer(name).kernel).std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
    assert not np.any(to_numpy(adaface.get_layer("fc").bias))
    mobile = MobileFaceNet((32, 32, 3))
    for name, fan_out in [("last_conv", 512), ("stage5_unit1_depthwise", 9)]:
        assert to_numpy(mobile.get_layer(name).kernel).std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    for model, name, fan_in in [(iresnet, "fc", 512), (LightCNN(9), "stage2_conv", 9 * 96)]:
        for array in (model.get_layer(name).kernel, model.get_layer(name).bias):
            assert fan_in**-0.5 * 0.6 < abs(to_numpy(array)).max() < fan_in**-0.5 * 1.0001


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SphereFaceNet(18), r"`depth` must be one of 4, 10, 20, 36, 64\. Received: depth=18"),
        (lambda: IResNet(101), r"`depth` must be one of 18, 34, 50, 100\. Received: depth=101"),
        (lambda: LightCNN("9"), r"`depth` must be one of 9, 29\. Received: depth='9'"),
        (lambda: SphereFaceNet(4, variant="torch"), r"`variant` must be one of 'caffe', 'opensphere'.*'torch'"),
        (lambda: IResNet(18, variant="cvlface"), r"`variant` must be one of 'insightface', 'magface', 'adaface'.*'cvl"),
        (lambda: MobileFaceNet((112, 96)), r"`input_shape` must be .*\(112, 96\)"),
        (lambda: ResNet27((32, 96, 3)), r"`input_shape` must be .* at least 33\. Received: input_shape=\(32, 96, 3\)"),
        (lambda: IResNet(18, (112, 112)), r"`input_shape` must be .*\(112, 112\)"),
        (lambda: IResNet(18, (None, None, 3)), r"`input_shape` must be .*None"),
        (lambda: IResNet(18, embedding_dim=0), r"`embedding_dim` must be a positive integer\. Received: .*=0"),
        (lambda: DlibResNet((102, 150, 3)), r"`input_shape` must be .* at least 103\. Received: .*\(102, 150, 3\)"),
        (lambda: LightCNN(9, dropout=1.0), r"`dropout` must be .* < 1\. Received: dropout=1.0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"`channels_last` only.*'channels_first'"):
            SphereFaceNet(4)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_max_feature_map():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    layer = MaxFeatureMap()
    value, (gradient,) = value_and_gradients(layer, x)
    np.testing.assert_array_equal(value, np.maximum(x[..., :3], x[..., 3:]))
    np.testing.assert_array_equal(gradient, np.concatenate([x[..., :3] > x[..., 3:], x[..., :3] <= x[..., 3:]], -1))
    assert layer.compute_output_shape((None, 4, 4, 6)) == (None, 4, 4, 3)
    assert MaxFeatureMap(dtype="float16")(ops.cast(x, "float16")).dtype == ops.cast(x, "float16").dtype
    with pytest.raises(ValueError, match=r"known and even. Received: input_shape=\(2, 5\)"):
        MaxFeatureMap()(x[0, 0, :2, :5])


def test_a_fixed_scale_stays_fixed_and_is_used():
    layer = FixedScaleBatchNorm(epsilon=1e-5)
    layer.build((None, 2))
    layer.trainable = False
    layer.trainable = True
    assert [weight.name for weight in layer.trainable_weights] == ["beta"]
    layer.gamma.assign([2.0, 3.0])
    np.testing.assert_allclose(to_numpy(layer(np.ones((1, 2), "float32"))), [[2.0, 3.0]], rtol=1e-4)
    again = FixedScaleBatchNorm.from_config(layer.get_config())
    again.build((None, 2))
    assert [weight.name for weight in again.trainable_weights] == ["beta"]
