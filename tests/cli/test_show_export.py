"""`show` and `export`: a training's output directory or the ready network to every form, and its card."""

import dataclasses
import io
import json
import pickle
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_normface import backbones, export_embedding_model, recipes
from keras_normface.cli._run_directory import RUN_FORMAT
from keras_normface.inference import CalibratedThreshold, model_fingerprint, read_card, write_card
from keras_normface.inference._runtimes import open_runtime
from tests.support import faces
from tests.support.casia import call, refused
from tests.support.ready import THRESHOLD, ready_network

SIZE = (48, 40)


def written_face(person, image):
    pixels = Image.open(io.BytesIO(faces.face(person, image))).convert("RGB").resize(SIZE[::-1])
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A training's output directory `run`, faces, and `pairs.bin`."""
    root = tmp_path_factory.mktemp("export")
    recipe = recipes.get("am_softmax_casia").replace(backbone_options={"depth": 4}, embedding_dim=16)
    recipe = recipe.replace(preprocessing=recipe.preprocessing.replace(size=SIZE, template=None))
    recipe.save(root / "run")
    keras.utils.set_random_seed(0)
    backbone = recipe.build(3).backbone
    backbone.save_weights(root / "run" / "backbone.weights.h5")
    RUN_FORMAT.write(root / "run" / "run.json", {"seed": 0, "images": 40, "identities": 3, "figures": {}})
    threshold = CalibratedThreshold(0.5, 0.125, None, 0.5, 1.0, num_genuine=2, num_impostor=2, protocol="toy")
    options = {"flip": "sum", "preprocessing": recipe.preprocessing}
    card = {"threshold": threshold, "licence": "CC0-1.0"}
    export_embedding_model(backbone, root / "run" / "embedding", card=card, **options)
    for person in range(1, 5):
        (root / "faces" / f"p{person}").mkdir(parents=True)
        for image in range(1, 4):
            (root / "faces" / f"p{person}" / f"{image}.png").write_bytes(written_face(person, image))
    people = [1 + k // 4 + (k % 4 == 3) for k in range(40)]  # of each person a genuine pair, and one with the next
    images = [written_face(person, 1 + k % 4) for k, person in enumerate(people)]
    (root / "pairs.bin").write_bytes(pickle.dumps((images, [k % 2 == 0 for k in range(20)])))
    return root


def card_shown(path):
    shown = call("show", path, "--json")
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def test_show_prints_the_card_and_loads_neither_tensorflow_nor_keras(place):
    path = place / "run" / "embedding"
    assert card_shown(path) == read_card(path).to_dict()
    script = (
        "import sys; sys.argv[1:] = ['show', sys.argv[1]]; from keras_normface.cli.main import run\n"
        "try: run()\nfinally: print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "licence        CC0-1.0" in done.stdout
    assert "toy: accept when cosine >= 0.1250" in done.stdout


def test_show_refuses_in_one_line(place, tmp_path):
    assert "must be the directory of an exported model" in refused("show", place / "faces")
    (tmp_path / "model.json").write_text("{}")
    assert "model.json is not valid: `format` must be 'keras_normface.model'" in refused("show", tmp_path)


@pytest.mark.slow
def test_a_training_to_a_saved_model(place):
    result = call("export", place / "run", "--to", "saved_model", "--pairs", place / "pairs.bin")
    assert result.exit_code == 0, result.output
    path = place / "run" / "saved_model"
    assert result.stdout.splitlines()[-1] == f"Written: {path}"
    card, earlier = read_card(path), read_card(place / "run" / "embedding")
    assert (card.flip, card.licence, card.threshold) == ("sum", "CC0-1.0", earlier.threshold)
    assert card.recipe["recipe"] == "am_softmax_casia"
    assert card.training_data == "40 images of 3 identities"
    names = [figure.name for figure in card.figures]
    assert names == ["accuracy", "TAR@FAR=1", "accuracy of the network", "TAR@FAR=1 of the network"]
    assert card.figures[0].value == card.figures[2].value
    images = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), "uint8")
    expected = open_runtime(place / "run" / "embedding", "saved_model").call(images)
    np.testing.assert_allclose(open_runtime(path, "saved_model").call(images), expected, atol=1e-6)
    assert "--overwrite replaces a model" in refused("export", place / "run", "--to", "saved_model")
    assert call("export", place / "run", "--to", "saved_model", "--flip", "none", "--overwrite").exit_code == 0
    assert (read_card(path).flip, read_card(path).threshold) == ("none", None)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "litert"])
