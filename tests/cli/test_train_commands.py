"""`train`, `finetune`, `compare-losses` on ORL faces in CASIA's own shapes, from photos to a reloaded SavedModel."""

import argparse
import dataclasses
import io
import json
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_normface import recipes
from keras_normface.cli import _choices, _compare_losses, _experiment, _run_directory, _train_run
from keras_normface.cli._console import FAILED
from keras_normface.cli.train import TrainingRequest
from keras_normface.inference import read_card
from tests.support import faces
from tests.support.casia import COMMANDS, CROPPED, IMAGES, PEOPLE, SMALL, call, command, pair_file, refused, run
from tests.support.workers import results_of, start_workers


def check_exported(out, size):
    """The SavedModel gives unit embeddings of raw faces, as the script has noted them."""
    served = tf.saved_model.load(str(out / "embedding"))
    raw = np.stack([tf.io.decode_jpeg(faces.face(person, 1)).numpy() for person in (1, 2)])
    top, left = (raw.shape[1] - size[0]) // 2, (raw.shape[2] - size[1]) // 2
    cut = raw[:, top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(np.linalg.norm(served.serve(cut).numpy(), axis=1), 1.0, atol=1e-5)
    again = served.serve(np.load(out / "check_images.npy")).numpy()
    np.testing.assert_allclose(again, np.load(out / "check_embeddings.npy"), atol=1e-5)
    assert read_card(out / "embedding").preprocessing.size == size


def kill_after_an_epoch(arguments, out, errors):
    with open(errors, "wb") as file:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=file)
    try:
        end = time.monotonic() + 200
        while not list((out / "checkpoints").glob("epoch-000001-*.ckpt")):
            assert process.poll() is None, errors.read_text()[-3000:]
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()


