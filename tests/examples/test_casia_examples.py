"""The scripts for CASIA-WebFace on ORL faces in CASIA's own shapes, from preparation to a reloaded SavedModel."""

import argparse
import io
import json
import re
import runpy
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from typer.testing import CliRunner

from keras_normface import recipes
from keras_normface.cli._app import app
from keras_normface.inference import read_preprocessing
from tests.support import faces
from tests.support.casia import CROPPED, EXAMPLES, IMAGES, PEOPLE, SCRIPTS, SMALL, command, pair_file, run, run_here
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
    assert read_preprocessing(out / "embedding").size == size


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


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_an_example(script, monkeypatch, capsys):
    assert run_here(monkeypatch, script, "--help") == 0
    assert f"python examples/{script} --" in capsys.readouterr().out


def test_recipes_are_listed_and_described(monkeypatch, capsys):
    train = SCRIPTS[0]
    assert run_here(monkeypatch, train, "--list") is None
    assert capsys.readouterr().out.split() == list(recipes.NAMES)
    assert run_here(monkeypatch, train, "--describe", "--steps", "77", "--recipe", "l2_softmax") is None
    shown = capsys.readouterr().out
    assert re.search(r"^steps +77 +changed", shown, re.MULTILINE)
    assert re.search(r"^heads.0.config.scale +16 ", shown, re.MULTILINE)
    assert run_here(monkeypatch, train, "--recipe", "arcface") == 2
    assert "am_softmax_casia" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (SCRIPTS[0], [], "--data is needed"),
        (SCRIPTS[0], ["--data", "x", "--recipe", "normface_joint"], "use examples/finetune_normface.py"),
        (SCRIPTS[0], ["--data", "no/such/place"], "no/such/place"),
        (SCRIPTS[0], ["--set", "step=3"], "Received: 'step'"),
        (SCRIPTS[0], ["--set", "backbone=MobileNet"], "must be FIELD=JSON"),
        (SCRIPTS[0], ["--steps", "0"], "steps=0"),
        (SCRIPTS[1], ["--data", "x"], "One of --from and --weights"),
        (SCRIPTS[2], ["--data", "x", "--held-out", "1"], "at least 2"),
        (SCRIPTS[2], ["--data", "x", "--recipe", "normface_joint"], "all begin from scratch"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_read(script, options, words, monkeypatch):
    assert words in str(run_here(monkeypatch, script, *options))


def test_another_size_names_the_ways_out(tmp_path, monkeypatch):
    folder = faces.write_folder(tmp_path / "folder", 2, 2)
    said = run_here(monkeypatch, SCRIPTS[0], "--data", folder, "--out", tmp_path / "out", "--batch-size", "2")
    assert "112x92" in said
    assert "112x96" in said
    assert "--center-crop" in said
    assert not (tmp_path / "out").exists()


def test_another_template_names_the_ways_out_and_an_exact_cut_is_made(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    script = runpy.run_path(str(EXAMPLES / "experiment.py"))
    picture = tf.io.encode_png(np.arange(112 * 112 * 3).reshape(112, 112, 3).astype("uint8")).numpy()
    for name in ("1", "2"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / "1.png").write_bytes(picture)
    record = {"format": "keras_normface.align", "version": 1, "template": "arcface_112x112"}
    (tmp_path / "faces" / "align.json").write_text(json.dumps(record))
    assert CliRunner().invoke(app, ["prepare", str(tmp_path / "faces"), str(tmp_path / "shards")]).exit_code == 0
    for data in (tmp_path / "faces", tmp_path / "shards"):
        for name, crop in (("am_softmax_casia", True), ("sphereface_r_v2", False), ("normface_casia", True)):
            recipe = recipes.get(name).replace(batch_size=2)
            args = script["parser"]("", name).parse_args(["--data", str(data)])
            images = next(iter(script["training_data"](recipe, args)(0, 0)))[0]
            assert images.shape == (2, *recipe.preprocessing.output_shape)
            assert args.center_crop == crop
        arguments = ["--data", data, "--out", tmp_path / "out", "--batch-size", "2"]
        said = str(run_here(monkeypatch, SCRIPTS[0], *arguments, "--no-center-crop"))
        assert "`center_crop=True`" in said
        assert "--center-crop" in said
        said = str(run_here(monkeypatch, SCRIPTS[0], *arguments, "--set", "preprocessing.size=[100,100]"))
        assert "--set preprocessing.template=null" in said


@pytest.mark.slow
def test_from_photos_to_figures_with_the_options_that_are_the_default(tmp_path):
    """`align`, `prepare`, two recipes, pairs and their figures; few steps, images and layers."""
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
        shown = CliRunner().invoke(app, [*map(str, command_line)])
        assert shown.exit_code == 0, shown.output
    metadata = json.loads((shards / "dataset.json").read_text())
    assert (metadata["template"], metadata["image_size"]) == ("arcface_112x112", [112, 112])
    assert metadata["samples"] >= 0.9 * PEOPLE * 5
    for recipe, size in (((), (112, 96)), (("--recipe", "sphereface_r_v2"), (112, 112))):
        out = tmp_path / f"out{size[1]}"
        options = ["--data", shards, "--out", out, *recipe, "--steps", "2", "--batch-size", "8"]
        options += ["--pairs", pair_file(tmp_path / "orl.bin", (112, 112))]
        shown = run(SCRIPTS[0], *options, small=SMALL[:1])
        assert re.search(r"^orl: accuracy=[01]\.\d+ \+- ", shown, re.MULTILINE), shown[-400:]
        assert read_preprocessing(out / "embedding") == recipes.read(out / "recipe.json").preprocessing
        assert read_preprocessing(out / "embedding").size == size
    figures = CliRunner().invoke(
        app,
        [
            *("evaluate", "pairs", "--protocol-file", str(tmp_path / "pairs.tsv"), "--images", str(aligned)),
            *("--model", str(tmp_path / "out112" / "embedding")),
        ],
    )
    assert figures.exit_code == 0, figures.output
    assert re.search(r"accuracy", figures.stdout)


@pytest.mark.slow
def test_from_a_folder_over_shards_and_a_kill_to_a_saved_model(tmp_path):
    folder, shards, out = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES), tmp_path / "shards", tmp_path / "out"
    assert CliRunner().invoke(app, ["prepare", str(folder), str(shards)]).exit_code == 0
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
    kill_after_an_epoch(command(SCRIPTS[0], *options), out, tmp_path / "errors")
    assert not (out / "embedding").exists()
    shown = run(SCRIPTS[0], *options)
    assert "7 steps of 12 = 1.8 epochs of 4 steps" in shown
    assert "Note: " not in shown
    assert "Epoch 2/2" in shown
    assert "Epoch 1/2" not in shown
    assert re.search(r"val_orl_accuracy: 0\.\d", shown)
    assert re.search(r"^orl: accuracy=0\.\d+ \+- ", shown, re.MULTILINE)
    assert recipes.read(out / "recipe.json").steps == 7
    assert len(list((out / "logs").iterdir())) == 2
    check_exported(out, (48, 40))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """OUT of a training from RecordIO: two CPU devices, XLA, the middle of the images."""
    root = tmp_path_factory.mktemp("trained")
    faces.write_record_io(root / "train", PEOPLE, IMAGES)
    options = ["--data", root, "--no-exclude-lfw-overlap", "--out", root / "out", "--steps", "5", *CROPPED]
    options += ["--strategy", "mirrored", "--virtual-devices", "2", "--xla"]
    return root, options, run(SCRIPTS[0], *options)


@pytest.mark.slow
def test_record_io_on_two_devices_with_xla(trained):
    root, options, shown = trained
    assert "2 device(s)" in shown
    assert "48 images of 6 identities" in shown
    check_exported(root / "out", (48, 40))
    refused = subprocess.run(command(SCRIPTS[0], *options, "--set", "momentum=0.8"), capture_output=True, text=True)
    assert refused.returncode == 1
    assert "holds another experiment" in refused.stderr
    assert "momentum: there 0.9, here 0.8" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["normface_finetune", pytest.param("normface_joint", marks=pytest.mark.long)])
