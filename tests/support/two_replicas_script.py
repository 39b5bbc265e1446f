"""Run as a process: the same three steps of a recipe on one device and on two replicas, without XLA and with it."""

import contextlib
import json
import sys

import keras
import tensorflow as tf

from tests.support import tiny_recipe


def train(recipe, scope, jit_compile):
    """Losses and weights after the steps."""
    keras.utils.set_random_seed(0)
    with scope:
        model = recipe.build_compiled(tiny_recipe.CLASSES, jit_compile=jit_compile)
    x, y = tiny_recipe.images(recipe)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(tiny_recipe.BATCH, drop_remainder=True)
    history = model.fit(data, verbose=0).history
    return {"loss": history["loss"], "weights": [weight.numpy().ravel().tolist() for weight in model.weights]}


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # A rate and a decay so strong that twice of it, or none, shows after three steps.
    recipe = tiny_recipe.shrunk(sys.argv[1], learning_rate=0.05, weight_decay=0.5)
    results = {"one": train(recipe, contextlib.nullcontext(), False)}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name, jit_compile in (("two", False), ("two_xla", True)):
        results[name] = train(recipe, strategy.scope(), jit_compile)
    print(json.dumps(results))
