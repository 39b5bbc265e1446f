"""A tiny training with dropout, batch norm and Adam, and what it left."""

import keras
import numpy as np

from keras_normface.data import ArrayBatches

SAMPLES, BATCH, CLASSES, FEATURES = 44, 4, 3, 5
STEPS = SAMPLES // BATCH


class Cut(Exception):
    """Stands for the crash."""


class CutAt(keras.callbacks.Callback):
    """Crash after a step (counted over all epochs)."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Cut


def model(units=8, optimizer=None, **compile_arguments):
    """Dropout and batch norm, so that seeds and moving averages matter."""
    net = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(units, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"metrics": ["accuracy"], "jit_compile": False, **compile_arguments}
    net.compile(optimizer or keras.optimizers.Adam(0.01), loss, **options)
    return net


def arrays(seed=0, samples=SAMPLES):
    """Features and labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, FEATURES)).astype("float32"), rng.integers(0, CLASSES, samples)


def jitter(x, y, seed):
    """An augmentation."""
    import tensorflow as tf

    return x + 0.1 * tf.random.stateless_normal(tf.shape(x), seed), y


def data():
    """Augmented batches."""
    return ArrayBatches(*arrays(), BATCH, seed=3, augment=jitter)


def state(net):
    """Everything that training changes, as bytes by path."""
    variables = [*net.variables, *net.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)).tobytes() for v in variables]
