"""`verify` and `embed`: answers, exit codes, what is said, what is written; and one line for whatever is refused."""

import dataclasses
import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_normface import export_embedding_model
from keras_normface.cli._app import app
from keras_normface.cli._console import FAILED
from keras_normface.cli.main import run
from keras_normface.inference import Embedder, load_embeddings, read_card, write_card
from tests.support import faces, ready


def call(*arguments):
    result = CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def refused(*arguments):
    """The one line on standard error."""
    result = call(*arguments)
    assert result.exit_code == FAILED == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture(scope="module")
def network():
    return ready.ready_network()


@pytest.fixture(autouse=True)
def installed(monkeypatch, network):
    """The ready network is the tiny one, and faces are found everywhere."""
    monkeypatch.setattr("keras_normface.backbones.pretrained", lambda name: network)
    monkeypatch.setattr("keras_normface.prepare._aligner.Mtcnn", lambda: ready.found_at)


@pytest.fixture
def photos(tmp_path):
    return ready.write_photos(tmp_path / "photos")


@pytest.fixture
def black(tmp_path):
    Image.new("RGB", (130, 150)).save(tmp_path / "black.png")
    return tmp_path / "black.png"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("exported") / "model"
    export_embedding_model(network.network, path, preprocessing=ready.TEMPLATE)
    return path


def cosine(network, photos):
    one, other = Embedder(network, detect=ready.found_at).embed(photos)
    return float(one @ other)


def test_verify_answers_and_its_exit_code_says_it_too(photos, network):
    between = cosine(network, photos[:2])
    same = call("verify", photos[0], photos[0])
    assert same.exit_code == 0
    first, second, third = same.stdout.splitlines()
    assert first == "Same person: cosine 1.0000, at least the threshold 0.5000"
    assert "false accept rate is 0.09 % (5,000 pairs of different people)" in second
    assert second.endswith("calibrated on toy pairs")
    assert third == "Model: tiny, licence of the weights: CC0-1.0"
    other = call("verify", *photos[:2], "--threshold", str(between + 1e-3))
    assert other.exit_code == 1
    assert other.stdout.startswith(f"Different people: cosine {between:.4f}, below the threshold")
    assert "not known" in other.stdout
    assert call("verify", *photos[:2], "--threshold", str(between - 1e-3)).exit_code == 0
    assert not same.stderr


def test_verify_as_json(photos, network):
    for options, code, far in (([], 0, 0.001), (["--threshold", "1"], 1, None)):
        shown = call("verify", *photos[:2], "--json", *options)
        answer = json.loads(shown.stdout)
        assert shown.exit_code == (0 if answer["same"] else 1) == code
        assert answer["cosine"] == pytest.approx(cosine(network, photos[:2]), abs=1e-6)
        assert answer["far"] == far
        assert answer["images"] == [os.fspath(photo) for photo in photos[:2]]
        assert (answer["model"], answer["licence"]) == ("tiny", "CC0-1.0")


