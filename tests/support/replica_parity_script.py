"""Run as a process: three steps of every loss on one device and on two replicas, as JSON on the last line."""

import contextlib
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
    "AMSoftmaxLoss": lambda: (knf.AMSoftmaxLoss(), False),
    "ArcFaceLoss": lambda: (knf.ArcFaceLoss(scale=16.0), False),
    "SphereFaceLoss": lambda: (knf.losses.SphereFaceLoss(), False),
    "SphereFaceRLoss": lambda: (knf.SphereFaceRLoss(variant="v2"), False),
    "NormFaceLoss-sum": lambda: (knf.NormFaceLoss(scale=8.0, reduction="sum"), False),
}
CLASSES, BATCH, STEPS = 5, 8, 3
RAMP = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 1.2, 1.5])
HEADS = {
    "head-am-learnable": lambda: [
        knf.MarginSoftmaxHead(CLASSES, knf.margins.AdditiveCosine(0.2), scale=knf.LearnableScale(12.0))
    ],
    "head-soft": lambda: [knf.MarginSoftmaxHead(CLASSES, scale=3.0, feature_norm="soft", kernel_regularizer="l2")],
    "head-none-scheduled": lambda: [
        knf.MarginSoftmaxHead(
            CLASSES, knf.margins.MultiplicativeAngular(variant="v2"), feature_norm="none", margin_schedule=RAMP
        )
    ],
    "head-by-sample": lambda: [
        knf.MarginSoftmaxHead(CLASSES, margin, scale=8.0)
        for margin in (
            knf.margins.AdaFace(rate=0.3),
            knf.margins.MagFace(norms=(0.2, 2.0), norm_weight=0.1),
            knf.margins.ElasticFace(deviation=0.1, by_rank=True),
            knf.margins.CurricularFace(rate=0.3),
        )
    ],
    "head-joint": lambda: [knf.AgentContrastiveHead(CLASSES), knf.AgentTripletHead(CLASSES)],
}


def compiled(case):
    """A model under the loss or the heads of the case."""
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="tanh")]
    if case in HEADS:
        model, loss, metrics = knf.EmbeddingModel(keras.Sequential(layers), HEADS[case]()), None, None
    else:
        loss, scaled = CASES[case]()
        metrics = ["accuracy"]
        model = keras.Sequential([*layers, knf.CosineDense(CLASSES), *([knf.LearnableScale()] if scaled else [])])
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss, metrics=metrics, jit_compile=False)
    return model


def train(case, scope):
    """Losses, accuracies and weights after each step."""
    keras.utils.set_random_seed(0)
    with scope:
        model = compiled(case)
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
    one = {name: train(name, contextlib.nullcontext()) for name in (*CASES, *HEADS)}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    two = {name: train(name, strategy.scope()) for name in (*CASES, *HEADS)}
    result = {"replicas": strategy.num_replicas_in_sync, "one": one, "two": two}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
