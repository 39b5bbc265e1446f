"""Time and memory of one semi-hard triplet step (value and gradient), ours and tensorflow-addons'.

    python benchmarks/metric_losses.py --batch-sizes 128 512 --addons-python .venv-addons/bin/python

Each measurement is a process of its own: the median time of several steps in a compiled graph, and by how
much they raised the process's peak memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

DIM = 128
CLASSES_OF = 4
"""Samples of each class in the batch."""
VARIANTS = {
    "ours": {"jit_compile": False, "addons": False},
    "ours, XLA": {"jit_compile": True, "addons": False},
    "addons": {"jit_compile": False, "addons": True},
}


def peak_megabytes():
    """The most memory that this process has held so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def semi_hard_loss(addons):
    """The loss, of whichever package this environment has."""
    if addons:
        import tensorflow_addons as tfa

        return tfa.losses.TripletSemiHardLoss()
    from keras_normface.losses import TripletSemiHardLoss

    return TripletSemiHardLoss()


def measure(variant, batch_size, repeats):
    """Median seconds of a step, megabytes that the steps added to the peak, and the loss."""
    import numpy as np
    import tensorflow as tf

    loss = semi_hard_loss(VARIANTS[variant]["addons"])
    x = np.random.default_rng(0).normal(size=(batch_size, DIM)).astype("float32")
    x = tf.constant(x / np.linalg.norm(x, axis=1, keepdims=True))
    ids = tf.constant(np.arange(batch_size) // CLASSES_OF)

    @tf.function(jit_compile=VARIANTS[variant]["jit_compile"])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(ids, x)
        return value, tape.gradient(value, x)

    tf.linalg.matmul(x, x, transpose_b=True)  # starts the thread pools, which are not the loss's memory
    before, times = peak_megabytes(), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        value, gradient = step(x)
        gradient.numpy()
        times.append(time.perf_counter() - start)
    return {
        "milliseconds": 1e3 * statistics.median(times[1:]),
        "megabytes": peak_megabytes() - before,
        "loss": float(value),
    }


def in_process(python, variant, batch_size, repeats):
    """Run one measurement in a fresh process of the given Python."""
    numbers = ["--batch-sizes", str(batch_size), "--repeats", str(repeats)]
    command = [python, __file__, "--measure", variant, *numbers]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "2"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main():
    """Parse the arguments; measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--addons-python", help="Python of an environment with tensorflow-addons 0.23")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.batch_sizes[0], arguments.repeats)))
        return
    print("| B | | ms a step | MB added to the peak | loss |\n|--:|---|--:|--:|--:|")
    for batch_size in arguments.batch_sizes:
        for variant, options in VARIANTS.items():
            python = arguments.addons_python if options["addons"] else sys.executable
            if python:
                r = in_process(python, variant, batch_size, arguments.repeats)
                print(
                    f"| {batch_size} | {variant} | {r['milliseconds']:.1f} | {r['megabytes']:.0f} | {r['loss']:.6f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
