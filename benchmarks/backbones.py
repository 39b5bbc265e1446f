"""Images a second of a training step of the backbones: precision and XLA, beside the same network in PyTorch.

A step is forward, backward and the update of SGD with momentum, on one batch that stays the same; the loss is the mean
square of the embedding's distance from given numbers. PyTorch, where it is installed, runs the network of
`tests/backbones/torch_networks.py`, channels last, on all threads. Every line is a process of its own; rounds are taken
in turns, so that other jobs on the machine disturb all lines alike. The ratio is that to PyTorch in float32.

Examples:
    python benchmarks/backbones.py
    python benchmarks/backbones.py --network sphereface20 --batch 16 --steps 8 --rounds 5
    python benchmarks/backbones.py --network iresnet50 --precision float32 --no-xla
"""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from child_process import fit_step_ends, peak_mib, run_child

SIZE, EMBEDDING, WARM_UP_STEPS = 112, 512, 3
NETWORKS = ("sphereface20", "iresnet50")
PRECISIONS = ("float32", "mixed_bfloat16")
REFERENCE = ("PyTorch", "float32", False)
TORCH_NETWORKS = Path(__file__).resolve().parents[1] / "tests" / "backbones"


def batch_of(options):
    """Images `(batch, 112, 112, 3)` and wanted embeddings `(batch, 512)`."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(options["batch"], SIZE, SIZE, 3)).astype("float32")
    return images, rng.normal(size=(options["batch"], EMBEDDING)).astype("float32")


def keras_step_ends(options):
    """Times at the end of each step of `fit`."""
    import keras

    from keras_normface.backbones import IResNet, SphereFaceNet

    keras.config.set_dtype_policy(options["precision"])
    model = SphereFaceNet(20) if options["network"] == "sphereface20" else IResNet(50)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mse", jit_compile=options["xla"])
    return fit_step_ends(model, *batch_of(options), options["steps"])


def torch_step_ends(options):
    """Times at the end of each step of PyTorch."""
    import torch

    sys.path.insert(0, str(TORCH_NETWORKS))
    import torch_networks

    torch.set_num_threads(os.cpu_count())
    make = {
        "sphereface20": lambda: torch_networks.caffe_sphereface([1, 2, 4, 1]),
        "iresnet50": lambda: torch_networks.IResNet([3, 4, 14, 3]),
    }[options["network"]]
    network = make().to(memory_format=torch.channels_last).train()
    images, wanted = (torch.from_numpy(array) for array in batch_of(options))
    images = images.permute(0, 3, 1, 2)  # NHWC underneath, so this is channels last already
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, ends = torch.optim.SGD(trained, 1e-3, momentum=0.9), []
    half = options["precision"] == "mixed_bfloat16"
    for _ in range(options["steps"]):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            embedding = network(images)
        loss = torch.nn.functional.mse_loss(embedding.float(), wanted)
        loss.backward()
        optimizer.step()
        loss.item()
        ends.append(time.perf_counter())
    return ends


def measure(options):
    """Run one line in this process; return the median time of a step and the peak memory."""
    options["steps"] += WARM_UP_STEPS
    ends = (torch_step_ends if options["framework"] == "PyTorch" else keras_step_ends)(options)
    return {"seconds": float(np.median(np.diff(ends)[WARM_UP_STEPS - 1 :])), "peak_mib": peak_mib()}


def lines_for(arguments):
    """Framework, precision and XLA of each line."""
    precisions = [arguments.precision] if arguments.precision else PRECISIONS
    lines = []
    if importlib.util.find_spec("torch"):
        # The reference is always measured.
        lines += [("PyTorch", precision, False) for precision in dict.fromkeys(["float32", *precisions])]
    for precision in precisions:
        lines += [("Keras", precision, xla) for xla in ((False, True) if arguments.xla else (False,))]
    return lines


def print_table(network, arguments):
    """Measure the lines of a network in turns, and print the table."""
    print(f"\n{network}, 112x112x3, batch {arguments.batch}, {arguments.rounds} x {arguments.steps} steps")
    print("| framework | precision | XLA | ms a step | images/s | to PyTorch float32 | peak MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    common = {"network": network, "batch": arguments.batch, "steps": arguments.steps}
    lines = lines_for(arguments)
    results = {line: [] for line in lines}
    for _ in range(arguments.rounds):
        for framework, precision, xla in lines:
            options = {"framework": framework, "precision": precision, "xla": xla}
            results[framework, precision, xla].append(run_child(__file__, {**common, **options}))
    rates = {
        line: arguments.batch / statistics.median(r["seconds"] for r in rounds) for line, rounds in results.items()
    }
    for (framework, precision, xla), rate in rates.items():
        ratio = f"{rate / rates[REFERENCE]:.2f}" if REFERENCE in rates else ""
        peak = statistics.median(result["peak_mib"] for result in results[framework, precision, xla])
        print(
            f"| {framework} | {precision} | {'on' if xla else 'off'} | {arguments.batch / rate * 1e3:.0f} | "
            f"{rate:.1f} | {ratio} | {peak:.0f} |",
            flush=True,
        )


def main():
    """Measure both networks, or one, and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default=None, help="one network (default: both)")
    parser.add_argument("--batch", type=int, default=32, help="images of a step (default: 32)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps; three more warm up (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="processes a line; the median counts (default: 3)")
    parser.add_argument("--precision", choices=PRECISIONS, default=None, help="one precision (default: both)")
    parser.add_argument("--xla", action=argparse.BooleanOptionalAction, default=True, help="also measure under XLA")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    for network in [arguments.network] if arguments.network else NETWORKS:
        print_table(network, arguments)


if __name__ == "__main__":
    main()