def test_recipes_are_listed_and_described():
    assert recipes.NAMES == _choices.RECIPES
    for name in COMMANDS:
        assert call(name, "--list").stdout.split() == list(recipes.NAMES)
    shown = call("train", "--describe", "--steps", "77", "--recipe", "l2_softmax").stdout
    assert re.search(r"^steps +77 +changed", shown, re.MULTILINE)
    assert re.search(r"^heads.0.config.scale +16 ", shown, re.MULTILINE)
    assert "am_softmax_casia" in refused("train", "--recipe", "arcface")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("train", [], "--data must be given"),
        ("train", ["--data", "x", "--recipe", "normface_joint"], "use keras-normface finetune"),
        ("train", ["--data", "no/such/place"], "no/such/place"),
        ("train", ["--data", "x", "--set", "step=3"], "Received: 'step'"),
        ("train", ["--data", "x", "--set", "backbone=MobileNet"], "must be FIELD=JSON"),
        ("train", ["--data", "x", "--steps", "0"], "steps=0"),
        ("train", ["--data", "x", "--format", "folder", "--identities", "names.txt"], "--identities is for RecordIO"),
        ("finetune", ["--from", "a"], "PHOTOS or --data must be given and not both"),
        ("finetune", [".", "--from", "a", "--data", "x"], "PHOTOS or --data must be given and not both"),
        ("finetune", ["--data", "x"], "One of --from and --weights"),
        ("finetune", ["--data", "x", "--from", "a", "--weights", "b"], "One of --from and --weights"),
        ("finetune", ["--data", "x", "--from", "no/run"], "no/run/recipe.json"),
        ("finetune", ["--data", "x", "--weights", "no.weights.h5"], "no.weights.h5"),
        ("compare-losses", ["--data", "x", "--recipe", "normface_joint"], "not from scratch"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_read(name, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(name, *options)
    assert list(tmp_path.iterdir()) == []


def test_of_those_held_out_there_are_pairs():
    assert "'--held-out'" in refused("compare-losses", "--data", "x", "--held-out", "1")


def test_a_list_has_its_option_once_or_before_each_value(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("keras_normface.cli.train.loaded", lambda _: argparse.Namespace(train=seen.append))
    common = ["train", "--data", "x"]
    for words in (["--pairs", "a", "b", "--seed", "3"], ["--pairs", "a", "--seed", "3", "--pairs=b"]):
        assert call(*common, *words).exit_code == 0
    assert [(request.pairs, request.seed) for request in seen] == [((Path("a"), Path("b")), 3)] * 2
    assert call(*common, "--seed", "3", "b").exit_code == 2
    assert call(*common, "b").exit_code == 2
    assert len(seen) == 2


def test_corrupt_images_weights_and_pairs_are_named(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", 2, 2)
    common = ["--data", folder, "--out", tmp_path / "out", *CROPPED, "--batch-size", "2"]
    (tmp_path / "lfw.bin").write_bytes(b"no pairs")
    assert "lfw.bin" in refused("train", *common, "--pairs", tmp_path / "lfw.bin")
    assert "different names" in refused("train", *common, "--pairs", tmp_path / "lfw.bin", tmp_path / "lfw.bin")
    (tmp_path / "w.weights.h5").write_bytes(b"no weights")
    small = [part for change in SMALL for part in ("--set", change)]
    small += ["--set", 'backbone="SphereFaceNet"', "--set", 'backbone_options={"depth":4}']
    assert "w.weights.h5" in refused("finetune", *common, *small, "--weights", tmp_path / "w.weights.h5")
    (folder / "0000001" / "001.jpg").write_bytes(b"no image")
    assert "the first image cannot be decoded" in refused("train", *common, "--set", "preprocessing.template=null")
    assert not (tmp_path / "out").exists()


def test_another_size_names_the_ways_out(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", 2, 2)
    said = refused("train", "--data", folder, "--out", tmp_path / "out", "--batch-size", "2")
    assert "112x92" in said
    assert "112x96" in said
    assert "--center-crop" in said
    assert "at most the number of images, 4. " in refused("train", "--data", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def request_for(**options):
    """What a command was asked for, with what its options are by default."""
    given = {field.name: None for field in dataclasses.fields(TrainingRequest) if field.default is dataclasses.MISSING}
    given |= {"changes": (), "seed": 0, "save_every": 1}
    return TrainingRequest(**{**given, **options})


def test_another_template_names_the_ways_out_and_an_exact_cut_is_made(tmp_path):
    picture = tf.io.encode_png(np.arange(112 * 112 * 3).reshape(112, 112, 3).astype("uint8")).numpy()
    for name in ("1", "2"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / "1.png").write_bytes(picture)
    record = {"format": "keras_normface.align", "version": 1, "template": "arcface_112x112"}
    (tmp_path / "faces" / "align.json").write_text(json.dumps(record))
    assert call("prepare", tmp_path / "faces", tmp_path / "shards").exit_code == 0
    for data in (tmp_path / "faces", tmp_path / "shards"):
        for name, crop in (("am_softmax_casia", True), ("sphereface_r_v2", False), ("normface_casia", True)):
            recipe = recipes.get(name).replace(batch_size=2)
            batches = _experiment.training_data(recipe, request_for(recipe=name, data=data))
            images = next(iter(batches(0, 0)))[0]
            assert images.shape == (2, *recipe.preprocessing.output_shape)
            assert batches.center_crop == crop
        arguments = ["train", "--data", data, "--out", tmp_path / "out", "--batch-size", "2"]
        said = refused(*arguments, "--no-center-crop")
        assert "`center_crop=True`" in said
        assert "--center-crop" in said
        said = refused(*arguments, "--set", "preprocessing.size=[100,100]")
        assert "--set preprocessing.template=null" in said


@pytest.mark.slow
def test_from_photos_to_figures_of_each_exported_form_with_the_options_that_are_the_default(tmp_path):
    """`align`, `prepare`, two recipes, figures of each form; few steps, images and layers."""
    photos, aligned, shards = (tmp_path / name for name in ("photos", "aligned", "shards"))
    for person in range(1, PEOPLE + 1):
        (photos / f"{person:07d}").mkdir(parents=True)
        for image in range(1, 6):
            photo = Image.new("RGB", (250, 250), "grey")
            photo.paste(Image.open(io.BytesIO(faces.face(person, image))).resize((138, 168)), (56, 41))
            photo.save(photos / f"{person:07d}" / f"{image}.jpg")
    (photos / "0000001" / "later.webp").write_bytes(b"RIFF")
    for command_line in (
        ("align", photos, aligned),
        ("prepare", aligned, shards),
        ("pairs", aligned, tmp_path / "pairs.tsv", "--folds", "2", "--pairs-per-fold", "20"),
    ):
        shown = call(*command_line)
        assert shown.exit_code == 0, shown.output
    metadata = json.loads((shards / "dataset.json").read_text())
    assert (metadata["template"], metadata["image_size"]) == ("arcface_112x112", [112, 112])
    assert metadata["samples"] >= 0.9 * PEOPLE * 5
    for recipe, size in (((), (112, 96)), (("--recipe", "sphereface_r_v2"), (112, 112))):
        out = tmp_path / f"out{size[1]}"
        options = ["--data", shards, "--out", out, *recipe, "--steps", "2", "--batch-size", "8"]
        options += ["--pairs", pair_file(tmp_path / "orl.bin", (112, 112))]
        shown = run("train", *options, small=SMALL[:1])
        assert re.search(r"^orl: accuracy=[01]\.\d+ \+- ", shown, re.MULTILINE), shown[-400:]
        assert read_card(out / "embedding").preprocessing == recipes.read(out / "recipe.json").preprocessing
        assert read_card(out / "embedding").preprocessing.size == size
    accuracies, photo = {}, photos / "0000001" / "1.jpg"
    for form in ("embedding", "onnx", "litert"):
        model = tmp_path / "out112" / form
        if form != "embedding":
            run("export", tmp_path / "out112", "--to", form, small=())
        figures = call(
            *("evaluate", "pairs", "--protocol-file", tmp_path / "pairs.tsv", "--images", aligned),
            *("--model", model, "--out", tmp_path / f"figures-{form}", "--calibrate-far", "0.1"),
        )
        assert figures.exit_code == 0, figures.output
        accuracies[form] = re.search(r"accuracy [\d.]+ %", figures.stdout)[0]
        same = call("verify", photo, photo, "--model", model, "--json")
        assert same.exit_code == 0, same.output
        assert json.loads(same.stdout)["cosine"] == pytest.approx(1, abs=1e-5)
        other = call("verify", photo, photos / "0000002" / "1.jpg", "--model", model, "--threshold", "0.99999")
        assert other.exit_code == 1, other.output
        assert "accuracy" in call("show", model).stdout
    assert len(set(accuracies.values())) == 1


@pytest.mark.slow
def test_from_a_folder_over_shards_and_a_kill_to_a_saved_model(tmp_path):
    folder, shards, out = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES), tmp_path / "shards", tmp_path / "out"
    assert call("prepare", folder, shards).exit_code == 0
    options = [
        "--data",
        shards,
        "--out",
        out,
        *CROPPED,
        "--steps",
        "7",
        "--save-every",
        "2",
        "--pairs",
        pair_file(tmp_path / "orl.bin"),
        "--tensorboard",
    ]
    kill_after_an_epoch(command("train", *options), out, tmp_path / "errors")
    assert not (out / "embedding").exists()
    shown = run("train", *options)
    assert "7 steps of 12 = 1.8 epochs of 4 steps" in shown
    assert "Note: " not in shown
    assert "Epoch 2/2" in shown
    assert "Epoch 1/2" not in shown
    assert re.search(r"val_orl_accuracy: 0\.\d", shown)
    assert re.search(r"^orl: accuracy=0\.\d+ \+- ", shown, re.MULTILINE)
    assert recipes.read(out / "recipe.json").steps == 7
    figures = json.loads((out / "run.json").read_text())["figures"]
    assert figures["orl"]["folds"] == 10
    assert f"orl: accuracy={figures['orl']['accuracy']:.4f} +- " in shown
    assert len(list((out / "logs").iterdir())) == 2
    check_exported(out, (48, 40))
    card = read_card(out / "embedding")
    assert card.recipe == {"recipe": "am_softmax_casia", "fields": recipes.read(out / "recipe.json").to_fields()}
    assert card.training_data == "48 images of 6 identities"
    (shown,) = card.figures
    assert (shown.name, shown.value) == ("accuracy", figures["orl"]["accuracy"])
    assert shown.command == "keras-normface train --recipe am_softmax_casia --pairs orl.bin"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """OUT of a training from RecordIO: two CPU devices, XLA, the middle of the images."""
    root = tmp_path_factory.mktemp("trained")
    faces.write_record_io(root / "train", PEOPLE, IMAGES)
    options = ["--data", root, "--no-exclude-lfw-overlap", "--out", root / "out", "--steps", "5", *CROPPED]
    options += ["--strategy", "mirrored", "--virtual-devices", "2", "--xla"]
    return root, options, run("train", *options)


@pytest.mark.slow
def test_record_io_on_two_devices_with_xla(trained):
    root, options, shown = trained
    assert "2 device(s)" in shown
    assert "48 images of 6 identities" in shown
    check_exported(root / "out", (48, 40))
    other = subprocess.run(command("train", *options, "--set", "momentum=0.8"), capture_output=True, text=True)
    assert other.returncode == FAILED
    (line,) = other.stderr.splitlines()
    assert "holds another experiment" in line
    assert "momentum: there 0.9, here 0.8" in line


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["normface_finetune", pytest.param("normface_joint", marks=pytest.mark.long)])
def test_finetuning_averages_snapshots_and_verifies_before_and_after(recipe, trained, tmp_path):
    root, _, _ = trained
    options = ["--data", root, "--no-exclude-lfw-overlap", "--from", root / "out", "--recipe", recipe, "--steps", "6"]
    options += ["--batch-size", "12", "--center-crop", "--out", tmp_path / "out"]
    options += ["--pairs", pair_file(tmp_path / "orl.bin"), "--set", "snapshots=3"]
    shown = run("finetune", *options, small=())
    assert "orl, before: accuracy=" in shown
    assert "orl, after:  accuracy=" in shown
    assert set(json.loads((tmp_path / "out/run.json").read_text())["figures"]) == {"orl", "orl, before"}
    names = [figure.name for figure in read_card(tmp_path / "out/embedding").figures]
    assert sorted(names) == ["accuracy", "accuracy, before fine-tuning"]
    names = sorted(path.name for path in (tmp_path / "out/snapshots").iterdir())
    assert names == [f"step-{step:09d}.snapshot" for step in (4, 5, 6)]
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.slow
def test_a_network_of_keras_applications_in_mixed_precision(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES)
    small = ['backbone="MobileNet"', 'backbone_options={"alpha": 0.25}', *SMALL[1:]]
    options = ["--data", folder, "--out", tmp_path / "out", "--steps", "2", "--precision", "mixed_bfloat16", *CROPPED]
    run("train", *options, small=small)
    assert recipes.read(tmp_path / "out/recipe.json").backbone == "MobileNet"
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.long
def test_two_workers_share_one_directory(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES)
    options = ["--data", folder, "--strategy", "multi-worker", "--steps", "5", "--out", tmp_path / "out", *CROPPED]
    arguments = ["keras-normface", *command("train", *options)[5:]]
    source = f"import sys; from keras_normface.cli.main import run; sys.argv = {arguments!r}; run()"
    for process, (output, error) in results_of(start_workers(source, [tmp_path, tmp_path])):
        assert process.returncode == 0, output[-1000:] + error[-3000:]
        assert "2 device(s)" in output
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.slow
def test_all_losses_are_compared(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", 10, IMAGES)
    options = ["--data", folder, "--held-out", "4", "--steps", "2", "--out", tmp_path / "out", *CROPPED]
    shown = run("compare-losses", *options)
    written = (tmp_path / "out/losses.md").read_text("utf-8")
    assert written in shown
    names = re.findall(r"^\| (.+?) \| \d\.\d+ \| \d\.\d+ \|$", written, re.MULTILINE)
    assert names == [
        *("softmax", "NormFace", "L2-softmax", "AM-Softmax", "ArcFace", "SphereFace-R v1", "SphereFace-R v2"),
        *("AdaFace", "MagFace", "ElasticFace", "ElasticFace+", "CurricularFace", "MV-Softmax", "t-vMF", "Circle"),
        *("C-contrastive", "C-triplet", "NormFace + C-contrastive"),
    ]
    assert "do not rank" in written
    assert "4 people not seen in training, 112 genuine and 384 impostor pairs" in written
    assert (tmp_path / "out/roc.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/run.json").read_text())["identities"] == 6


def test_every_loss_that_is_compared_has_heads_that_fit():
    assert tuple(_compare_losses.HEADS) == _choices.LOSSES
    for loss, heads in _compare_losses.HEADS.items():
        changed = recipes.get("normface_joint").replace(heads=heads, head_weights=_compare_losses.WEIGHTS.get(loss))
        assert len(changed.heads) == len(heads)
    assert changed.head_weights == (1.0, 0.01)


def test_the_curves_that_are_compared_are_downsampled_and_stay_what_they_are():
    rng = np.random.default_rng(0)
    seeds = [(np.sort(rng.normal(size=50_000)), rng.random(50_000) < 0.1) for _ in range(2)]
    found = _compare_losses.measured(seeds)
    assert len(found.eers) == len(found.tars) == 2
    assert sum(found.counts) == 50_000
    curve = found.curve
    assert len(curve.far) <= _compare_losses.POINTS + 1
    scores, same = map(np.concatenate, zip(*seeds, strict=True))
    for far in np.geomspace(1e-4, 1.0, 9):
        threshold = curve.thresholds[curve.far <= far][-1]
        assert np.mean(scores[~same] >= threshold) <= far
        assert np.mean(scores[same] >= threshold) == pytest.approx(curve.tar[curve.far <= far][-1])
        best = np.sort(scores[~same])[::-1][int(far * (~same).sum() * 0.995) - 1]  # a point lies no further apart
        assert curve.tar[curve.far <= far][-1] >= np.mean(scores[same] > best)


def test_an_average_of_fewer_snapshots_is_refused(tmp_path, monkeypatch):
    recipe = recipes.get("normface_finetune").replace(steps=10)
    monkeypatch.setattr(_train_run, "fit_resumable", lambda *_, **__: None)
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "step-000000010.snapshot").touch()
    with pytest.raises(ValueError, match=r"5 snapshots are to be averaged, but .* has 1"):
        _train_run.fit(None, recipe, None, [], request_for(out=tmp_path))


def reader_of(count, *names):
    """What is read of a reader before it trains."""
    return type("Reader", (), {"num_identities": 3, "identities": names, "__len__": lambda self: count})()


def test_of_several_workers_one_writes_and_all_refuse_another_experiment(tmp_path, monkeypatch):
    recipe, out = recipes.get("normface_casia"), tmp_path / "out"
    data = argparse.Namespace(reader=reader_of(9), center_crop=True)
    run = _run_directory.facts(recipe, data, request_for(data=tmp_path / "shards"))
    for chief in (False, True):
        monkeypatch.setattr(_run_directory, "is_chief", lambda _, chief=chief: chief)
        _run_directory.record(recipe, run, None, out)
        assert out.exists() == chief
    for chief in (False, True):
        monkeypatch.setattr(_run_directory, "is_chief", lambda _, chief=chief: chief)
        with pytest.raises(ValueError, match=r"momentum: there 0.9, here 0.5"):
            _run_directory.record(recipe.replace(momentum=0.5), run, None, out)
        with pytest.raises(ValueError, match=r"images: there 9, here 10"):
            _run_directory.record(recipe, {**run, "images": 10}, None, out)


def test_data_that_were_moved_are_the_same_experiment_and_figures_stay(tmp_path):
    recipe, strategy = recipes.get("normface_casia"), tf.distribute.get_strategy()
    data = argparse.Namespace(reader=reader_of(9), center_crop=False)
    run = _run_directory.facts(recipe, data, request_for(data=tmp_path / "shards"))
    figure = {"lfw": {"accuracy": 0.5, "standard_error": 0.1, "folds": 10, "pairs": "lfw.bin"}}
    _run_directory.record(recipe, {**run, "figures": figure}, strategy, tmp_path)
    finetuned = _run_directory.card_of(recipe, {**run, "weights": "w.weights.h5", "figures": figure})
    assert finetuned["source"] == "keras-normface finetune --recipe normface_casia"
    assert finetuned["training_data"].startswith("9 images of 3 identities, after ")
    assert finetuned["figures"][0]["command"].endswith(" --pairs lfw.bin")
    moved = _run_directory.facts(recipe, data, request_for(data=tmp_path / "elsewhere"))
    _run_directory.record(recipe, moved, strategy, tmp_path)
    written = json.loads((tmp_path / "run.json").read_text())
    assert written.pop("format") == "keras_normface.run"
    assert written.pop("version") == 1
    assert written.pop("versions")["keras_normface"]
    assert written == {
        **{"seed": 0, "images": 9, "identities": 3, "data": str(tmp_path / "elsewhere")},
        **{"template": "sphereface_112x96", "center_crop": False, "figures": figure},
    }
    for corrupt in ("{}", {"figures": 5}, {"figures": {"lfw": 5}}, {"figures": {"lfw": {"accuracy": "high"}}}):
        text = corrupt if isinstance(corrupt, str) else _run_directory.RUN_FORMAT.text({**moved, **corrupt})
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"run\.json is not valid"):
            _run_directory.record(recipe, moved, strategy, tmp_path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "Interrupted. Run the same command again to resume."),
        (FloatingPointError("`loss` is nan"), "Error: `loss` is nan"),
    ],
)
def test_what_ends_a_training_is_one_line_and_a_run_that_can_be_resumed(error, words, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(_train_run, "fit_resumable", fail)
    folder = faces.write_folder(tmp_path / "folder", 2, 2)
    small = [part for change in SMALL for part in ("--set", change)]
    result = call("train", "--data", folder, "--out", tmp_path / "out", *CROPPED, "--batch-size", "2", *small)
    assert result.exit_code == FAILED
    assert result.stderr.splitlines()[-1] == words
    assert "4 images of 2 identities" in result.stdout
    assert recipes.read(tmp_path / "out/recipe.json").batch_size == 2


def test_names_of_another_form_than_those_excluded_are_noted():
    note, recipe = _experiment.note_on_names, recipes.get("normface_casia")
    casia, numbers = reader_of(9, "0000045"), reader_of(9, "0", "1")
    assert note(recipe, casia) == note(recipe.replace(excluded_identities=[]), numbers) == ""
    assert re.search(r"such as '0', .*such as '0000513'.*none of them is excluded", note(recipe, numbers))
