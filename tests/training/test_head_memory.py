"""The estimate of a head's memory against what processes hold at most."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from training.head_memory_script import BATCH, CLASSES, DIM

from keras_normface.heads.cost import head_cost

SCRIPT = Path(__file__).with_name("head_memory_script.py")
CASES = [(mode, xla, True) for mode in (False, "buffer", "stream") for xla in (False, True)]
CASES += [("buffer", True, False), (False, False, False)]


def measured(case):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, SCRIPT, json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def peaks():
    with ThreadPoolExecutor(2) as processes:
        return dict(zip(CASES, processes.map(measured, CASES), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_estimate_is_what_a_process_holds(peaks, case):
    mode, jit_compile, update = case
    cost = head_cost(CLASSES, DIM, BATCH, mode, jit_compile=jit_compile)
    expected = cost.total if update else cost.agents + cost.gradients + cost.activations
    assert expected / 2**20 == pytest.approx(peaks[case], rel=0.15)
