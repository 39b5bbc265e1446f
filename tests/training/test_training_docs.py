"""The code in docs/training.md runs as it stands."""

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


def run_workers(directory):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
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
    results = [process.communicate(timeout=240) for process in processes]
    assert all(process.returncode == 0 for process in processes), results[0][1][-3000:] + results[1][1][-3000:]
    assert results[0][0] == results[1][0]
    return results[0][0].splitlines()


@pytest.mark.slow
def test_two_workers_train_and_resume_in_the_middle_of_an_epoch(tmp_path):
    whole = run_workers(tmp_path)
    assert whole[0] == "start 0 0"
    later = [path for path in (tmp_path / "runs/workers").iterdir() if "epoch-000002" in path.name]
    assert len(later) == 1
    later[0].unlink()
    resumed = run_workers(tmp_path)
    assert resumed[0] == "start 1 6"
    assert resumed[-1] == whole[-1]
