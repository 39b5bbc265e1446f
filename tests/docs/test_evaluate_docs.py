"""The commands and the code of docs/evaluation.md run as they stand there, on small protocols."""

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keras_normface.cli.main import app
from keras_normface.inference import read_threshold
from keras_normface.metrics import Result
from tests.support import faces, products

TEXT = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
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
        assert read_threshold("embedding").far == 0.5


def test_the_code_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / "photos", 10, 5)
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, "evaluation.md", "exec"), namespace)
    assert Result.load("result.json")["TAR@FAR=1e-01"].interval is not None
    assert len(namespace["rows"]) == len(namespace["protocol"].images)
