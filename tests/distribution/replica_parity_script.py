"""Run as a process: three steps of every loss on one device and on two replicas, as JSON on the last line."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_normface as knf

CASES = {
    "NormFaceLoss": lambda: (knf.NormFaceLoss(), True),
    "NormFaceLoss-smooth": lambda: (knf.NormFaceLoss(scale=8.0, label_smoothing=0.1), False),
    "AgentContrastiveLoss": lambda: (knf.AgentContrastiveLoss(), False),
    "AgentContrastiveLoss-hardest": lambda: (knf.AgentContrastiveLoss(hardest_negative_only=True), False),
    "AgentTripletLoss": lambda: (knf.AgentTripletLoss(), False),
    "AgentTripletLoss-caffe": lambda: (knf.AgentTripletLoss(gradient="caffe", positive_pull=True), False),
    "NormFaceLoss-sum": lambda: (knf.NormFaceLoss(scale=8.0, reduction="sum"), False),
}
CLASSES, BATCH, STEPS = 5, 8, 3


def train(make_loss):
    """Losses, accuracies and weights after each step."""
    keras.utils.set_random_seed(0)
    loss, scaled = make_loss()
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), knf.CosineDense(CLASSES)]
    model = keras.Sequential(layers + ([knf.LearnableScale()] if scaled else []))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"], jit_compile=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 6)).astype("float32")
    y = rng.integers(0, CLASSES, STEPS * BATCH)
    weight = rng.uniform(0.5, 2, STEPS * BATCH).astype("float32")
    record = []
    per_step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: record.append(dict(logs)))
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(BATCH)
    model.fit(data, verbose=0, callbacks=[per_step])
    return {
        "logs": [{k: float(v) for k, v in logs.items()} for logs in record],
        "weights": [w.tolist() for w in model.get_weights()],
    }


def main():
    """One device first, then both replicas."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one = {name: train(make) for name, make in CASES.items()}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        two = {name: train(make) for name, make in CASES.items()}
    json.dump({"replicas": strategy.num_replicas_in_sync, "one": one, "two": two}, sys.stdout)


if __name__ == "__main__":
    main()
