"""`train --teacher`: from faces and another model to a small one that is exported and takes photos."""

import json

import keras
import numpy as np
import pytest

from keras_normface import _alignment, recipes
from keras_normface.data import IdentityFolder
from keras_normface.gallery import Gallery
from keras_normface.inference import Embedder, export_embedding_model, read_card
from keras_normface.preprocessing import Preprocessing
from keras_normface.training import reader_embeddings
from tests.support import ready
from tests.support.casia import refused, run

RECIPE = ["--recipe", "mobilefacenet_distilled"]
SMALL = ['backbone="SphereFaceNet"', 'backbone_options={"depth": 4}', "embedding_dim=8", "learning_rate=0.01"]
PEOPLE, IMAGES = 4, 3


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.AveragePooling2D(25), keras.layers.Flatten(), keras.layers.Dense(8)]
    network = keras.Sequential([keras.Input((150, 150, 3)), *layers])
    path = tmp_path_factory.mktemp("teacher") / "model"
    export_embedding_model(network, path, preprocessing=Preprocessing((150, 150), template="dlib_150x150"))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = ready.write_aligned(tmp_path_factory.mktemp("aligned") / "faces", PEOPLE, IMAGES)
    _alignment.FORMAT.write(folder / _alignment.SETTINGS_NAME, {"template": "dlib_150x150"})
    return folder


def test_rows_are_those_of_image_and_mirror_image_in_the_order_of_the_reader(teacher, data, tmp_path):
    reader, embedder = IdentityFolder(data), Embedder(str(teacher), faces="aligned")
    rows = reader_embeddings(embedder, reader, cache=tmp_path)
    encoded = reader.encoded(np.arange(len(reader)))
    sums = embedder.embed(encoded) + embedder.embed(encoded, mirror=True)
    np.testing.assert_allclose(rows, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-6)
    done, before = [], embedder.embedded
    centred = reader_embeddings(embedder, reader, cache=tmp_path, center=True, progress=lambda *n: done.append(n))
    assert (embedder.embedded, done) == (before, [(12, 12)])  # from the cache
    moved = rows - rows.mean(axis=0)
    np.testing.assert_allclose(centred, moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(ValueError, match="`center`"):
        reader_embeddings(embedder, reader, center=1)


def test_a_reader_of_another_template_is_refused(teacher, data):
    reader = IdentityFolder(data)
    reader.template = "arcface_112x112"
    with pytest.raises(ValueError, match=r"`reader` must hold faces aligned by the template of .*dlib_150x150"):
        reader_embeddings(Embedder(str(teacher), faces="aligned"), reader)


def test_what_does_not_belong_together_is_one_line(teacher, data, tmp_path):
    options = ["--data", data, "--out", tmp_path / "out"]
    assert "give --teacher dlib" in refused("train", *RECIPE, *options)
    assert "--teacher must be dlib, or the directory" in refused("train", *RECIPE, *options, "--teacher", "dlip")
    assert "needs a recipe with a DistillationHead" in refused("train", *options, "--teacher", teacher)
    assert "makes 8 numbers of a face" in refused("train", *RECIPE, *options, "--teacher", teacher)
    assert not (tmp_path / "out").exists()


def test_an_older_model_of_another_dimension_or_template_is_one_line(teacher, data, tmp_path):
    options = ["--data", data, "--out", tmp_path / "out", "--compatible-with", teacher]
    assert "only embeddings of one dimension can be compared; give --set embedding_dim=8" in refused("train", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_newer_model_searches_the_gallery_of_the_older(teacher, data, tmp_path):
    out = tmp_path / "out"
    options = ["--recipe", "normface_casia", "--compatible-with", teacher, "--data", data, "--out", out]
    small = [*SMALL, "preprocessing.size=[30,30]", 'preprocessing.template="dlib_150x150"', "milestones=[]"]
    shown = run("train", *options, "--batch-size", "6", "--steps", "4", small=small)
    assert "Class centres of" in shown
    older, newer = (
        Embedder(str(teacher), detect=ready.found_at),
        Embedder(str(out / "embedding"), detect=ready.found_at),
    )
    assert newer.compatible_with == (older.fingerprint,)
    photos = sorted(ready.write_album(tmp_path / "photos", 2, 1).rglob("*.png"))
    with Gallery(tmp_path / "people.gallery", older) as gallery:
        gallery.enrol("one", photos[0])
    with Gallery(tmp_path / "people.gallery", newer) as gallery:
        assert gallery.identify(photos[0], threshold=-1).candidates[0].name == "one"
    recipe = recipes.Recipe.load(out)
    assert [head["class_name"] for head in recipe.heads] == ["MarginSoftmaxHead", "FixedCentersHead"]
    again = run("train", *options, "--batch-size", "6", "--steps", "4", small=small)
    assert "SavedModel, loaded and compared" in again


@pytest.mark.slow
def test_a_pupil_is_trained_resumed_and_takes_photos(teacher, data, tmp_path):
    out = tmp_path / "out"
    options = [*RECIPE, "--teacher", teacher, "--data", data, "--out", out, "--batch-size", "6"]
    small = [*SMALL, "preprocessing.size=[30,30]", "milestones=[]"]
    shown = run("train", *options, "--steps", "4", small=small)
    assert "12 images embedded by the teacher, 8 numbers each" in shown
    again = run("train", *options, "--steps", "4", small=small)
    assert "SavedModel, loaded and compared" in again
    chunks = list((out / "teacher").rglob("*.npz"))
    assert len(chunks) == 2  # images and mirror images
    assert json.loads((out / "run.json").read_text())["teacher"].endswith(", centred")
    card = read_card(out / "embedding")
    assert (card.preprocessing.size, card.preprocessing.template) == ((30, 30), "dlib_150x150")
    assert "--teacher model" in card.source
    assert "their embeddings by model" in card.training_data
    assert [head["class_name"] for head in recipes.Recipe.load(out).heads] == ["MarginSoftmaxHead", "DistillationHead"]
    photos = sorted(ready.write_album(tmp_path / "photos", 2, 1).rglob("*.png"))
    of_photos = Embedder(str(out / "embedding"), detect=ready.found_at).embed(photos)
    assert of_photos.shape == (2, 8)
    other = refused("train", *options, "--no-center-teacher", *(part for s in small for part in ("--set", s)))
    assert "another experiment" in other
