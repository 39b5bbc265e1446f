"""Logs as TensorBoard reads them, written by TensorFlow alone."""

import os

import keras
import numpy as np

from keras_normface.models.replica_functions import is_chief
from keras_normface.training.at_steps import AtSteps


class EventLog(AtSteps):
    """Write the logs and the learning rate as scalars into an event file, for `tensorboard --logdir`.

    `keras.callbacks.TensorBoard` needs the package `tensorboard` to write; this does not, only looking does. The
    horizontal axis is the number of training steps, so a resumed training goes on where it was. Under several
    workers the first writes. Put it behind callbacks that add to the logs.

    Args:
        directory: Where the files are; made if it does not exist.
        every_steps: After how many training steps the logs of the batch are written, as `batch_<name>`. Those of an
            epoch are written at its end.

    Raises:
        ValueError: If `every_steps` is less than 1; in training, if the number of batches of an epoch is not known.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[EventLog(directory)])
    >>> len(os.listdir(directory))
    1
    """

    def __init__(self, directory, every_steps=100):
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"`every_steps` must be at least 1. Received: every_steps={every_steps}")
        self.directory, self.every_steps, self._writer = os.fspath(directory), every_steps, None

    def on_train_begin(self, logs=None):
        """Open the file."""
        import tensorflow as tf

        if is_chief(self.model.distribute_strategy):
            self._writer = tf.summary.create_file_writer(self.directory)

    def is_due(self, before, now):
        """Whether a multiple of `every_steps` was passed."""
        return now // self.every_steps > before // self.every_steps

    def act(self, before, now, logs):
        """Write the logs of a batch."""
        self._write("batch_", logs)

    def on_epoch_end(self, epoch, logs=None):
        """Write the logs of the epoch."""
        self._write("", logs or {})
        if self._writer is not None:
            self._writer.flush()

    def on_train_end(self, logs=None):
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, prefix, logs):
        import tensorflow as tf

        if self._writer is None:
            return
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        metadata.data_class = 1  # DATA_CLASS_SCALAR
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        with self._writer.as_default():
            for name, value in {**logs, "learning_rate": rate}.items():
                if np.ndim(value) == 0:
                    scalar = tf.constant(float(value), "float32")
                    tf.summary.write(prefix + name, scalar, step=self.now, metadata=metadata)
