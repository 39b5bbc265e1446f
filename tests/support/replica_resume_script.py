"""Run as a process: train on one replica or two, from where the directory is, perhaps only to a step.

Arguments: replicas, directory, last step or 0, file for the weights.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from keras_normface import fit_resumable
from keras_normface.data import ArrayBatches
from tests.support import tiny


def make():
    """Batch norm that only infers and next to no noise: two replicas then equal one. Seeds are saved too."""
    net = keras.Sequential(
        [
            keras.Input((tiny.FEATURES,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(trainable=False),
            keras.layers.GaussianNoise(1e-12),
            keras.layers.Dense(tiny.CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], jit_compile=False)
    return net


def main():
    """Train and write the weights and the losses of the epochs."""
    replicas, directory, last, out = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    devices = [f"CPU:{index}" for index in range(replicas)]
    strategy = tf.distribute.MirroredStrategy(devices) if replicas > 1 else tf.distribute.get_strategy()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        net = make()
    data = ArrayBatches(*tiny.arrays(), tiny.BATCH, seed=3)
    cut = [tiny.CutAt(last)] if last else []
    try:
        history = fit_resumable(net, data, 2, directory, save_every=4, callbacks=cut, verbose=0)
    except tiny.Cut:
        return
    weights = [keras.ops.convert_to_numpy(weight).ravel() for weight in net.weights]
    np.savez(out, weights=np.concatenate(weights), **history.history)


if __name__ == "__main__":
    main()
