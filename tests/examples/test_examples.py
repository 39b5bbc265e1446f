"""The examples run, from the command line, in a few steps."""

import ast
import glob
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from keras_normface.startup import GPU_DEVICES
from tests.support.casia import SCRIPTS

ROOT = Path(__file__).parents[2]
NOTICES = ("cuda", "cuInit", "cuFFT", "CPU instructions", "oneDNN")


def run(script, *arguments):
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / script), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize("script", ["orl_faces.py", "mnist_sphere.py"])
def test_help_has_an_example(script):
    shown = run(script, "--help")
    assert shown.returncode == 0
    assert f"python examples/{script} --" in shown.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_of_training_are_its_commands(script, monkeypatch, capsys):
    source = (ROOT / "examples" / script).read_text()
    assert f"    python examples/{script} --" in ast.get_docstring(ast.parse(source))
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"Usage: keras-normface {SCRIPTS[script]} [OPTIONS]")


@pytest.mark.skipif(any(map(glob.glob, GPU_DEVICES)), reason="the machine has a GPU")
@pytest.mark.slow
def test_no_notice_of_tensorflow_is_shown_and_an_error_is():
    tiny = ("--identities", "64", "--dim", "4", "--batch-size", "4", "--people", "8", "--steps", "1")
    shown = run("million_identities.py", *tiny)
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert not [notice for notice in NOTICES if notice in shown.stderr], shown.stderr
    shown = run("orl_faces.py", "--steps", "1", "--folds", "2", "--out", __file__)
    assert shown.returncode == 1
    assert "FileExistsError" in shown.stderr
    assert not [notice for notice in NOTICES if notice in shown.stderr], shown.stderr


@pytest.mark.long
def test_mnist_sphere_draws_three_pictures(tmp_path):
    shown = run("mnist_sphere.py", "--steps", "1", "--out", str(tmp_path))
    assert shown.returncode == 0, shown.stderr[-3000:]
    for picture in ("margins.png", "mnist_2d.png", "mnist_3d.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_orl_faces_compares_draws_and_exports(tmp_path):
    shown = run(
        "orl_faces.py", "--compare", "--folds", "2", "--steps", "2", "--batch-size", "8", "--out", str(tmp_path)
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    methods = ("raw pixels", "Fisherfaces", "NormFace", "softmax", "C-contrastive", "C-triplet")
    assert all(method in shown.stdout for method in methods)
    assert (tmp_path / "embedding/saved_model.pb").is_file()
    for picture in ("roc.png", "unseen_people.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
