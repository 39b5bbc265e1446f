"""Published weights from dictionaries of arrays: same embeddings as the oracle, every tensor accounted for."""

import numpy as np
import pytest

from keras_normface.backbones import ConversionError, LightCNN, SphereFaceNet, load_torch
from tests.support import backbone_oracle as published
from tests.support import conversion_cases as cases
from tests.support.helpers import to_numpy

SLOW = ("sfnet_bn", "magface")
FAMILIES = [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in cases.KINDS]


def smallest():
    return SphereFaceNet(4, False, (16, 16, 3), 2, variant="opensphere")


def smallest_state(**changes):
    rng = np.random.default_rng(0)
    shapes = published.sfnet_shapes([0, 0, 0, 0], False, 1, 2)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()} | changes


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_published_state_dict_gives_the_same_embeddings(kind):
    state = cases.random_state(kind)
    counters = {"bn1": "iresnet", "layer1.0.bn1": "sfnet_bn", "output_layer.4": "adaface", "features": "magface"}
    counters = {f"{name}.num_batches_tracked": np.array(7) for name, family in counters.items() if family == kind}
    cases.check(kind, {**state, **counters}, cases.by_oracle(kind, state, cases.images()))


@pytest.mark.parametrize("depth", sorted(published.IRESNET_UNITS))
def test_the_shapes_of_the_oracle_are_the_published_ones(depth):
    shapes = published.iresnet_shapes(published.IRESNET_UNITS[depth], 49)
    parameters = sum(np.prod(shape) for name, shape in shapes.items() if "running" not in name)
    assert parameters == {18: 24_025_600, 34: 34_139_328, 50: 43_590_848, 100: 65_156_160}[depth]
    ada = published.adaface_shapes(published.IRESNET_UNITS[depth], 49)
    ada = sum(np.prod(shape) for name, shape in ada.items() if "running" not in name)
    # Without a convolution of 64 × 64 and its batch norm in the first shortcut, and the last scale and shift.
    assert ada == parameters - 64 * 64 - 2 * 64 - 2 * 512


