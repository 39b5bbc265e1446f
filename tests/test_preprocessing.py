"""Preprocessing: what it does to pixels, its JSON, and the layer."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface import Preprocessing
from keras_normface.layers import PixelScaling
from keras_normface.preprocessing import (
    PREPROCESSING,
    SCALINGS,
    check_same_preprocessing,
    preprocessing_from_json,
)
from tests.support.helpers import check_layer, in_graph, to_numpy

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), "uint8")
PIXELS[0, 0, 0] = (0, 255, 127)


SUBTRACTED_AND_DIVISOR = {
    "sphereface": (127.5, 128.0),
    "am_softmax": (128.0, 128.0),
    "minus_one_to_one": (127.5, 127.5),
    "zero_to_one": (0.0, 255.0),
    "none": (0.0, 1.0),
}


def by_hand(images, scaling, channels):
    """Float64, a pixel at a time in the order of the words: order the channels, subtract, divide."""
    x = np.asarray(images, "float64")
    if channels == "BGR":
        x = np.stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1)
    if channels == "GRAY":
        x = (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2])[..., None]
    subtracted, divisor = SUBTRACTED_AND_DIVISOR[scaling]
    return (x - subtracted) / divisor


@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_pixels_against_the_words_in_numpy_and_in_a_graph(scaling, channels):
    preprocessing = Preprocessing(size=(4, 5), **SCALINGS[scaling], channels=channels)
    expected = by_hand(PIXELS, scaling, channels)
    for images in (PIXELS, PIXELS.astype("float32"), ops.convert_to_tensor(PIXELS)):
        outputs = preprocessing(images)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert tuple(outputs.shape[1:]) == preprocessing.output_shape
        np.testing.assert_allclose(to_numpy(outputs), expected, atol=1e-6 if scaling != "none" else 1e-4)
    np.testing.assert_allclose(in_graph(preprocessing, PIXELS), expected, atol=1e-6 if scaling != "none" else 1e-4)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_scaling_of_every_pixel_value(scaling):
    values = np.repeat(np.arange(256, dtype="uint8"), 3).reshape(1, 1, 256, 3)
    outputs = to_numpy(Preprocessing((1, 256), **SCALINGS[scaling])(values))
    np.testing.assert_allclose(outputs, by_hand(values, scaling, "RGB"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [("sphereface", "sphereface"), ("am_softmax", "am_softmax"), ("sphereface_r", "minus_one_to_one")],
)
def test_every_paper_of_every_pixel_value(name, scaling):
    preset = PREPROCESSING[name]
    values = np.broadcast_to(np.arange(256, dtype="uint8")[:, None, None, None], (256, *preset.size, 3))[:, :2, :2]
    outputs = to_numpy(preset.replace(size=(2, 2))(values))
    np.testing.assert_allclose(outputs, by_hand(values, scaling, preset.channels), rtol=0, atol=1e-6)


def test_scale_and_offset_per_channel_are_those_of_rescaling():
    scale, offset = (0.5, 0.25, 1 / 255), (1, -1, 0.125)
    for channels, order in (("RGB", slice(None)), ("BGR", slice(None, None, -1))):
        preprocessing = Preprocessing((4, 5), scale, list(offset), channels)
        expected = PIXELS[..., order].astype("float64") * scale + offset
        np.testing.assert_allclose(to_numpy(preprocessing(PIXELS)), expected, rtol=1e-6)
        np.testing.assert_allclose(in_graph(preprocessing, PIXELS), expected, rtol=1e-6)
        assert preprocessing_from_json(json.dumps(preprocessing.to_dict())) == preprocessing
    layer = keras.layers.Rescaling(1 / 128, offset=-127.5 / 128)
    np.testing.assert_allclose(to_numpy(Preprocessing((4, 5))(PIXELS)), to_numpy(layer(PIXELS)), atol=1e-6)
    assert Preprocessing((4, 5), (2,), 0, "GRAY").scales_pixels
    assert not Preprocessing((4, 5), (1, 1, 1), 0).scales_pixels


def test_the_input_is_not_changed():
    before = PIXELS.copy()
    Preprocessing(size=(4, 5), channels="BGR")(PIXELS)
    np.testing.assert_array_equal(PIXELS, before)


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (3, 4, 5, 1), (4, 5, 3), (3, 4, 5, 3, 1)])
def test_another_shape_is_refused_with_both_sizes(shape):
    with pytest.raises(ValueError, match=r"\(batch, 4, 5, 3\)") as caught:
        Preprocessing(size=(4, 5))(np.zeros(shape, "uint8"))
    assert str(shape) in str(caught.value)


def test_what_is_no_array_is_refused():
    with pytest.raises(ValueError, match="Received: list"):
        Preprocessing(size=(4, 5))([[0]])


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"size": (0, 5)}, "size"),
        ({"size": (5, 4097)}, "size"),
        ({"size": (5,)}, "size"),
        ({"size": 5}, "size"),
        ({"size": (True, 5)}, "size"),
        ({"size": (4.0, 5.0)}, "size"),
        ({"size": [[4], 5]}, "size"),
        ({"scale": "over_255"}, "scale"),
        ({"scale": None}, "scale"),
        ({"scale": True}, "scale"),
        ({"scale": 0}, "scale"),
        ({"scale": [1.0, 0.0, 1.0]}, "scale"),
        ({"scale": [1.0, 1.0]}, "scale"),
        ({"scale": [1.0, 1.0, "1"]}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"offset": float("nan")}, "offset"),
        ({"offset": [0.0]}, "offset"),
        ({"offset": 10**400}, "offset"),
        ({"offset": None}, "offset"),
        ({"channels": "rgb"}, "channels"),
        ({"template": "five_points"}, "template"),
        ({"template": 3}, "template"),
    ],
)
def test_wrong_fields_are_named(changes, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        Preprocessing(**changes)
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        Preprocessing.from_dict({**Preprocessing().to_dict(), **changes})
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        Preprocessing().replace(**changes)


def test_missing_and_unknown_keys_are_refused():
    fields = Preprocessing().to_dict()
    for wrong in ({**fields, "resize": True}, {k: fields[k] for k in list(fields)[:-1]}, {"version": 2}):
        with pytest.raises(ValueError, match="must have the keys"):
            Preprocessing.from_dict(wrong)
    with pytest.raises(ValueError, match="Received: list"):
        Preprocessing.from_dict([])
    with pytest.raises(ValueError, match="resize"):
        Preprocessing().replace(resize=True)


def test_another_version_is_refused_by_its_number():
    old = {"size": [112, 112], "scaling": "minus_127.5_over_128", "channels": "RGB", "template": None}
    for wrong in (old, {**Preprocessing().to_dict(), "version": 1}, {**Preprocessing().to_dict(), "version": 3}, {}):
        with pytest.raises(ValueError, match="`version` of a Preprocessing must be 2"):
            preprocessing_from_json(json.dumps(wrong))
    with pytest.raises(ValueError, match="Received: 'none, as version 1 had'"):
        Preprocessing.from_dict(old)


numbers = st.floats(-1e6, 1e6).filter(lambda n: n != 0)
every_preprocessing = st.builds(
    Preprocessing,
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    scale=numbers | st.tuples(numbers, numbers, numbers),
    offset=numbers | st.tuples(numbers, numbers, numbers),
    channels=st.sampled_from(["RGB", "BGR"]),
    template=st.sampled_from([None, "sphereface_112x96", "arcface_112x112"]),
)


@settings(deadline=None, max_examples=50)
@given(every_preprocessing)
def test_json_round_trip(preprocessing):
    again = preprocessing_from_json(json.dumps(preprocessing.to_dict()))
    assert again == preprocessing
    assert hash(again) == hash(preprocessing)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=100)
@given(json_values, st.sampled_from(["version", "size", "scale", "offset", "channels", "template", None]))
def test_any_json_gives_a_preprocessing_or_a_value_error(value, key):
    whole = value if key is None else {**Preprocessing().to_dict(), key: value}
    try:
        made = preprocessing_from_json(json.dumps(whole))
    except ValueError:
        return
    assert made.to_dict() == whole


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\xff", b"[" * 60000, b'{"size":' * 9000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match="not valid JSON"):
        preprocessing_from_json(text)


def test_differences_name_both_values():
    first = Preprocessing(scale=0.5)
    second = first.replace(scale=(1, 2, 3), size=(112, 96))
    check_same_preprocessing(first, first.replace())
    assert first.differences(second) == [
        "size: data (112, 112), model (112, 96)",
        "scale: data 0.5, model (1.0, 2.0, 3.0)",
    ]
    with pytest.raises(ValueError, match=r"size: gallery \(112, 112\), probe \(112, 96\); scale: gallery 0\.5"):
        check_same_preprocessing(first, second, names=("gallery", "probe"))


def test_the_preset_of_am_softmax():
    preset = PREPROCESSING["am_softmax"]
    images = np.broadcast_to(np.array([0, 128, 255], "uint8"), (1, 112, 96, 3))
    np.testing.assert_allclose(to_numpy(preset(images))[0, 0, 0], [127 / 128, 0.0, -1.0], atol=1e-7)


def test_the_layer(tmp_path):
    check_layer(lambda: PixelScaling(Preprocessing(size=(4, 5), channels="GRAY")), (4, 5, 3), tmp_path)


def test_the_layer_is_saved_with_a_model_of_raw_images(tmp_path):
    image = keras.Input((4, 5, 3), dtype="uint8")
    model = keras.Model(image, PixelScaling(Preprocessing(size=(4, 5), channels="BGR"))(image))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = by_hand(PIXELS, "sphereface", "BGR")
    np.testing.assert_allclose(again.predict(PIXELS, verbose=0), expected, atol=1e-6)
    assert again.layers[-1].preprocessing == Preprocessing(size=(4, 5), channels="BGR")
