"""The same batch on one replica and on two gives the same numbers, for every loss."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.replica_parity_script import CASES, HEADS, STEPS

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "support/replica_parity_script.py"


@pytest.fixture(scope="module")
def results():
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", [*CASES, *HEADS])
def test_two_replicas_equal_one(results, case):
    assert results["replicas"] == 2
    one, two = results["one"][case], results["two"][case]
    assert len(one["logs"]) == STEPS
    for a, b in zip(one["logs"], two["logs"], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    moved = [a["loss"] for a in one["logs"]]
    assert len(set(moved)) == STEPS
