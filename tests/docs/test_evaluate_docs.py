"""The commands of docs/evaluation.md run as they stand there, on small protocols; its table names every kind."""

import os
import re
import shlex

import pytest
from typer.testing import CliRunner

from keras_normface.cli._app import app
from keras_normface.inference import read_card
from keras_normface.metrics import Result
from keras_normface.protocols._open import KINDS
from tests.support import markdown, products

TEXT = markdown.read("docs/evaluation.md")
COMMANDS = re.findall(r"^    keras-normface (evaluate .*)$", TEXT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the commands find their models, and the identities of the training set."""
    root = tmp_path_factory.mktemp("docs")
    products.export(root / "embedding")
    products.export(root / "newer", seed=1)
    (root / "shards" / "Somebody").mkdir(parents=True)
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command, place, tmp_path, monkeypatch):
    """Paths of the protocol become those of a small one; everything else stays."""
    words = shlex.split(command)
    ours = products.prepared(words[1], tmp_path)
    paths = dict(zip(ours[1::2], ours[2::2], strict=True))
    if "1e-3" in words:
        words[words.index("1e-3")] = "0.5"  # few pairs
    for option, value in paths.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, [os.fspath(word) for word in words])
    assert result.exit_code == 0, result.output
    if "--out" in words:
        assert Result.load(place / words[words.index("--out") + 1] / "result.json").figures
    if "--calibrate-far" in words:
        assert read_card("embedding").threshold.far == 0.5


def test_the_table_names_every_kind():
    cells = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
    named = {kind for cell in cells for kind in re.findall(r"`([^`]+)`", cell)}
    assert set(KINDS) <= named
