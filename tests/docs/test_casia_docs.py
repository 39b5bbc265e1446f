"""docs/casia.md: its code runs, its commands have no option that there is not."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from keras_normface.cli._app import app
from tests.support import faces, markdown
from tests.support.casia import SCRIPTS, pair_file, run_here

LINES = markdown.shell_lines("docs/casia.md")
EXAMPLES = [line[line.index("python") + 1 :] for line in LINES if "python" in line]
COMMANDS = [line[1:] for line in LINES if line[0] == "keras-normface"]


def test_every_line_is_checked():
    assert len(EXAMPLES) + len(COMMANDS) == len(LINES)
    assert {Path(line[0]).name for line in EXAMPLES} == set(SCRIPTS)


@pytest.mark.parametrize("line", EXAMPLES, ids=" ".join)
def test_the_options_and_numbers_are_known(line, monkeypatch):
    assert run_here(monkeypatch, Path(line[0]).name, *line[1:], "--describe") is None


@pytest.mark.parametrize("line", COMMANDS, ids=" ".join)
def test_the_commands_have_these_options(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / line[1], 1, 1)
    shown = CliRunner().invoke(app, line)
    assert "No such option" not in shown.output
    assert shown.exit_code == 0


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / "faces", 4, 6)
    pair_file(tmp_path / "lfw.bin")
    namespace = markdown.run("docs/casia.md")
    assert int(namespace["model"].optimizer.iterations) == 6
    assert len(namespace["snapshots"].written()) == 2
    assert "val_lfw_accuracy" in namespace["history"].history