def test_finetuning_averages_snapshots_and_verifies_before_and_after(recipe, trained, tmp_path):
    root, _, _ = trained
    options = ["--data", root, "--no-exclude-lfw-overlap", "--from", root / "out", "--recipe", recipe, "--steps", "6"]
    options += ["--batch-size", "12", "--center-crop", "--out", tmp_path / "out"]
    options += ["--pairs", pair_file(tmp_path / "orl.bin"), "--set", "snapshots=3"]
    shown = run(SCRIPTS[1], *options, small=())
    assert "orl, before: accuracy=" in shown
    assert "orl, after:  accuracy=" in shown
    names = sorted(path.name for path in (tmp_path / "out/snapshots").iterdir())
    assert names == [f"step-{step:09d}.snapshot" for step in (4, 5, 6)]
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.slow
def test_a_network_of_keras_applications_in_mixed_precision(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES)
    small = ['backbone="MobileNet"', 'backbone_options={"alpha": 0.25}', *SMALL[1:]]
    options = ["--data", folder, "--out", tmp_path / "out", "--steps", "2", "--precision", "mixed_bfloat16", *CROPPED]
    run(SCRIPTS[0], *options, small=small)
    assert recipes.read(tmp_path / "out/recipe.json").backbone == "MobileNet"
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.long
def test_two_workers_share_one_directory(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", PEOPLE, IMAGES)
    options = ["--data", folder, "--strategy", "multi-worker", "--steps", "5", "--out", tmp_path / "out", *CROPPED]
    arguments = command(SCRIPTS[0], *options)[3:]
    source = f"import runpy, sys; sys.argv = {arguments!r}; sys.path.insert(0, {str(EXAMPLES)!r}); "
    source += "runpy.run_path(sys.argv[0], run_name='__main__')"
    for process, (output, error) in results_of(start_workers(source, [tmp_path, tmp_path])):
        assert process.returncode == 0, output[-1000:] + error[-3000:]
        assert "2 device(s)" in output
    check_exported(tmp_path / "out", (48, 40))


@pytest.mark.slow
def test_all_losses_are_compared(tmp_path):
    folder = faces.write_folder(tmp_path / "folder", 10, IMAGES)
    options = ["--data", folder, "--held-out", "4", "--steps", "2", "--out", tmp_path / "out", *CROPPED]
    shown = run(SCRIPTS[2], *options)
    written = (tmp_path / "out/losses.md").read_text("utf-8")
    assert written in shown
    names = re.findall(r"^\| (.+?) \| \d\.\d+ \| \d\.\d+ \|$", written, re.MULTILINE)
    assert names == [
        *("softmax", "NormFace", "L2-softmax", "AM-Softmax", "ArcFace", "SphereFace-R v1", "SphereFace-R v2"),
        *("C-contrastive", "C-triplet", "NormFace + C-contrastive"),
    ]
    assert "do not rank" in written
    assert "4 people not seen in training, 112 genuine and 384 impostor pairs" in written
    assert (tmp_path / "out/roc.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/run.json").read_text())["identities"] == 6


