"""The recipes' optimizer on two replicas takes the steps that it takes on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "support/two_replicas_script.py"


@pytest.mark.long
def test_two_replicas_as_one():
    paths = [str(SCRIPT.parents[2]), str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(SCRIPT), "normface_contrastive"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    for name in ("two", "two_xla"):
        np.testing.assert_allclose(results[name]["loss"], results["one"]["loss"], rtol=1e-4)
        for ours, plain in zip(results[name]["weights"], results["one"]["weights"], strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-5)