def test_all_differences_are_listed_and_nothing_is_changed():
    model, state = cases.model_of("iresnet"), cases.random_state("iresnet")
    before = model.get_weights()
    state["extra"] = np.zeros(2)
    state["fc.num_batches_tracked"] = np.array(7)
    del state["layer2.0.downsample.0.weight"]
    state["prelu.weight"] = np.ones(1)
    state["layer1.0.prelu.weight"] = np.ones((1, 64))
    state["conv1.weight"] = state["conv1.weight"].reshape(64, 27)
    state["fc.weight"] = state["fc.weight"][:, :512]
    state["bn2.weight"] = np.ones((512, 1))
    with pytest.raises(ConversionError) as caught:
        load_torch(model, state)
    assert sorted(str(caught.value).splitlines()) == [
        "The tensors are not those of iresnet18:",
        "bn2.weight: shape (512, 1) does not fit final_bn/gamma of shape (512,)",
        "conv1.weight: shape (64, 27) does not fit stem_conv/kernel of shape (3, 3, 3, 64)",
        "extra: not in the model",
        "fc.num_batches_tracked: not in the model",
        "fc.weight: shape (16, 512) does not fit fc/kernel of shape (3072, 16)",
        "layer1.0.prelu.weight: shape (1, 64) does not fit stage1_unit1_prelu/alpha of shape (1, 1, 64)",
        "layer2.0.downsample.0.weight: missing",
        "prelu.weight: shape (1,) does not fit stem_prelu/alpha of shape (1, 1, 64)",
    ]
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"epoch": 3, "state_dict_backbone": state, "state_optimizer": {"state": {}}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        *[
            lambda state, prefix=prefix: {f"{prefix}{name}": value for name, value in state.items()}
            for prefix in (
                "model.",
                "_orig_mod.",
                "backbone.",
                "net.",
                "network.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "model.backbone.net.",
                "module.module.",
                "model.model._orig_mod.",
            )
        ],
        lambda state: {name.replace(".conv1.", "._orig_mod.conv1."): value for name, value in state.items()},
        *[
            lambda state, key=key: {key: state, "epoch": 3, "optimizer": {"state": {0: {}}, "param_groups": [{}]}}
            for key in ("model", "model_state_dict", "net", "network", "backbone", "weights of mine")
        ],
        lambda state: {"model": {"state_dict": {f"backbone.{name}": value for name, value in state.items()}}},
        lambda state: {"model": state, "model_ema": {"other": np.zeros(2)}, "epoch": np.array(3)},
    ],
)
def test_wrappings_are_removed(wrap):
    model, state = smallest(), smallest_state()
    load_torch(model, wrap(state))
    np.testing.assert_array_equal(to_numpy(model.get_layer("embedding").kernel), state["fc.weight"].T)
    wanted = state["layer3.0.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(to_numpy(model.get_layer("stage3_conv").kernel), wanted)


def test_a_prefix_of_some_names_alone_stays():
    state = smallest_state()
    state["module.fc.bias"] = state.pop("fc.bias")
    with pytest.raises(ConversionError, match=r"\nfc.bias: missing\nmodule.fc.bias: not in the model$"):
        load_torch(smallest(), state)


def test_tensors_beside_a_state_dict_are_not_passed_over():
    wrapped = {"state_dict": smallest_state(), "fc.weight": np.zeros((2, 512))}
    with pytest.raises(ConversionError, match=r"\nstate_dict: a dict, no tensor$"):
        load_torch(smallest(), wrapped)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2, "int64"), "numbers of type int64"),
        (np.zeros(2, "complex64"), "numbers of type complex64"),
        (np.array(["a", "b"]), "numbers of type <U1"),
        (np.array([None, 1.0]), "numbers of type object"),
        (np.array([1.0, np.nan]), "1 numbers are not finite in float32"),
        (np.array([1e39, -np.inf]), "2 numbers are not finite in float32"),
        ([0.0, 0.0], "a list, no tensor"),
    ],
)
def test_values_that_are_no_finite_numbers_are_refused(value, message):
    model = smallest()
    before = model.get_weights()
    with pytest.raises(ConversionError) as caught:
        load_torch(model, smallest_state(**{"fc.bias": value}))
    assert str(caught.value).splitlines()[1:] == [f"fc.bias: {message}"]
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    import ml_dtypes

    model, state = smallest(), smallest_state()
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    state = {name: value.astype(dtype) for name, value in state.items()}
    load_torch(model, state)
    np.testing.assert_array_equal(to_numpy(model.get_layer("embedding").bias), state["fc.bias"].astype("float32"))


@pytest.mark.parametrize("make", [lambda: LightCNN(9, (16, 16, 1)), lambda: SphereFaceNet(4, False, (16, 16, 3))])
def test_other_models_are_refused(make):
    with pytest.raises(ValueError, match=r'`model` must be an IResNet or a SphereFaceNet with variant="opensphere"'):
        load_torch(make(), {})


def test_a_model_with_more_on_top_is_refused():
    import keras

    backbone = smallest()
    more = keras.Model(backbone.input, keras.layers.Dense(3, name="head")(backbone.output))
    with pytest.raises(ValueError, match=r"`model` must be as its function returned it.*a layer 'head'"):
        load_torch(more, smallest_state())


def test_other_endings_are_refused():
    with pytest.raises(
        ValueError, match=r"`source` must end in .safetensors, .pt, .pth or .ckpt. Received: .*weights.bin"
    ):
        load_torch(smallest(), "weights.bin")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "backbone": state},
        lambda state: {"teacher": state, "student": state},
    ],
)
def test_a_checkpoint_of_several_networks_is_refused(wrap):
    with pytest.raises(ConversionError, match="`source` must hold one network"):
        load_torch(smallest(), wrap(smallest_state()))


def test_a_prefix_of_some_names_stays():
    state = smallest_state()
    state["model.extra"] = np.zeros(2)
    with pytest.raises(ConversionError, match=r"model\.extra: not in the model"):
        load_torch(smallest(), state)


