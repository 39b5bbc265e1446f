"""The product: a SavedModel that a process without the package loads, and .keras files of whole models."""

import json
import os
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

import keras_normface as knf
from keras_normface.inference import model_fingerprint, read_card

LOADER = """
import json, sys
sys.modules["keras_normface"] = None  # an import of the package now fails
import numpy as np, tensorflow as tf
for path in sys.argv[2:]:
    model = tf.saved_model.load(path)  # its variables live as long as it does
    np.save(path + ".npy", model.serve(np.load(sys.argv[1])).numpy())
json.dump(sorted(m for m in sys.modules if m.startswith("keras_normface.")), sys.stdout)
"""


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 8, 6, 1)).astype("float32")


def classifier(policy="float32"):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        tensor = keras.Input((8, 6, 1))
        x = keras.layers.Conv2D(4, 3, activation="relu")(tensor)
        x = keras.layers.BatchNormalization()(x)
        embedding = keras.layers.Dense(7, name="embedding")(keras.layers.Flatten()(x))
        return keras.Model(tensor, knf.LearnableScale()(knf.CosineDense(3)(embedding)))
    finally:
        keras.config.set_dtype_policy("float32")


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_process_without_the_package_gets_the_same_embeddings(tmp_path, images):
    model = classifier()
    np.save(tmp_path / "in.npy", images)
    paths = [tmp_path / flip for flip in ("none", "sum")]
    for path in paths:
        knf.export_embedding_model(model, path, flip=path.name)
    arguments = [str(path) for path in (tmp_path / "in.npy", *paths)]
    run = subprocess.run([sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1]) == []
    raw = keras.Model(model.inputs, model.get_layer("embedding").output)
    expected = raw.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "none.npy"), unit(expected), atol=1e-6)
    expected = expected + raw.predict(images[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "sum.npy"), unit(expected), atol=1e-6)


def test_embeddings_are_float32_units_under_mixed_precision(images):
    outputs = knf.embedding_model(classifier("mixed_bfloat16"), flip="sum").predict(images, verbose=0)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(outputs, axis=1), 1.0, atol=1e-6)


def reduced_types(path):
    """How many nodes of a SavedModel's functions compute in float16 or bfloat16."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    types = [t for f in saved.meta_graphs[0].graph_def.library.function for n in f.node_def for t in n.attr.values()]
    return sum(t.type in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16) for t in types)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_reduced_precision_is_exported_in_float32(tmp_path, images, policy):
    model, twin = classifier(policy), classifier()
    twin.set_weights(model.get_weights())
    before = [layer.dtype_policy.name for layer in model.layers]
    cut = knf.export_embedding_model(model, tmp_path / "exported", flip="sum")
    assert [layer.dtype_policy.name for layer in model.layers] == before
    assert policy in before
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = loaded.serve(images)
    assert served.dtype == tf.float32
    assert reduced_types(tmp_path / "exported") == 0
    expected = knf.embedding_model(twin, flip="sum")(images)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)
    assert np.abs(cut(images) - expected).max() > 1e-5, "the trained model goes on in its own precision"


def test_keras_file_round_trips_without_custom_objects(tmp_path, images):
    model = classifier()
    model.compile("sgd", knf.NormFaceLoss(label_smoothing=0.1))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))
    assert again.loss.get_config() == model.loss.get_config()
    again.fit(images, np.zeros(5), verbose=0)


def test_an_existing_product_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "product"
    knf.export_embedding_model(classifier(), path)
    before = sorted(p.name for p in path.iterdir())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        knf.export_embedding_model(classifier(), path)
    (path / "stale").write_text("x")
    knf.export_embedding_model(classifier(), path, overwrite=True)
    assert sorted(p.name for p in path.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["product"]


def test_a_failed_export_leaves_the_old_product_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "product"
    path.mkdir()
    (path / "model.json").write_text("x")

    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "export", fails)
    with pytest.raises(OSError, match="disk full"):
        knf.export_embedding_model(classifier(), path, overwrite=True)
    assert (path / "model.json").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["product"]


FULL_DISK = """
import resource, signal, sys
import keras
import keras_normface as knf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
try:
    knf.export_embedding_model(net, sys.argv[1], overwrite=True)
