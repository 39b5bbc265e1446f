"""Time and memory of a training step: plain Keras against DistributedModel, XLA, replicas, precision.

Every line of the table is a process of its own, so that the peak memory is its own; rounds are taken in turns, so
that other jobs on the machine disturb all lines alike. The last ratio is that of `DistributedModel.fit` to Keras's
own `fit` with the same replicas and XLA, where that works: on one replica, and on two without XLA. Two replicas on a
CPU share its cores: their lines show what the strategy costs, not what a second device gains.

Examples:
    python benchmarks/training_step.py
    python benchmarks/training_step.py --network sphereface20 --batch 32 --steps 10
    python benchmarks/training_step.py --network head --classes 98304 --batch 256 --steps 5
"""

import argparse
import json
import statistics

from child_process import fit_step_ends, peak_mib, run_child

CONFIGURATIONS = [  # (model, replicas, XLA)
    ("keras.Model", 1, False),
    ("DistributedModel", 1, False),
    ("keras.Model", 1, True),
    ("DistributedModel", 1, True),
    ("keras.Model", 2, False),
    ("DistributedModel", 2, False),
    ("DistributedModel", 2, True),
]
WARM_UP_STEPS = 3
SHAPES = {"small": (32, 32, 3), "sphereface20": (112, 96, 3), "head": (512,)}
SPHEREFACE20_BLOCKS = ((64, 1), (128, 2), (256, 4), (512, 1))


def backbone(network, inputs):
    """A small convolutional net, one of SphereFace-20's size, or nothing (`head`)."""
    from keras import layers

    if network == "head":
        return inputs
    if network == "small":
        x = inputs
        for filters in (16, 32, 64):
            x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
        return layers.Dense(64)(layers.Flatten()(x))
    x = inputs
    for filters, blocks in SPHEREFACE20_BLOCKS:
        x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(filters, 3, strides=2, padding="same")(x))
        for _ in range(blocks):
            y = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(filters, 3, padding="same")(x))
            y = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(filters, 3, padding="same")(y))
            x = layers.add([x, y])
    return layers.Dense(512)(layers.Flatten()(x))


def start(replicas):
    """Make the strategy before anything touches a device; nothing for one replica."""
    import tensorflow as tf

    if replicas == 1:
        return None
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def compiled_model(options):
    """Return the model of a configuration."""
    import keras

    import keras_normface as nf

    keras.config.set_dtype_policy(options["policy"])
    inputs = keras.Input(SHAPES[options["network"]])
    head = nf.CosineDense(options["classes"], dtype=options["policy"])
    base = {"keras.Model": keras.Model, "DistributedModel": nf.DistributedModel}[options["model"]]
    model = base(inputs, head(backbone(options["network"], inputs)))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, nf.NormFaceLoss(scale=20.0), jit_compile=options["xla"])
    return model


def measure(options):
    """Run one configuration in this process; return the median time of a step and the peak memory."""
    import contextlib

    strategy = start(options["replicas"])
    import numpy as np

    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled_model(options)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options["batch"], *SHAPES[options["network"]])).astype("float32")
    y = rng.integers(0, options["classes"], options["batch"])
    ends = fit_step_ends(model, x, y, options["steps"] + WARM_UP_STEPS)
    return {"seconds": float(np.median(np.diff(ends)[WARM_UP_STEPS - 1 :])), "peak_mib": peak_mib()}


def main():
    """Measure all configurations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("small", "sphereface20", "head"), default=None)
    parser.add_argument("--classes", type=int, default=None, help="classes (default: 1000; 98304 for head)")
    parser.add_argument("--batch", type=int, default=64, help="images of a step, all replicas together")
    parser.add_argument("--steps", type=int, default=10, help="timed steps; three more warm up")
    parser.add_argument("--rounds", type=int, default=3, help="processes a line; the median counts")
    parser.add_argument("--policy", choices=("float32", "mixed_bfloat16"), default=None)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    policies = [arguments.policy] if arguments.policy else ["float32", "mixed_bfloat16"]
    if arguments.network:
        classes = arguments.classes or (98304 if arguments.network == "head" else 1000)
        print_table(arguments.network, policies, classes, arguments)
    else:  # a quick default: a small network in both precisions, and a head of few classes
        print_table("small", policies, arguments.classes or 1000, arguments)
        print_table("head", policies[:1], arguments.classes or 8192, arguments)


def print_table(network, policies, classes, arguments):
    """Run the configurations of a network in turns, and print a line for each."""
    print(f"\n{network}, {classes} classes, batch {arguments.batch}, {arguments.rounds} x {arguments.steps} steps")
    print("| precision | model | replicas | XLA | ms a step | images/s | to plain Keras | to Keras's fit | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    common = {"network": network, "classes": classes, "batch": arguments.batch, "steps": arguments.steps}
    for policy in policies:
        results = {configuration: [] for configuration in CONFIGURATIONS}
        for _ in range(arguments.rounds):
            for model, replicas, xla in CONFIGURATIONS:
                options = {"policy": policy, "model": model, "replicas": replicas, "xla": xla}
                results[model, replicas, xla].append(run_child(__file__, {**common, **options}))
        seconds = {key: statistics.median(r["seconds"] for r in rounds) for key, rounds in results.items()}
        for (model, replicas, xla), own in seconds.items():
            keras_own = seconds.get(("keras.Model", replicas, xla)) if model == "DistributedModel" else None
            ratio = f"{own / keras_own:.2f}" if keras_own else ""
            peak = statistics.median(result["peak_mib"] for result in results[model, replicas, xla])
            print(
                f"| {policy} | {model} | {replicas} | {'on' if xla else 'off'} | {own * 1e3:.1f} | "
                f"{arguments.batch / own:.1f} | {own / seconds[CONFIGURATIONS[0]]:.2f} | {ratio} | {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
