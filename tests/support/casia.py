"""Running the training commands on small data, in a process of their own or in this one."""

import io
import pickle
import subprocess
import sys

from PIL import Image
from typer.testing import CliRunner

from keras_normface.cli._app import app
from keras_normface.cli._console import FAILED
from tests.support import faces

COMMANDS = ("train", "finetune", "compare-losses")
SCRIPTS = {
    "train_casia_webface.py": "train",
    "finetune_normface.py": "finetune",
    "compare_losses.py": "compare-losses",
}
SMALL = ["backbone_options.depth=4", "embedding_dim=16", "preprocessing.template=null", "learning_rate=0.01"]
CROPPED = ["--center-crop", "--set", "preprocessing.size=[48,40]", "--batch-size", "12"]
PEOPLE, IMAGES = 6, 8


def command(name, *arguments, small=tuple(SMALL)):
    changes = [part for change in small for part in ("--set", change)]
    return [sys.executable, "-W", "ignore", "-m", "keras_normface.cli", name, *map(str, arguments), *changes]


def run(name, *arguments, **options):
    shown = subprocess.run(command(name, *arguments, **options), capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:] + shown.stderr[-3000:]
    return shown.stdout


def call(*arguments):
    """In this process, for what ends before anything is trained."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def refused(*arguments):
    """The one line by which a command refuses its options."""
    result = call(*arguments)
    assert result.exit_code == FAILED, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


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
