"""ONNX and LiteRT beside the SavedModel: the same embeddings, any number of images, quantized, refused by name."""

import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_normface as knf
from keras_normface.inference import CardFigure, model_fingerprint, read_card
from keras_normface.inference._card import FORMATS, QUANTIZATIONS

SIZE = (24, 20)
SMALLEST = "smallest cosine to the Keras model in float32"
NEEDS = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}


def network():
    """Convolutions with all that the backbones have: strides, batch normalisation, PReLU, a residual."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(16, 3, strides=2)(image)
    x = keras.layers.PReLU(shared_axes=[1, 2])(keras.layers.BatchNormalization()(x))
    x = keras.layers.add([x, keras.layers.ReLU()(keras.layers.Conv2D(16, 3, padding="same")(x))])
    net = keras.Model(image, keras.layers.Dense(32)(keras.layers.Flatten()(x)))
    pick = np.random.default_rng(0)
    net.set_weights([w if w.ndim > 1 else pick.uniform(0.5, 1.5, w.shape) for w in net.get_weights()])
    return net


def faces(count, noise=0.4):
    """Patterns that are smooth, as faces are."""
    pick = np.random.default_rng(1)
    coarse = pick.normal(size=(count, 6, 5, 3))
    smooth = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2) + noise * pick.normal(size=(count, *SIZE, 3))
    return np.clip(127.5 + 60 * smooth, 0, 255).astype("uint8")


@pytest.fixture(scope="module")
def net():
    return network()


def export(net, path, format, quantize="none", **options):
    options = {"flip": "sum", "preprocessing": knf.Preprocessing(SIZE, channels="BGR"), "images": faces(24), **options}
    return knf.export_embedding_model(net, path, format=format, quantize=quantize, **options)


def call(path):
    from keras_normface.inference._runtimes import open_runtime

    card = read_card(path)
    return open_runtime(path, card.format, card.quantization).call


# Measured on this network and these images: 2e-13, 2e-7, 2e-4 and 1e-3 away from 1.
LEAST = {"none": 1 - 1e-6, "float16": 1 - 1e-5, "dynamic": 0.998, "int8": 0.99}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_every_form_gives_the_embeddings_of_the_network(net, tmp_path, format):
    images = faces(40)
    for quantize in QUANTIZATIONS:
        path = tmp_path / quantize
        cut = export(net, path, format, quantize, card={"licence": "CC0-1.0"})
        expected = np.asarray(cut(images))
        run = call(path)
        alone = np.concatenate([run(images[:1]), run(images[1:2])])
        np.testing.assert_allclose(run(images)[:2], alone, atol=1e-6)  # an embedding does not depend on its neighbours
        for found in (run(images), np.concatenate([run(images[:7]), run(images[7:8]), run(images[8:])])):
            assert found.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
            assert np.sum(found * expected, axis=1).min() >= LEAST[quantize]
        card = read_card(path)
        assert (card.format, card.quantization, card.dimension, card.licence) == (format, quantize, 32, "CC0-1.0")
        assert (card.input_shape, card.input_dtype, card.flip) == ((*SIZE, 3), "uint8", "sum")
        assert set(NEEDS[format]) < set(card.versions)
        assert card.figures[0].value >= LEAST[quantize]
        assert card.figures[0].data == "24 images"
        assert sorted(entry.name for entry in path.iterdir()) == ["README.md", "model.json", FORMATS[format]]
    sizes = {name: (tmp_path / name / FORMATS[format]).stat().st_size for name in QUANTIZATIONS}
    assert sizes["float16"] < 0.6 * sizes["none"]
    assert max(sizes["dynamic"], sizes["int8"]) < 0.5 * sizes["none"]
    assert len({model_fingerprint(tmp_path / name) for name in QUANTIZATIONS}) == len(QUANTIZATIONS)
    before = model_fingerprint(tmp_path / "none")
    (tmp_path / "none" / "weights.bin").write_bytes(b"data outside the graph")
    assert model_fingerprint(tmp_path / "none") != before
    with pytest.raises(ValueError, match=r"does not take images uint8 \(2, 9, 9, 3\)"):
        call(tmp_path / "none")(np.zeros((2, 9, 9, 3), "uint8"))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_what_was_trained_in_mixed_precision_is_exported_in_float32(tmp_path, format):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = network()
    finally:
        keras.config.set_dtype_policy("float32")
    export(mixed, tmp_path / "model", format)
    assert next(layer.dtype_policy.name for layer in mixed.layers if layer.weights) == "mixed_float16"
    twin = network()
    twin.set_weights(mixed.get_weights())
    expected = knf.embedding_model(twin, flip="sum", preprocessing=knf.Preprocessing(SIZE, channels="BGR"))
    images = faces(5)
    np.testing.assert_allclose(call(tmp_path / "model")(images), expected(images), atol=1e-5)


def test_a_saved_model_is_compared_too_and_what_differs_is_not_put_in_place(net, tmp_path, monkeypatch):
    cut = export(net, tmp_path / "model", "saved_model")
    card = read_card(tmp_path / "model")
    assert [(figure.name, figure.data) for figure in card.figures] == [(SMALLEST, "24 images")]
    assert card.figures[0].value > 1 - 1e-6
    fingerprint = model_fingerprint(tmp_path / "model")

    from keras_normface.inference import _export

    real = _export.open_runtime

    def broken(*arguments):
        runtime = real(*arguments)
        return runtime._replace(call=lambda images: runtime.call(images) + np.float32(0.001))

    monkeypatch.setattr(_export, "open_runtime", broken)
    with pytest.raises(ValueError, match=r"differs from the Keras model: cosine 0\.9999"):
        export(net, tmp_path / "model", "saved_model", overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert model_fingerprint(tmp_path / "model") == fingerprint
    assert cut.dtype == "float32"


@pytest.mark.slow
def test_a_check_of_ones_own_adds_figures_or_refuses(net, tmp_path):
    images = faces(4)

    def check(original, exported):
        return [CardFigure("largest difference", float(np.abs(original(images) - exported(images)).max()), "4 images")]

    def refuse(original, exported):
        raise ValueError("accuracy falls by .1")

    export(net, tmp_path / "model", "saved_model", check=check, card={"figures": [CardFigure("EER", 0.1, "toy")]})
    assert [figure.name for figure in read_card(tmp_path / "model").figures] == [
        "EER",
        SMALLEST,
        "largest difference",
    ]
    with pytest.raises(ValueError, match=r"falls by \.1"):
        export(net, tmp_path / "other", "saved_model", check=refuse)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "`format` must be one of saved_model, onnx, litert"),
        ({"quantize": "int4", "format": "onnx"}, "`quantize` must be one of none, float16, dynamic, int8"),
        ({"quantize": "int8"}, "`quantize` must be 'none' for format='saved_model'"),
        ({"format": "onnx", "preprocessing": None}, "`preprocessing` must be given, or be in the model"),
        ({"format": "litert", "quantize": "int8", "images": None}, "`images` must be given for quantize='int8'"),
        ({"images": faces(2).astype("float32")}, r"`images` must be uint8 of shape \(n, 24, 20, 3\).* float32"),
        ({"images": faces(2)[:, 1:]}, r"`images` must be uint8 .*\(2, 23, 20, 3\)"),
        ({"images": faces(2)[:0]}, "at least one"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(net, tmp_path, options, message):
    options = {"format": "saved_model", "preprocessing": knf.Preprocessing(SIZE), "images": faces(2), **options}
    with pytest.raises(ValueError, match=message):
        knf.export_embedding_model(net, tmp_path / "model", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format", "package"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")])
def test_without_the_packages_the_error_says_what_to_install(net, tmp_path, monkeypatch, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "keras-normface\[{format}\]"'):
        knf.export_embedding_model(net, tmp_path / "m", format=format, preprocessing=knf.Preprocessing(SIZE))
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_that_does_not_fit_the_other_packages_is_named(net, tmp_path, monkeypatch):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "__init__.py").write_text("raise AttributeError('ml_dtypes has no float4_e2m1fn')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"float4_e2m1fn; pip install .keras-normface\[onnx\]"):
        knf.export_embedding_model(net, tmp_path / "m", format="onnx", preprocessing=knf.Preprocessing(SIZE))


KILLED = """
import sys
from tests.inference import test_formats
net = test_formats.network()
print("ready", flush=True)
number = 0
while True:
    number += 1
    card = {"source": f"export {number}"}
    test_formats.export(net, sys.argv[1], sys.argv[2], images=None, card=card, overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["saved_model", "litert"])
def test_exports_killed_at_random_moments_leave_the_old_model_or_the_new_one(net, tmp_path, format):
    images, pick = faces(3), np.random.default_rng(7)
    path = tmp_path / "model"
    export(net, path, format)
    expected = call(path)(images)
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", KILLED, path, format], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(pick.uniform(0.3, 4))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if not path.exists():  # between the two renames: the next export puts it back
            with pytest.warns(RuntimeWarning, match="is there again"), pytest.raises(FileExistsError):
                export(net, path, format)
        assert read_card(path).format == format
        np.testing.assert_allclose(call(path)(images), expected, atol=1e-5)