def test_verify_by_an_exported_model(photos, exported, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(exported, model)
    assert "--threshold" in refused("verify", *photos[:2], "--model", model)
    assert call("verify", *photos[:2], "--model", model, "--threshold", "-1").exit_code == 0
    write_card(model, dataclasses.replace(read_card(model), threshold=ready.THRESHOLD))
    shown = call("verify", photos[0], photos[0], "--model", model)
    assert shown.exit_code == 0
    assert "calibrated on toy pairs" in shown.stdout
    for number in (0, 1):
        Image.open(photos[number]).resize((96, 112)).save(tmp_path / f"{number}.png")
    aligned = (tmp_path / "0.png", tmp_path / "1.png")
    assert call("verify", *aligned, "--model", model, "--aligned", "--threshold", "1").exit_code == 1
    line = refused("verify", *photos[:2], "--model", model, "--aligned")
    assert "must be 112 x 96 pixels" in line
    assert call("verify", *photos[:2], "--model", model, "--aligned", "--resize", "--threshold", "-1").exit_code == 0


def test_embed_writes_what_the_embedder_makes(photos, network, tmp_path, black):
    (tmp_path / "photos" / "notes.txt").symlink_to("/etc/hosts")  # no image, so where it leads does not matter
    result = call("embed", tmp_path / "photos", photos[0], tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    names, rows = load_embeddings(tmp_path / "out.npz")
    assert names.tolist() == [*(f"p{number}/1.png" for number in range(4)), photos[0].as_posix()]
    expected = Embedder(network, detect=ready.found_at).embed([*photos, photos[0]])
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert "Not taken: 1 files of other kinds" in result.stderr


def test_embed_adds_the_mirror_image(photos, network, tmp_path):
    assert call("embed", *photos, tmp_path / "out.npz", "--flip").exit_code == 0
    embedder = Embedder(network, detect=ready.found_at)
    fused = embedder.embed(photos) + embedder.embed(photos, mirror=True)
    _, rows = load_embeddings(tmp_path / "out.npz")
    np.testing.assert_allclose(rows, fused / np.linalg.norm(fused, axis=1, keepdims=True), atol=1e-6)


def test_photos_without_a_face_are_listed_and_an_error_unless_they_may_be_left_out(photos, black, tmp_path):
    command = ("embed", tmp_path / "photos", black, tmp_path / "out.npz", "--cache", tmp_path / "cache")
    failed = call(*command)
    assert failed.exit_code == 2
    assert failed.stderr.splitlines()[-1].startswith(f"Error: 1 of 5 photos hold no face that is found: {black}")
    assert "--skip-no-face" in failed.stderr
    assert not (tmp_path / "out.npz").exists()
    done = call(*command, "--skip-no-face", "--flip")
    assert done.exit_code == 0, done.output
    assert f"1 of 5 photos hold no face that is found: {black}" in done.stderr
    names, rows = load_embeddings(tmp_path / "out.npz")
    assert len(names) == len(rows) == 4
    assert np.isfinite(rows).all()


def test_embed_resumes_from_its_cache(photos, tmp_path, monkeypatch):
    command = ("embed", *photos, tmp_path / "out.npz", "--cache", tmp_path / "cache")
    assert call(*command).exit_code == 0
    first = load_embeddings(tmp_path / "out.npz")
    monkeypatch.setattr(Embedder, "embed", None)
    assert call(*command).exit_code == 0
    for before, after in zip(first, load_embeddings(tmp_path / "out.npz"), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_verify_and_embed_refuse(photos, black, tmp_path, exported):
    page = tmp_path / "page.jpg"
    page.write_bytes(b"<html>")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    out = tmp_path / "out.npz"
    shutil.copytree(photos[0].parent, tmp_path / "other" / "p0")
    for words, arguments in (
        (f"{black} holds no face", ("verify", photos[0], black)),
        (f"{page} cannot be decoded", ("verify", page, photos[0])),
        ("nowhere", ("verify", photos[0], tmp_path / "nowhere")),
        ("'A'", ("verify",)),
        ("--model must be the directory", ("verify", *photos[:2], "--model", "resnet")),
        ("model.json", ("verify", *photos[:2], "--model", tmp_path)),
        ("--threshold", ("verify", *photos[:2], "--threshold", "2")),
        ("--aligned", ("verify", *photos[:2], "--resize")),
        ("exclude", ("verify", *photos[:2], "--aligned", "--resize", "--center-crop")),
        ("There is no image in", ("embed", tmp_path / "empty", out)),
        ("give the folder that holds both", ("embed", tmp_path / "photos", tmp_path / "other", out)),
        ("OUT must end in .npz", ("embed", photos[0], tmp_path / "out.npy")),
        ("OUT must be in a directory", ("embed", photos[0], tmp_path / "nowhere" / "out.npz")),
        ("--aligned", ("embed", photos[0], out, "--center-crop")),
        ("--skip-no-face", ("embed", photos[0], out, "--aligned", "--skip-no-face")),
    ):
        assert words in refused(*arguments), arguments
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "other")
    assert "link to a directory, which is not followed" in refused("embed", tmp_path / "photos", out)
    assert not out.exists()


def test_a_card_of_another_dimension_is_refused(photos, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    write_card(tmp_path / "model", dataclasses.replace(read_card(exported), dimension=64))
    assert "makes 6 numbers of an image, but its card says 64" in refused(
        "verify", *photos[:2], "--model", tmp_path / "model"
    )


def test_a_card_adds_no_line_to_the_answer(photos, exported, tmp_path):
    path, forged = tmp_path / "model", "A\nSame person: \x1b[2J"
    shutil.copytree(exported, path)
    threshold = dataclasses.replace(ready.THRESHOLD, protocol=forged)
    write_card(path, dataclasses.replace(read_card(path), licence=forged, threshold=threshold))
    shown = call("verify", *photos[:2], "--model", path)
    assert len(shown.stdout.splitlines()) == 3
    assert "\x1b" not in shown.stdout


COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_arguments_are_one_line_in_every_command(command):
    assert f"keras-normface {command} --help" in refused(command, "--no-such-option")
    assert "--help" in refused(f"{command}s")


def test_a_fault_of_the_program_is_not_an_answer(monkeypatch, capsys):
    def fail():
        raise RuntimeError("a fault")

    monkeypatch.setattr("keras_normface.cli._app.app", fail)
    monkeypatch.setattr(sys, "argv", ["keras-normface"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert "RuntimeError: a fault" in capsys.readouterr().err


@pytest.mark.slow
def test_real_photos_by_the_ready_network(tmp_path, monkeypatch):
    monkeypatch.undo()
    for person, image in ((1, 1), (1, 2), (2, 1)):
        face = Image.open(faces.ORL / f"s{person}" / f"{image}.pgm").convert("RGB")
        photo = Image.new("RGB", (500, 560), "grey")
        photo.paste(face.resize((276, 336), Image.Resampling.BICUBIC), (112, 112))
        photo.save(tmp_path / f"{person}-{image}.png")
    same = call("verify", tmp_path / "1-1.png", tmp_path / "1-2.png")
    assert same.exit_code == 0, same.output
    assert same.stdout.startswith("Same person")
    assert call("verify", tmp_path / "1-1.png", tmp_path / "2-1.png").exit_code == 1
