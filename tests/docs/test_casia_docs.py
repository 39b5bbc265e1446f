"""docs/casia.md: its code runs, its commands have no option that there is not."""

import pytest

from tests.support import faces, markdown
from tests.support.casia import COMMANDS, call, pair_file

LINES = [line[line.index("keras-normface") + 1 :] for line in markdown.shell_lines("docs/casia.md")]
TRAINING = [line for line in LINES if line[0] in COMMANDS]
OTHERS = [line for line in LINES if line[0] not in COMMANDS]


def test_every_command_is_on_the_page():
    assert {line[0] for line in TRAINING} == set(COMMANDS)
    assert {line[0] for line in OTHERS} == {"align", "prepare"}


@pytest.mark.parametrize("line", TRAINING, ids=" ".join)
def test_the_options_and_numbers_are_known(line):
    shown = call(*line, "--describe")
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("line", OTHERS, ids=" ".join)
def test_the_commands_have_these_options(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / line[1], 1, 1)
    shown = call(*line)
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
