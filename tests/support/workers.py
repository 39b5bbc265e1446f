"""Start two workers of `MultiWorkerMirroredStrategy` on this machine."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240


def start_workers(source, directories):
    """Start Python source as the workers of a cluster, each in its directory; return the processes."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(len(directories))]
    processes = []
    for index, directory in enumerate(directories):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONPATH": path}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", source],
                cwd=directory,
                env={**environment, "CUDA_VISIBLE_DEVICES": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def results_of(processes):
    """Wait for processes; return (process, (stdout, stderr)) of each."""
    return [(process, process.communicate(timeout=TIMEOUT_SECONDS)) for process in processes]


def run_workers(source, directory):
    """Run Python source as two workers in one directory; return what each wrote to its standard output."""
    started = results_of(start_workers(source, [directory, directory]))
    errors = "".join(error[-3000:] for _, (_, error) in started)
    assert all(process.returncode == 0 for process, _ in started), errors
    return [output for _, (output, _) in started]


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
