"""Training batches of arrays in memory, that can be entered at any step."""

import hashlib

import numpy as np

from keras_normface import _validation
from keras_normface.data._plans import check_position, evenly

HASHED_WHOLE = 1 << 26


class ArrayBatches:
    """Batches of arrays, in an order that differs by epoch, repeats by seed, and can be entered at any step.

    Nothing is computed for the steps that are skipped, except the permutation of the epoch.

    Args:
        x: Array `(samples, ...)`, or a nest of them (for several inputs).
        y: Like `x`.
        batch_size: Samples in a batch; with several replicas, in that of all of them.
        seed: Non-negative integer. The order and the augmentation follow from it.
        sample_weight: `None`, or weights `(samples,)`.
        augment: `None`, or a TensorFlow function `(x, y, seed) -> (x, y)` of a whole batch. Its seed is int32
            of shape `(2,)`, made for the `tf.random.stateless_*` functions, and follows from the seed, the
            epoch and the step alone. Other random numbers would not repeat after a resume.
        drop_remainder: Whether an incomplete last batch is dropped.

    Raises:
        ValueError: If lengths differ, or `batch_size` or `seed` do not fit.

    Example:
    >>> import numpy as np
    >>> data = ArrayBatches(np.arange(10.0), np.arange(10), batch_size=4, seed=7)
    >>> data.steps_per_epoch
    2
    >>> from_the_start = [y.numpy().tolist() for _, y in data(epoch=3, step=0)]
    >>> from_step_one = [y.numpy().tolist() for _, y in data(epoch=3, step=1)]
    >>> from_the_start[1:] == from_step_one
    True
    """

    def __init__(self, x, y, batch_size, seed, *, sample_weight=None, augment=None, drop_remainder=True):
        import keras

        arrays = (x, y) if sample_weight is None else (x, y, sample_weight)
        lengths = {len(array) for array in keras.tree.flatten(arrays)}
        if len(lengths) != 1:
            raise ValueError(f"`x`, `y` and `sample_weight` must be equally long. Received: lengths {lengths}")
        (self.samples,) = lengths
        _validation.integer("batch_size", batch_size, 1, self.samples)
        _validation.integer("seed", seed, 0)
        self.batch_size, self.seed = batch_size, seed
        self.augment, self.drop_remainder = augment, drop_remainder
        self.arrays = _on_the_host(arrays)

    @property
    def steps_per_epoch(self):
        """Number of batches in an epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return full + (1 if rest and not self.drop_remainder else 0)

    @property
    def fingerprint(self):
        """What makes them these data, a dictionary that JSON can hold; of arrays over 64 MiB, 1024 rows count."""
        import keras

        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "samples": self.samples,
            "steps_per_epoch": self.steps_per_epoch,
            "augment": None if self.augment is None else getattr(self.augment, "__qualname__", "a callable object"),
            "arrays_sha256": [_array_digest(array) for array in keras.tree.flatten(self.arrays)],
        }

    def __call__(self, epoch, step):
        """Return the rest of an epoch.

        Args:
            epoch: Which epoch, from 0.
            step: How many batches to skip at its beginning.

        Returns:
            A `tf.data.Dataset` of `steps_per_epoch - step` batches `(x, y)` or `(x, y, sample_weight)`.

        Raises:
            ValueError: If `epoch` or `step` is out of range.
        """
        import tensorflow as tf

        check_position(epoch, step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        rest = tf.data.Dataset.from_tensor_slices(order[step * self.batch_size :])
        rest = rest.batch(self.batch_size, drop_remainder=self.drop_remainder)
        rest = rest.map(self._gather, num_parallel_calls=tf.data.AUTOTUNE)
        if self.augment is not None:
            steps = tf.data.Dataset.range(step, self.steps_per_epoch)
            of_epoch = tf.random.fold_in([self.seed % 2**31, self.seed // 2**31 % 2**31], epoch)
            rest = tf.data.Dataset.zip((steps, rest)).map(
                lambda number, batch: self._augmented(tf.random.fold_in(of_epoch, number), batch),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        return rest.prefetch(tf.data.AUTOTUNE)

    def _gather(self, indices):
        import keras
        import tensorflow as tf

        return keras.tree.map_structure(lambda array: tf.gather(array, indices), self.arrays)

    def _augmented(self, seed, batch):
        import tensorflow as tf

        return (*self.augment(batch[0], batch[1], tf.cast(seed, "int32")), *batch[2:])


def _array_digest(array):
    """Checksum of dtype, shape and values of a tensor; of a large one, of evenly spaced rows."""
    import tensorflow as tf

    rows = array
    if array.dtype != tf.string and array.dtype.size * array.shape.num_elements() > HASHED_WHOLE:
        rows = tf.gather(array, evenly(len(array)))
    values = rows.numpy()
    content = repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(f"{array.dtype.name} {array.shape}\0".encode() + content).hexdigest()


def _on_the_host(arrays):
    import keras
    import tensorflow as tf

    with tf.device("CPU:0"):
        return keras.tree.map_structure(tf.convert_to_tensor, arrays)
