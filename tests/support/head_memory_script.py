"""In a process of its own: most memory of a head's training step beyond what was there before, in MiB."""

import ctypes
import gc
import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_normface import MarginSoftmaxHead
from keras_normface.margins import AdditiveCosine

DIM, BATCH, CLASSES, WARM_UP_CLASSES = 512, 256, 98_304, 9000


def resident_mib(key):
    """`VmRSS` or `VmHWM` of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def step_of(classes, mode, jit_compile, update):
    """A compiled step without arguments, on agents of its own."""
    head = MarginSoftmaxHead(classes, AdditiveCosine(0.35), fused=mode, kernel_initializer="zeros")
    head.build((None, DIM))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    if update:
        optimizer.build([head.kernel])
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal((BATCH, DIM), dtype="float32"))
    ids = tf.constant(rng.integers(0, classes, BATCH).astype("int32"))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(x, ids):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(head.loss(ids, x))
        by_x, by_agents = tape.gradient(loss, [x, head.kernel.value])
        if not update:
            return loss, by_x, by_agents
        optimizer.apply([by_agents], [head.kernel])
        return loss, by_x

    return lambda: float(step(x, ids)[0])


def main(*options):
    """Print the peak."""
    step_of(WARM_UP_CLASSES, *options)()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident_mib("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    step = step_of(CLASSES, *options)
    step()
    step()
    print(resident_mib("VmHWM") - before)


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
