"""What two replicas saved, one goes on with, and the reverse."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "support/replica_resume_script.py"


def run(replicas, directory, last=0):
    paths = [str(SCRIPT.parents[1]), str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(replicas), str(directory), str(last), f"{directory}.npz"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return None if last else np.load(f"{directory}.npz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(1, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_replicas(tmp_path, whole, first, then):
    run(first, tmp_path / "run", last=17)
    assert any("step-000000004" in path.name for path in (tmp_path / "run").iterdir())
    resumed = run(then, tmp_path / "run")
    for name in ("weights", "loss", "accuracy"):
        np.testing.assert_allclose(resumed[name], whole[name], rtol=1e-4, atol=1e-5, err_msg=name)