def test_every_loss_that_is_compared_has_heads_that_fit(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    script = runpy.run_path(str(EXAMPLES / SCRIPTS[2]))
    for loss, heads in script["LOSSES"].items():
        changed = recipes.get("normface_joint").replace(heads=heads, head_weights=script["WEIGHTS"].get(loss))
        assert len(changed.heads) == len(heads)
    assert changed.head_weights == (1.0, 0.01)


def test_the_curves_that_are_compared_are_downsampled_and_stay_what_they_are(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    script, rng = runpy.run_path(str(EXAMPLES / SCRIPTS[2])), np.random.default_rng(0)
    seeds = [(np.sort(rng.normal(size=50_000)), rng.random(50_000) < 0.1) for _ in range(2)]
    eers, tars, (genuine, impostor), curve = script["measured"](seeds)
    assert len(eers) == len(tars) == 2
    assert genuine + impostor == 50_000
    assert len(curve.far) <= script["POINTS"] + 1
    scores, same = map(np.concatenate, zip(*seeds, strict=True))
    for far in np.geomspace(1e-4, 1.0, 9):
        threshold = curve.thresholds[curve.far <= far][-1]
        assert np.mean(scores[~same] >= threshold) <= far
        assert np.mean(scores[same] >= threshold) == pytest.approx(curve.tar[curve.far <= far][-1])
        best = np.sort(scores[~same])[::-1][int(far * (~same).sum() * 0.995) - 1]  # a point lies no further apart
        assert curve.tar[curve.far <= far][-1] >= np.mean(scores[same] > best)


def test_an_average_of_fewer_snapshots_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    experiment = runpy.run_path(str(EXAMPLES / "experiment.py"))
    train, recipe = experiment["train"], recipes.get("normface_finetune").replace(steps=10)
    monkeypatch.setitem(train.__globals__, "fit_resumable", lambda *_, **__: None)
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "step-000000010.snapshot").touch()
    args = argparse.Namespace(out=tmp_path, save_every=1, tensorboard=False)
    with pytest.raises(SystemExit, match=r"5 snapshots are to be averaged, but .* has 1"):
        train(None, recipe, None, [], args)


def test_of_several_workers_one_writes_and_all_refuse_another_experiment(tmp_path):
    remember = runpy.run_path(str(EXAMPLES / "experiment.py"))["remember"]
    recipe, args = recipes.get("normface_casia"), argparse.Namespace(out=tmp_path / "out", seed=0)
    data = argparse.Namespace(reader=type("Reader", (), {"num_identities": 3, "__len__": lambda self: 9})())
    for chief in (False, True):
        remember.__globals__["is_chief"] = lambda _, chief=chief: chief
        remember(recipe, data, None, args)
        assert (tmp_path / "out").exists() == chief
    for chief in (False, True):
        remember.__globals__["is_chief"] = lambda _, chief=chief: chief
        with pytest.raises(SystemExit, match=r"momentum: there 0.9, here 0.5"):
            remember(recipe.replace(momentum=0.5), data, None, args)


def test_names_of_another_form_than_those_excluded_are_noted(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    note = runpy.run_path(str(EXAMPLES / "experiment.py"))["note_on_names"]
    casia, numbers = argparse.Namespace(identities=["0000045"]), argparse.Namespace(identities=["0", "1"])
    recipe = recipes.get("normface_casia")
    assert note(recipe, casia) == note(recipe.replace(excluded_identities=[]), numbers) == ""
    assert re.search(r"such as '0', .*such as '0000513'.*none of them is excluded", note(recipe, numbers))
