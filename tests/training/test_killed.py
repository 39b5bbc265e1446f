"""A real process is killed again and again, also while it saves, and ends where an uninterrupted one ends."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.killed_script import EPOCHS, SAVE_EVERY, STEPS

SCRIPT = Path(__file__).parents[1] / "support/killed_script.py"
KILLS = 20
FEWER_KILLS = 7  # in CI


def start(directory, out):
    """The same command every time."""
    paths = [str(SCRIPT.parents[1]), str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(directory), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""},
    )


def read_until_killed(process, rng, while_saving):
    """Kill at a random moment of a step or of a save; return the first and the last step."""
    event, count = ("saving", 2) if while_saving else ("done", rng.randint(SAVE_EVERY + 1, 2 * SAVE_EVERY + 4))
    lines = []
    while sum(line.startswith(event) for line in lines) < count:
        lines.append(process.stdout.readline())
        assert lines[-1], "ended too early"
    time.sleep(rng.uniform(0, 0.03 if while_saving else 0.005))
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    steps = [line.split() for line in lines if line.startswith(("start", "done"))]
    return int(steps[0][1]), int(steps[-1][1])


def finish(directory, out):
    """Run to the end."""
    process = start(directory, out)
    lines = process.communicate()[0].split("\n")
    assert process.returncode == 0
    assert lines[-2] == "end"
    return int(next(line for line in lines if line.startswith("start")).split()[1])


@pytest.mark.parametrize(
    "kills", [pytest.param(FEWER_KILLS, marks=pytest.mark.slow), pytest.param(KILLS, marks=pytest.mark.long)]
)
def test_kills_change_nothing(kills, tmp_path):
    assert finish(tmp_path / "whole", tmp_path / "whole.npz") == 0
    rng = random.Random(os.environ.get("KILL_SEED", "0"))
    last = None
    for kill in range(kills):
        process = start(tmp_path / "cut", tmp_path / "cut.npz")
        first, now = read_until_killed(process, rng, while_saving=kill % 3 == 1)
        if last is not None:
            assert first > 0
            assert 0 <= last + 1 - first <= SAVE_EVERY
        last = now
    assert last < EPOCHS * STEPS - 1
    first = finish(tmp_path / "cut", tmp_path / "cut.npz")
    assert 0 <= last + 1 - first <= SAVE_EVERY
    whole, cut = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "cut.npz")
    np.testing.assert_array_equal(cut["state"], whole["state"])
    assert str(cut["history"]) == str(whole["history"])
