"""What the benchmarks share: a line of a table is measured in a process of its own, with a peak of its own."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path


def run_child(script, options):
    """Run `script --child OPTIONS` on the package beside the benchmarks; return the JSON of its last line.

    Args:
        script: Path of a benchmark that understands `--child`.
        options: What it measures; anything that JSON holds.

    Returns:
        What the process printed last.

    Raises:
        SystemExit: If it fails, with the end of what it said.
    """
    root = str(Path(__file__).resolve().parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }
    command = [sys.executable, script, "--child", json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{options} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_mib():
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fit_step_ends(model, x, y, steps):
    """Train on one batch again and again; return the time at the end of each step, in seconds."""
    import keras
    import tensorflow as tf

    ends = []
    timer = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(steps), verbose=0, callbacks=[timer])
    return ends
