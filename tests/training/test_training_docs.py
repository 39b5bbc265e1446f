"""The code in docs/training.md runs as it stands."""

import ast
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), flags=re.DOTALL)


def test_the_script_runs_and_runs_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        namespace = {}
        exec(compile(BLOCKS[0], "training.md", "exec"), namespace)
        assert namespace["history"].epoch == [0, 1, 2]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start_workers(directories):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index, directory in enumerate(directories):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONPATH": path}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", BLOCKS[1]],
                cwd=directory,
                env={**environment, "CUDA_VISIBLE_DEVICES": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return [(process, process.communicate(timeout=240)) for process in processes]


def run_workers(directory):
    started = start_workers([directory, directory])
    processes, results = zip(*started, strict=True)
    assert all(process.returncode == 0 for process in processes), results[0][1][-3000:] + results[1][1][-3000:]
    return [ast.literal_eval(result[0].splitlines()[-1]) for result in results], results[0][0]


@pytest.mark.slow
def test_two_workers_train_and_resume_in_the_middle_of_an_epoch(tmp_path):
    (whole, other), _ = run_workers(tmp_path)
    assert whole == other
    assert set(whole) == {"accuracy", "loss"}
    assert len(whole["loss"]) == 2
    later = [path for path in (tmp_path / "runs/workers").iterdir() if "epoch-000002" in path.name]
    assert len(later) == 1
    later[0].unlink()
    (resumed, other), output = run_workers(tmp_path)
    assert resumed == other == whole
    assert "Epoch 2/2" in output
    assert "Epoch 1/2" not in output


@pytest.mark.slow
def test_workers_that_do_not_share_the_directory_are_told(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    run_workers(tmp_path / "0")
    for process, (_, error) in start_workers([tmp_path / "0", tmp_path / "1"]):
        assert process.returncode != 0
        assert "on a disk that all workers share" in error
