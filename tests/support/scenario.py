"""What a training process of the distribution tests does: several trainings under one strategy.

Run as `python scenario.py RESULTS.json '{"name": {"replicas": 2, "xla": true, ...}, ...}'`. One strategy a
process, since a second one fails there; so `replicas` and `workers` are the same in all.
"""

import contextlib
import json
import os
import sys
import time

DEFAULTS = {
    "replicas": 2,
    "workers": False,
    "xla": False,
    "plain": False,
    "policy": "float32",
    "model": "softmax",
    "fused": "auto",
    "optimizer": "sgd",
    "rate": 0.05,
    "regularizer": None,
    "metrics": False,
    "rows": 160,
    "batch": 8,
    "epochs": 1,
    "steps_per_execution": 1,
    "weights": None,
    "data": "arrays",
    "validation": False,
    "inside": False,
    "evaluate": False,
    "predict": False,
}


def start(options):
    """Make the strategy (or none) before anything touches a device."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(2)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if options["workers"]:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if options["replicas"] == 1:
        return None
    devices = [tf.config.LogicalDeviceConfiguration()] * options["replicas"]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(options["replicas"])])


def compiled_model(options, strategy):
    """Return the model of a scenario, compiled, the same weights each time."""
    import keras

    from tests.support import scenario_parts as parts

    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(7)
        keras.config.set_dtype_policy(options["policy"])
        model, loss, loss_weights = parts.make_model(options)
        model.compile(
            optimizer=parts.make_optimizer(options["optimizer"], options["rate"]),
            loss=loss,
            loss_weights=loss_weights,
            jit_compile=options["xla"],
            steps_per_execution=options["steps_per_execution"],
            **parts.make_metrics(options),
        )
    return model


def train(options, strategy):
    """Train as told; return the losses after each execution, the history, the weights and more."""
    model, means = compiled_model(options, strategy), []

    def after(batch, logs):
        means.append(logs["loss"])
        print("STEP", batch, flush=True)

    with strategy.scope() if options["inside"] else contextlib.nullcontext():
        history = fit(options, model, after)
        others = model.non_trainable_variables
        result = {
            "kept": [float(v.numpy()) for v in others if len(v.shape) == 0],
            "means": means,
            "history": history.history,
            "weights": [number for v in model.trainable_variables for number in some_numbers(v.numpy())],
            "iterations": int(model.optimizer.iterations.numpy()),
            **scores(options, model),
        }
    if hasattr(model.optimizer, "dynamic_scale"):
        result["scale"] = float(model.optimizer.dynamic_scale.numpy())
    return result


def some_numbers(array):
    """All numbers of a small array, and some thousand of a large one, from its beginning to its end."""
    return array.astype("float64").ravel()[:: 1 + array.size // 5000].tolist()


def fit(options, model, after):
    """Call `fit`, or `train_on_batch` for each batch."""
    import keras

    from tests.support import scenario_parts as parts

    x, y, arguments = parts.make_data(options)
    if options["data"] == "on_batch":
        history = keras.callbacks.History()
        for start in range(0, len(x), options["batch"]):
            part = slice(start, start + options["batch"])
            logs = model.train_on_batch(x[part], y[part], return_dict=True)
            after(start, {name: float(value) for name, value in logs.items()})
        return history
    if options["validation"]:
        arguments["validation_data"] = (x[:7], keras.tree.map_structure(lambda labels: labels[:7], y))
    callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=after)]
    source = parts.as_source(options, x, y)
    return model.fit(**source, epochs=options["epochs"], verbose=0, callbacks=callbacks, **arguments)


def scores(options, model):
    """What the trained model says of the data it was trained on."""
    import keras
    import numpy as np

    from tests.support import scenario_parts as parts

    x, y, _ = parts.make_data(options)
    result = {}
    if options["evaluate"]:
        result["evaluate"] = model.evaluate(x, y, batch_size=options["batch"], verbose=0)
    if options["predict"]:
        outputs = model.predict(x, batch_size=options["batch"], verbose=0)
        result["predict"] = np.asarray(keras.tree.flatten(outputs)[0]).tolist()
    return result


def result_or_error(options, strategy):
    """Return the result of a training; an error becomes its result."""
    try:
        return train(options, strategy)
    except Exception as error:
        if options["workers"]:
            raise
        return {"error": f"{type(error).__name__}: {error}"}


def main(path, scenarios):
    """Run all scenarios, and write their results by name."""
    scenarios = {name: {**DEFAULTS, **options} for name, options in scenarios.items()}
    strategy = start(next(iter(scenarios.values())))
    results = {}
    for name, options in scenarios.items():
        begun, cpu = time.monotonic(), time.process_time()
        results[name] = result_or_error(options, strategy)
        print(f"DONE {name}: {time.monotonic() - begun:.1f} s, CPU {time.process_time() - cpu:.1f} s", flush=True)
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    main(sys.argv[1], json.loads(sys.argv[2]))