def checkpoint_of(kind, state):
    """A published checkpoint's dictionary, with the head of its training where it has one."""
    head = {f"head.{name}": np.zeros(1) for name in ("kernel", "t", "batch_mean", "batch_std")}
    wrapped = {
        "adaface, of training": {"state_dict": {**prefixed("model.", state), **head}, "epoch": 25},
        "adaface, its network": prefixed("model.", state),
        "cvlface, model.pt": prefixed("net.", state),
        "cvlface, model.safetensors": prefixed("model.net.", state),
        "magface, of one process": {
            "state_dict": prefixed("module.", {**prefixed("features.", state), "fc.weight": np.zeros((16, 9))})
        },
        "magface, of many processes": {
            "state_dict": {**prefixed("features.module.", state), "parallel_fc.weight": np.zeros((9, 16))}
        },
        "magface, its network": prefixed("features.", state),
    }
    return wrapped[kind]


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.fixture(scope="module")
def models():
    return {kind: cases.model_of(kind) for kind in ("iresnet", "magface", "adaface")}


@pytest.mark.parametrize(
    "kind",
    [
        "adaface, of training",
        "adaface, its network",
        "cvlface, model.pt",
        "cvlface, model.safetensors",
        "magface, of one process",
        "magface, of many processes",
        "magface, its network",
    ],
)
def test_checkpoints_of_magface_adaface_and_cvlface(kind, models):
    family = "magface" if kind.startswith("magface") else "adaface"
    model, state = models[family], cases.random_state(family)
    names = {
        "adaface": ("output_layer.3.bias", "body.3.res_layer.2.weight"),
        "magface": ("fc.bias", "layer2.1.bn2.weight"),
    }
    for value in model.weights:
        value.assign(np.zeros(value.shape))
    load_torch(model, checkpoint_of(kind, state))
    for name, layer, weight in zip(names[family], ("fc", "stage2_unit2_bn2"), ("bias", "gamma"), strict=True):
        np.testing.assert_allclose(to_numpy(getattr(model.get_layer(layer), weight)), state[name], rtol=1e-6)
    assert all(np.any(to_numpy(weight)) for weight in model.weights)


def test_tensors_beside_the_network_that_are_not_the_heads_are_listed(models):
    state = cases.random_state("magface")
    given = prefixed("features.module.", state) | {"fc.weight": np.zeros((9, 16)), "quality.weight": np.zeros(2)}
    given["bn1.weight"] = np.zeros(64)
    with pytest.raises(ConversionError) as caught:
        load_torch(models["magface"], given)
    assert str(caught.value).splitlines() == [
        "The tensors are not those of iresnet18:",
        "quality.weight: not in the model",
        "beside bn1.weight: not in the model",
    ]
    head = {"head.kernel": np.zeros((16, 9)), "head.extra": np.zeros(1)}
    given = prefixed("model.", cases.random_state("adaface")) | head
    with pytest.raises(
        ConversionError, match=r"^The tensors are not those of iresnet18:\nhead.extra: not in the model$"
    ):
        load_torch(models["adaface"], given)


@pytest.mark.parametrize(
    ("model", "tensors", "hint"),
    [
        ("iresnet", "adaface", ', but have the names of IResNet\\(..., variant="adaface"\\):'),
        ("magface", "adaface", ', but have the names of IResNet\\(..., variant="adaface"\\):'),
        ("adaface", "iresnet", ', but have the names of IResNet\\(..., variant="insightface"\\):'),
        ("iresnet", "features.module.", ', but have the names of IResNet\\(..., variant="magface"\\):'),
    ],
)
def test_the_variant_that_has_such_names_is_named(models, model, tensors, hint):
    state = prefixed(tensors, cases.random_state("iresnet")) if "." in tensors else cases.random_state(tensors)
    with pytest.raises(ConversionError, match=f"^The tensors are not those of iresnet18{hint}\n"):
        load_torch(models[model], state)