def test_a_training_to_int8_is_refused_below_a_loss_unless_insisted_upon(place, tmp_path, to):
    options = ["export", place / "run", "--to", to, "--quantize", "int8", "--out", tmp_path / "model"]
    options += ["--calibration", place / "faces", "--pairs", place / "pairs.bin"]
    assert call(*options, "--max-loss", "1").exit_code == 0
    card, fingerprint = read_card(tmp_path / "model"), model_fingerprint(tmp_path / "model")
    assert card.figures[0].data == "12 images"
    assert card.figures[0].value > 0.95
    assert card.threshold.protocol == "toy, in float32 before the quantization to int8"

    from keras_normface.cli import _export_run

    with pytest.MonkeyPatch.context() as patch:
        figures = iter([{"accuracy": 0.9}, {"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": 0.8}])
        patch.setattr(_export_run.PairCheck, "_figures", lambda *_: next(figures))
        line = refused(*options, "--overwrite")
        assert "accuracy on pairs.bin, 20 pairs falls from 0.9000 to 0.8000, by more than --max-loss 0.005" in line
        assert model_fingerprint(tmp_path / "model") == fingerprint
        assert call(*options, "--overwrite", "--insist").exit_code == 0
    assert [figure.value for figure in read_card(tmp_path / "model").figures[1:]] == [0.8, 0.9]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_ready_network(place, tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "pretrained", lambda name: ready_network(name=name))
    result = call("export", "dlib", "--to", "saved_model", "--out", tmp_path / "ready", "--licence", "MIT")
    assert result.exit_code == 0, result.output
    card = read_card(tmp_path / "ready")
    assert (card.licence, card.source, card.flip, card.threshold) == ("MIT", "a test", "none", THRESHOLD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "saved_model", "--quantize", "int8"], "must not be given for --to saved_model"),
        (["--to", "saved_model", "--quantize", "float16"], "must not be given for --to saved_model"),
        (["--to", "onnx", "--quantize", "int8"], "int8 needs --calibration"),
        (["--to", "onnx", "--insist"], "--insist needs --pairs"),
        (["--to", "onnx", "--far", "0.1"], "--far needs --pairs"),
        (["--to", "tflite"], "'tflite' is not one of"),
        (["--to", "onnx", "--quantize", "int4"], "'int4' is not one of"),
        (["--to", "onnx", "--pairs", "PAIRS", "--far", "7"], "--far"),
        (["--to", "onnx", "--licence", " "], "--licence must not be empty"),
        (["--to", "onnx", "--out", "FACES"], "--overwrite replaces a model"),
        ([], "Missing option '--to'"),
    ],
)
def test_options_that_do_not_go_together(place, options, message):
    paths = {"PAIRS": place / "pairs.bin", "FACES": place / "faces"}
    result = call("export", place / "run", *(paths.get(option, option) for option in options))
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_cannot_be_exported_is_one_line(place, tmp_path):
    to = ["--to", "saved_model", "--out", tmp_path / "model"]
    assert "RUN must be the output directory of keras-normface train" in refused("export", place / "faces", *to)
    recipes.read(place / "run" / "recipe.json").save(tmp_path / "run")
    assert "the training has not ended" in refused("export", tmp_path / "run", *to)
    (tmp_path / "run" / "backbone.weights.h5").write_bytes(b"no weights")
    (tmp_path / "run" / "run.json").write_bytes((place / "run" / "run.json").read_bytes())
    assert "does not hold the weights of SphereFaceNet" in refused("export", tmp_path / "run", *to)
    (tmp_path / "none").mkdir()
    assert "holds no images" in refused("export", place / "run", *to, "--calibration", tmp_path / "none")
    (tmp_path / "none" / "a.png").write_bytes(b"no image")
    assert "a.png cannot be decoded" in refused("export", place / "run", *to, "--calibration", tmp_path / "none")
    Image.new("RGB", (30, 30)).save(tmp_path / "none" / "a.png")
    line = refused("export", place / "run", *to, "--calibration", tmp_path / "none")
    assert "a.png must be an aligned face of 48 x 40 pixels (height x width). Received: 30 x 30" in line
    (tmp_path / "pairs.bin").write_bytes(b"no pickle")
    assert "is not a valid pair file" in refused("export", place / "run", *to, "--pairs", tmp_path / "pairs.bin")
    Image.new("RGB", (9000, 9000)).save(tmp_path / "none" / "a.png")
    assert "a.png is too large" in refused("export", place / "run", *to, "--calibration", tmp_path / "none")
    images = [written_face(1, 1)] * 22
    (tmp_path / "eleven.bin").write_bytes(pickle.dumps((images, [k % 2 == 0 for k in range(11)])))
    assert "equal folds. Received: 11 pairs" in refused(
        "export", place / "run", *to, "--pairs", tmp_path / "eleven.bin"
    )
    assert not (tmp_path / "model").exists()


def test_a_training_is_not_replaced_by_a_model(place):
    before = sorted(entry.name for entry in (place / "run").iterdir())
    line = refused("export", place / "run", "--to", "saved_model", "--out", place / "run", "--overwrite")
    assert "`path` must hold an exported model if it is to be replaced" in line
    assert sorted(entry.name for entry in (place / "run").iterdir()) == before


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (10**14,), }", b""]
)
def test_images_of_a_training_that_are_corrupt_are_named(place, tmp_path, content):
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "check_images.npy").write_bytes(content)
    line = refused("export", tmp_path / "run", "--to", "saved_model", "--out", tmp_path / "model")
    assert "check_images.npy is corrupt" in line


def test_the_threshold_of_a_quantized_model_is_not_taken_for_the_networks(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    card = read_card(tmp_path / "run" / "embedding")
    (tmp_path / "run" / "embedding" / "model.onnx").write_bytes(b"")
    write_card(tmp_path / "run" / "embedding", dataclasses.replace(card, format="onnx", quantization="int8"))
    assert call("export", tmp_path / "run", "--to", "saved_model", "--out", tmp_path / "model").exit_code == 0
    assert read_card(tmp_path / "model").threshold is None