except OSError as error:
    print(error)
"""


@pytest.mark.slow
def test_on_a_full_disk_it_is_an_oserror_and_the_earlier_model_stays(tmp_path):
    path = tmp_path / "embedding"
    path.mkdir()
    (path / "model.json").write_text("x")
    shown = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert f"{path} could not be written" in shown.stdout
    assert [p.name for p in tmp_path.rglob("*")] == ["embedding", "model.json"]


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_an_export_killed_between_its_renames_is_recovered_by_the_next(tmp_path, monkeypatch):
    path, replace = tmp_path / "model", os.replace
    knf.export_embedding_model(classifier(), path, flip="sum")

    def killed(source, target):
        if target == path:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            knf.export_embedding_model(classifier(), path, overwrite=True)
    assert not path.exists()
    for read in (read_card, model_fingerprint):
        with pytest.raises(FileNotFoundError, match=r"interrupted: the earlier model is in .*\.model\..*/old"):
            read(path)
    with pytest.warns(RuntimeWarning, match="earlier model.*is there again"), pytest.raises(FileExistsError):
        knf.export_embedding_model(classifier(), path)
    assert read_card(path).flip == "sum"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    knf.export_embedding_model(classifier(), path, overwrite=True)
    assert read_card(path).flip == "none"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_an_export_to_another_name_moved_away_is_not_taken(tmp_path, monkeypatch):
    other = tmp_path / ".model.v2.abc123" / "old"
    other.mkdir(parents=True)
    knf.export_embedding_model(classifier(), tmp_path / "model")
    assert other.is_dir()
    left = tmp_path / ".model.abc123" / "old"  # killed when all was done but the removal
    left.mkdir(parents=True)
    half = tmp_path / ".model.def456" / "new"  # killed while it wrote
    half.mkdir(parents=True)
    knf.export_embedding_model(classifier(), tmp_path / "model", overwrite=True)
    assert left.is_dir()  # another process may be at it
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    knf.export_embedding_model(classifier(), tmp_path / "model", overwrite=True)
    assert not left.parent.exists()
    assert not half.parent.exists()
    assert other.is_dir()


def test_where_the_cut_is_made():
    model = classifier()
    assert knf.embedding_model(model).output_shape == (None, 7)
    assert knf.embedding_model(model, layer="embedding").output_shape == (None, 7)
    whole = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert knf.embedding_model(whole).output_shape == (None, 2)
    tensor = keras.Input((4,))
    two = keras.Model(tensor, [knf.CosineDense(3)(keras.layers.Dense(5)(tensor)) for _ in range(2)])
    with pytest.raises(ValueError, match="`layer` must be given"):
        knf.embedding_model(two)
    with pytest.raises(ValueError, match="`flip` needs images"):
        knf.embedding_model(whole, flip="sum")


RAW = np.random.default_rng(3).integers(0, 256, (4, 8, 6, 3), "uint8")


def of_scaled_images(channels=3):
    keras.utils.set_random_seed(2)
    tensor = keras.Input((8, 6, channels))
    x = keras.layers.Conv2D(4, 3, activation="relu")(tensor)
    return keras.Model(tensor, knf.CosineDense(3)(keras.layers.Dense(7, name="embedding")(keras.layers.Flatten()(x))))


@pytest.mark.parametrize("flip", ["none", "sum"])
@pytest.mark.parametrize("channels", ["BGR", "GRAY"])
def test_with_preprocessing_the_product_takes_raw_images(tmp_path, channels, flip):
    import tensorflow as tf

    preprocessing = knf.Preprocessing((8, 6), 1 / 127.5, -1, channels, "sphereface_112x96")
    model = of_scaled_images(preprocessing.output_shape[-1])
    path = tmp_path / "product"
    knf.export_embedding_model(model, path, flip=flip, preprocessing=preprocessing)
    product = tf.saved_model.load(str(path))  # kept: its variables go with it
    served = product.serve(RAW).numpy()
    pixels = RAW.astype("float64")[..., ::-1]  # in float64, by the words
    if channels == "GRAY":
        pixels = (pixels @ [0.114, 0.587, 0.299])[..., None]
    scaled = (pixels - 127.5) / 127.5
    raw = keras.Model(model.inputs, model.get_layer("embedding").output)
    expected = raw.predict(scaled.astype("float32"), verbose=0)
    if flip == "sum":
        expected = expected + raw.predict(scaled[:, :, ::-1].astype("float32"), verbose=0)
    np.testing.assert_allclose(served, unit(expected), atol=1e-6)
    assert read_card(path).preprocessing == preprocessing


def test_the_model_of_raw_images_is_the_model_of_scaled_images():
    preprocessing = knf.Preprocessing((8, 6))
    raw = knf.embedding_model(of_scaled_images(), preprocessing=preprocessing)
    assert raw.input_shape == (None, 8, 6, 3)
    assert raw.inputs[0].dtype == "uint8"
    scaled = knf.embedding_model(of_scaled_images())
    expected = scaled.predict((RAW - np.float32(127.5)) / np.float32(128), verbose=0)
    np.testing.assert_allclose(raw.predict(RAW, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"size": (6, 8)}, "(None, 6, 8, 3)"),
        ({"size": (112, 96)}, "(None, 112, 96, 3)"),
        ({"channels": "GRAY"}, "(None, 8, 6, 1)"),
    ],
)
def test_a_preprocessing_that_the_model_does_not_take_is_refused(tmp_path, changes, made):
    preprocessing = knf.Preprocessing((8, 6)).replace(**changes)
    with pytest.raises(ValueError, match="must make what the model takes") as caught:
        knf.export_embedding_model(of_scaled_images(), tmp_path / "product", preprocessing=preprocessing)
    assert made in str(caught.value)
    assert "(None, 8, 6, 3)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_data_pipeline_scales_like_the_model():
    import tensorflow as tf

    preprocessing = knf.Preprocessing((8, 6), 1 / 255, 0, "GRAY")
    batches = tf.data.Dataset.from_tensor_slices(RAW).batch(2).map(preprocessing)
    np.testing.assert_allclose(np.concatenate(list(batches)), (RAW @ [0.299, 0.587, 0.114])[..., None] / 255, atol=1e-6)
    unknown = tf.data.Dataset.from_generator(lambda: [RAW], output_signature=tf.TensorSpec(None, "uint8"))
    with pytest.raises(ValueError, match=r"must have the shape \(batch, 8, 6, 3\)"):
        unknown.map(preprocessing)


def test_scaling_twice_is_refused():
    preprocessing = knf.Preprocessing((8, 6))
    once = knf.embedding_model(of_scaled_images(), preprocessing=preprocessing)
    with pytest.raises(ValueError, match="takes raw images already"):
        knf.embedding_model(once, preprocessing=preprocessing)
    floats = keras.Sequential([keras.Input((8, 6, 3)), knf.layers.PixelScaling(preprocessing), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="takes raw images already"):
        knf.embedding_model(floats, preprocessing=preprocessing)
    vectors = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"\(None, 8, 6, 3\), the model takes \(None, 8\)"):
        knf.embedding_model(vectors, preprocessing=preprocessing)


def test_sizes_that_the_model_leaves_open_are_taken_from_the_preprocessing():
    anything = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    model = knf.embedding_model(anything, preprocessing=knf.Preprocessing((8, 6)))
    assert model.input_shape == (None, 8, 6, 3)


def test_a_model_that_scales_by_itself_says_so_in_its_product(tmp_path):
    preprocessing = knf.Preprocessing((8, 6), channels="BGR")
    image = keras.Input((8, 6, 3), dtype="uint8")
    features = keras.layers.Dense(4)(keras.layers.Flatten()(knf.layers.PixelScaling(preprocessing)(image)))
    model = keras.Model(image, knf.CosineDense(3)(features))
    knf.export_embedding_model(model, tmp_path / "product")
    assert read_card(tmp_path / "product").preprocessing == preprocessing
