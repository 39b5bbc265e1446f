"""Two workers, each a process of its own."""

import subprocess
import time

import numpy as np
import pytest

from tests.support.processes import assert_same, results_of, start_scenarios, start_workers

SCENARIOS = {
    "functional": {
        "rows": 13,
        "epochs": 2,
        "xla": True,
        "metrics": True,
        "evaluate": True,
        "predict": True,
        "validation": True,
    },
    "embedding": {"model": "embedding", "rows": 32, "xla": True},
    "executions": {"rows": 37, "epochs": 2, "steps_per_execution": 3, "optimizer": "accumulate"},
}


@pytest.mark.slow
def test_two_workers_are_as_one_process(tmp_path):
    started = start_workers(tmp_path, SCENARIOS)
    plain = {name: {**options, "replicas": 1, "plain": True} for name, options in SCENARIOS.items()}
    alone = results_of(start_scenarios(tmp_path, "alone", plain))
    workers = [results_of(worker) for worker in started]
    for name in SCENARIOS:
        assert_same(workers[0][name], alone[name], 1e-5)
        for part in workers[0][name].keys() - {"history"}:
            np.testing.assert_array_equal(workers[0][name][part], workers[1][name][part], err_msg=name)
        assert workers[0][name]["history"] == workers[1][name]["history"]


@pytest.mark.slow
def test_a_dead_worker_stops_the_other(tmp_path):
    scenario = {"long": {"rows": 800, "epochs": 10_000, "xla": True}}
    (first, _), (second, path) = start_workers(tmp_path, scenario)
    try:
        log = path.with_suffix(".log")
        wait_for(lambda: log.read_text().count("STEP") > 20 or second.poll() is not None, 300)
        assert second.poll() is None, log.read_text()[-4000:]
        first.kill()
        first.wait()
        assert second.wait(timeout=180) != 0
        assert "Error" in log.read_text()
    except subprocess.TimeoutExpired:
        pytest.fail("the surviving worker hangs")
    finally:
        for process in (first, second):
            if process.poll() is None:
                process.kill()
                process.wait()


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.5)
