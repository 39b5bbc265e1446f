"""A training step of `EmbeddingModel` with all classes, and with samples of them, each trained by SGD with momentum.

The backbone is the identity, so that the heads are all that is timed: D 512, margin and weight decay as in AM-Softmax.
Every line is a process of its own; rounds are taken in turns, so that other jobs on the machine disturb all lines
alike. "to full" is the time over that of the head with all classes; "us a class" that over the classes of a step. The
peak is that of the whole process, program and libraries (about 0.6 GiB) included; it is reached where the class centres
are made or the first step is. All classes with SGD momentum need about 14 GiB at 1 048 576 classes without XLA.

Examples:
    python benchmarks/sampled_classes.py --classes 98304 --steps 5 --rounds 1
    python benchmarks/sampled_classes.py --classes 98304 1048576 --rates 0.01 0.1
"""

import argparse
import json
import os
import statistics

from child_process import fit_step_ends, peak_mib, run_child

CLASSES, RATES, BATCH, DIM = (98_304, 1_048_576), (0.01, 0.1), 256, 512
SCALE, MARGIN, MOMENTUM, DECAY, WARM_UP_STEPS = 30.0, 0.35, 0.9, 5e-4, 2


def compiled_model(options):
    """The identity and a head, with all classes or a sample of them."""
    import keras

    import keras_normface as nf

    arguments = {"margin": nf.margins.AdditiveCosine(MARGIN), "scale": SCALE}
    if options["rate"] is None:
        head = nf.MarginSoftmaxHead(options["classes"], **arguments)
    else:
        arguments |= {"sample_rate": options["rate"], "momentum": MOMENTUM, "weight_decay": DECAY}
        head = nf.SampledMarginSoftmaxHead(options["classes"], **arguments)
    inputs = keras.Input((DIM,))
    model = nf.EmbeddingModel(keras.Model(inputs, keras.layers.Activation("linear")(inputs)), head)
    optimizer = nf.CoupledSGD(0.1, MOMENTUM, coupled_weight_decay=DECAY)
    model.compile(optimizer, jit_compile=options["xla"])
    return model


def measure(options):
    """Run one line in this process; return the median time of a step, the classes in it, and the peak memory."""
    import numpy as np

    model = compiled_model(options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options["batch"], DIM), dtype="float32")
    y = rng.integers(0, options["classes"], options["batch"])
    ends = fit_step_ends(model, x, y, options["steps"] + WARM_UP_STEPS)
    seen = getattr(model.heads[0], "sample_size", options["classes"])
    seconds = statistics.median(np.diff(ends)[WARM_UP_STEPS - 1 :].tolist())
    return {"seconds": seconds, "classes": seen, "peak_mib": peak_mib()}


def print_table(classes, arguments):
    """Measure the lines in turns, and print their table."""
    rates = [None, *arguments.rates]
    results = {rate: [] for rate in rates}
    for _ in range(arguments.rounds):
        for rate in rates:
            options = {"classes": classes, "rate": rate, "batch": arguments.batch, "steps": arguments.steps}
            results[rate].append(run_child(__file__, {**options, "xla": arguments.xla}))
    seconds = {rate: statistics.median(r["seconds"] for r in results[rate]) for rate in rates}
    print(f"\n{classes} classes, batch {arguments.batch}; load {os.getloadavg()[0]:.1f}\n")
    print("| sample | classes | ms a step | to full | us a class | peak GiB |\n|---|--:|--:|--:|--:|--:|")
    for rate in rates:
        seen, peak = results[rate][0]["classes"], statistics.median(r["peak_mib"] for r in results[rate]) / 1024
        each, ratio = seconds[rate] / seen * 1e6, seconds[rate] / seconds[None]
        name = "all" if rate is None else rate
        print(f"| {name} | {seen} | {seconds[rate] * 1e3:.0f} | {ratio:.3f} | {each:.2f} | {peak:.1f} |")


def main():
    """Measure every size, or those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES, help="default: 98304 1048576")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="sample rates (default: 0.01 0.1)")
    parser.add_argument("--batch", type=int, default=BATCH, help="samples of a step (default: 256)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes a line; the median counts (default: 3)")
    parser.add_argument("--xla", action="store_true", help="compile forward and backward pass with XLA")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    for classes in arguments.classes:
        print_table(classes, arguments)


if __name__ == "__main__":
    main()
