"""Run as a process, to be killed: trains, and prints each event on a line of its own.

Arguments: directory, file for the final weights. Lines: `start N`, `done N` (N counts steps over all epochs),
`saving`, `end`.
"""

import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_normface import fit_resumable
from keras_normface.data import ArrayBatches
from tests.support import tiny

EPOCHS, STEPS, SAVE_EVERY = 6, 70, 7


class Report(keras.callbacks.Callback):
    """Print the position."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.first = epoch, not hasattr(self, "epoch")

    def on_train_batch_begin(self, batch, logs=None):
        if self.first:
            print("start", self.epoch * STEPS + batch, flush=True)
            self.first = False

    def on_train_batch_end(self, batch, logs=None):
        print("done", self.epoch * STEPS + batch, flush=True)


def slow_saves():
    """Make the moment between writing and renaming long enough to be hit."""
    sync = os.fsync

    def slow(descriptor):
        print("saving", flush=True)
        time.sleep(0.03)
        sync(descriptor)

    os.fsync = slow


def main():
    """Train to the end, if nobody kills it."""
    directory, out = sys.argv[1:]
    slow_saves()
    x, y = tiny.arrays(samples=STEPS * tiny.BATCH)
    data = ArrayBatches(x, y, tiny.BATCH, seed=3, augment=tiny.jitter)
    keras.utils.set_random_seed(int.from_bytes(os.urandom(4), "little") if list(Path(directory).glob("*")) else 0)
    net = tiny.model()
    history = fit_resumable(net, data, EPOCHS, directory, save_every=SAVE_EVERY, callbacks=[Report()], verbose=0)
    state = tiny.state(net)
    np.savez(out, state=np.frombuffer(b"".join(state), np.uint8), history=json.dumps(history.history))
    print("end", flush=True)


if __name__ == "__main__":
    main()
