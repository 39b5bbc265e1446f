"""Start the processes of the distribution tests."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 900


def start_scenarios(directory, name, scenarios, **environment):
    """Start a process that runs the scenarios one after another; see `results_of`."""
    path = directory / f"{name}.json"
    command = [sys.executable, HERE / "scenario.py", path, json.dumps(scenarios)]
    with path.with_suffix(".log").open("w") as log:
        env = {**_environment(), **environment}
        return subprocess.Popen(command, env=env, stdout=log, stderr=log), path


def results_of(started):
    """Wait for a process of `start_scenarios`; return the results of its scenarios by name."""
    process, path = started
    assert process.wait(timeout=TIMEOUT_SECONDS) == 0, path.with_suffix(".log").read_text()[-4000:]
    return json.loads(path.read_text())


def start_workers(directory, scenarios, count=2):
    """Start one process a worker, all with the same scenarios."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    return [
        start_scenarios(
            directory,
            f"worker{index}",
            {name: {**options, "workers": True} for name, options in scenarios.items()},
            TF_CONFIG=json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
        )
        for index in range(count)
    ]


def run_script(directory, source):
    """Run Python source in a process of its own, and return its standard output."""
    path = directory / "script.py"
    path.write_text(source)
    command = [sys.executable, path]
    done = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def assert_same(ours, plain, tolerance):
    """Assert that two results of scenarios are the same training."""
    assert "error" not in ours, ours["error"]
    assert "error" not in plain, plain["error"]
    np.testing.assert_allclose(ours["means"], plain["means"], rtol=tolerance)
    assert ours["history"].keys() == plain["history"].keys()
    for name in plain["history"]:
        np.testing.assert_allclose(ours["history"][name], plain["history"][name], rtol=tolerance, err_msg=name)
    np.testing.assert_allclose(ours["weights"], plain["weights"], rtol=0, atol=10 * tolerance)
    np.testing.assert_allclose(ours["kept"], plain["kept"], rtol=tolerance)
    assert ours["iterations"] == plain["iterations"]
    assert ours.get("scale") == plain.get("scale")
    for name in ("evaluate", "predict"):
        if name in plain:
            np.testing.assert_allclose(ours[name], plain[name], rtol=10 * tolerance, atol=10 * tolerance)


def _environment():
    paths = [str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    return {
        **{key: value for key, value in os.environ.items() if key != "TF_CONFIG"},
        "PYTHONPATH": os.pathsep.join(paths),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
