"""Running the scripts for CASIA-WebFace on small data, in a process of their own or in this one."""

import io
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support import faces

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = ("train_casia_webface.py", "finetune_normface.py", "compare_losses.py")
SMALL = ["backbone_options.depth=4", "embedding_dim=16", "preprocessing.template=null", "learning_rate=0.01"]
CROPPED = ["--center-crop", "--set", "preprocessing.size=[48,40]", "--batch-size", "12"]
PEOPLE, IMAGES = 6, 8


def command(script, *arguments, small=tuple(SMALL)):
    changes = [part for change in small for part in ("--set", change)]
    return [sys.executable, "-W", "ignore", str(EXAMPLES / script), *map(str, arguments), *changes]


def run(script, *arguments, **options):
    shown = subprocess.run(command(script, *arguments, **options), capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:] + shown.stderr[-3000:]
    return shown.stdout


def run_here(monkeypatch, script, *arguments):
    """In this process, for what ends before anything is trained; returns what it exits with."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return ended.value.code


def pair_file(path, size=None):
    """Twenty pairs of people who are not trained on, same and different in turn; (height, width) resizes them."""
    images = []
    for number in range(20):
        person, other = 7 + number % 4, 7 + (number + number % 2) % 4
        images += [faces.face(person, 1 + number % 5), faces.face(other, 6 + number % 5)]
    images = images if size is None else [_resized(image, size) for image in images]
    path.write_bytes(pickle.dumps((images, [number % 2 == 0 for number in range(20)])))
    return path


def _resized(encoded, size):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded)).resize(size[::-1]).save(buffer, "PNG")
    return buffer.getvalue()
