"""The code in docs/training.md runs as it stands."""

import ast

import pytest

from tests.support import markdown
from tests.support.workers import results_of, run_workers, start_workers

BLOCKS = markdown.blocks("docs/training.md")


def test_the_script_runs_and_runs_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        namespace = {}
        exec(compile(BLOCKS[0], "training.md", "exec"), namespace)
        assert namespace["history"].epoch == [0, 1, 2]


def history(output):
    return ast.literal_eval(output.splitlines()[-1])


@pytest.mark.slow
def test_two_workers_train_and_resume_in_the_middle_of_an_epoch(tmp_path):
    whole, other = (history(output) for output in run_workers(BLOCKS[1], tmp_path))
    assert whole == other
    assert set(whole) == {"accuracy", "loss"}
    assert len(whole["loss"]) == 2
    later = [path for path in (tmp_path / "runs/workers").iterdir() if "epoch-000002" in path.name]
    assert len(later) == 1
    later[0].unlink()
    outputs = run_workers(BLOCKS[1], tmp_path)
    assert [history(output) for output in outputs] == [whole, whole]
    (output, _) = outputs
    assert "Epoch 2/2" in output
    assert "Epoch 1/2" not in output


@pytest.mark.slow
def test_workers_that_do_not_share_the_directory_are_told(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    run_workers(BLOCKS[1], tmp_path / "0")
    for process, (_, error) in results_of(start_workers(BLOCKS[1], [tmp_path / "0", tmp_path / "1"])):
        assert process.returncode != 0
        assert "on a disk that all workers share" in error
