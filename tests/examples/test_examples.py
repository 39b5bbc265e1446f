"""The examples run, from the command line, in a few steps."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("script", ["orl_faces.py", "mnist_sphere.py"])
def test_help_has_an_example(script):
    shown = run(script, "--help")
    assert shown.returncode == 0
    assert f"python examples/{script} --" in shown.stdout


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
