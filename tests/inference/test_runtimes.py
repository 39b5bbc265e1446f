"""What runs an exported model: files that are damaged or not there, and packages that are not installed."""

import builtins

import keras
import numpy as np
import pytest

from keras_normface import Preprocessing, embedding_model
from keras_normface.inference._runtimes import keras_runtime, open_runtime

FILES = {"model.onnx": "onnxruntime", "model.tflite": "ai_edge_litert"}
FORMATS = {"model.onnx": "onnx", "model.tflite": "litert"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"garbage" * 40])
def test_a_damaged_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} must be an? \w+ file, but it is truncated or corrupt"):
        open_runtime(tmp_path, FORMATS[name])


@pytest.mark.parametrize("name", FILES)
def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch, name):
    found = builtins.__import__

    def missing(module, *arguments, **options):
        if module.startswith(FILES[name]):
            raise ImportError(module)
        return found(module, *arguments, **options)

    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=f"{name} needs the package {FILES[name].replace('_', '-')}: pip install"):
        open_runtime(tmp_path, FORMATS[name])


@pytest.mark.parametrize(("format", "file"), [("saved_model", "saved_model.pb"), ("onnx", "model.onnx")])
def test_the_card_says_which_file_there_must_be(tmp_path, format, file):
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=f"must hold {file}, as its card says"):
        open_runtime(tmp_path, format)


def test_a_network_takes_batches_of_any_size():
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    preprocessing = Preprocessing(size=(6, 5))
    runtime = keras_runtime(embedding_model(net, preprocessing=preprocessing))
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 5, 3), dtype="uint8")
    rows = np.asarray(net(preprocessing(images)))
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert runtime.dimension == 4
    for count in (5, 1, 3):
        np.testing.assert_allclose(runtime.call(images[:count]), expected[:count], atol=1e-6)
