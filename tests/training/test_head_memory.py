"""The estimate of a head's memory against what processes hold at most."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_normface.heads._cost import head_cost
from tests.support.head_memory_script import BATCH, CLASSES, DIM

SCRIPT = Path(__file__).parents[1] / "support/head_memory_script.py"
CASES = [(mode, xla, True) for mode in (False, "buffer", "stream") for xla in (False, True)]
CASES += [("buffer", True, False), (False, False, False)]
IN_CI = [("stream", True, True)]


def measured(case):
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    command = [sys.executable, SCRIPT, json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in IN_CI else pytest.mark.long) for case in CASES]
)
def test_the_estimate_is_what_a_process_holds(case):
    mode, jit_compile, update = case
    cost = head_cost(CLASSES, DIM, BATCH, mode, jit_compile=jit_compile)
    expected = cost.total if update else cost.kernel + cost.gradients + cost.activations + cost.program
    assert expected / 2**20 == pytest.approx(measured(case), rel=0.15)
