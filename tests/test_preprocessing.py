"""Preprocessing: what it does to pixels, its JSON, and the layer."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface import Preprocessing
from keras_normface.preprocessing import (
    PREPROCESSING,
    SCALINGS,
    PixelScaling,
    check_same_preprocessing,
    preprocessing_from_json,
)
from tests.support.helpers import check_layer, in_graph, to_numpy

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), "uint8")
PIXELS[0, 0, 0] = (0, 255, 127)


def by_hand(images, scaling, channels):
    """Float64, a pixel at a time in the order of the words: order the channels, subtract, divide."""
    x = np.asarray(images, "float64")
    if channels == "BGR":
        x = np.stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1)
    if channels == "GRAY":
        x = (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2])[..., None]
    return {
        "minus_127.5_over_128": (x - 127.5) / 128,
        "minus_128_over_128": (x - 128) / 128,
        "minus_127.5_over_127.5": (x - 127.5) / 127.5,
        "over_255": x / 255,
        "none": x,
    }[scaling]


@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_pixels_against_the_words_in_numpy_and_in_a_graph(scaling, channels):
    preprocessing = Preprocessing(size=(4, 5), scaling=scaling, channels=channels)
    expected = by_hand(PIXELS, scaling, channels)
    for images in (PIXELS, PIXELS.astype("float32"), ops.convert_to_tensor(PIXELS)):
        outputs = preprocessing(images)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert tuple(outputs.shape[1:]) == preprocessing.output_shape
        np.testing.assert_allclose(to_numpy(outputs), expected, atol=1e-6 if scaling != "none" else 1e-4)
    np.testing.assert_allclose(in_graph(preprocessing, PIXELS), expected, atol=1e-6 if scaling != "none" else 1e-4)


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
        ({"scaling": "over_256"}, "scaling"),
        ({"scaling": None}, "scaling"),
        ({"scaling": ["none"]}, "scaling"),
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
    for wrong in ({**fields, "resize": True}, {k: fields[k] for k in list(fields)[1:]}, {}):
        with pytest.raises(ValueError, match="must have the keys"):
            Preprocessing.from_dict(wrong)
    with pytest.raises(ValueError, match="Received: list"):
        Preprocessing.from_dict([])
    with pytest.raises(ValueError, match="resize"):
        Preprocessing().replace(resize=True)


every_preprocessing = st.builds(
    Preprocessing,
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    scaling=st.sampled_from(sorted(SCALINGS)),
    channels=st.sampled_from(["RGB", "BGR", "GRAY"]),
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
@given(json_values, st.sampled_from(["size", "scaling", "channels", "template", None]))
def test_any_json_gives_a_preprocessing_or_a_value_error(value, key):
    whole = value if key is None else {**Preprocessing().to_dict(), key: value}
    try:
        made = preprocessing_from_json(json.dumps(whole))
    except ValueError:
        return
    assert made.to_dict() == whole


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\xff", b"[" * 60000, b'{"size":' * 9000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match="no JSON"):
        preprocessing_from_json(text)


def test_differences_name_both_values():
    first = Preprocessing(scaling="over_255")
    second = first.replace(scaling="none", size=(112, 96))
    check_same_preprocessing(first, first.replace())
    assert first.differences(second) == [
        "size: data [112, 112], model [112, 96]",
        "scaling: data 'over_255', model 'none'",
    ]
    with pytest.raises(ValueError, match=r"size: gallery \[112, 112\], probe \[112, 96\]; scaling: gallery 'over_255'"):
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
    expected = by_hand(PIXELS, "minus_127.5_over_128", "BGR")
    np.testing.assert_allclose(again.predict(PIXELS, verbose=0), expected, atol=1e-6)
    assert again.layers[-1].preprocessing == Preprocessing(size=(4, 5), channels="BGR")
