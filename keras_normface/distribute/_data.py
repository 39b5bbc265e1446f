"""Datasets of global batches from arrays, generators and `keras.utils.PyDataset`, all on every worker alike."""

import itertools
import math
from collections.abc import Iterator

import keras
import numpy as np

from keras_normface._labels import targets_called


def is_arrays(x):
    """Whether `x` is an array or tensor, or a list or dict of them."""
    import tensorflow as tf

    others = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset, Iterator)
    return not isinstance(x, others) and all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))


def from_arrays(arrays, rows, size, shuffle, seed):
    """Make the dataset of arrays."""
    import tensorflow as tf

    x, y, sample_weight = arrays
    packed = (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
    tensors = tf.nest.map_structure(as_tensor, _as_tuples(packed))
    indices = tf.data.Dataset.range(rows)
    if shuffle:
        indices = indices.shuffle(rows, seed=seed, reshuffle_each_iteration=True)
    batches = indices.batch(size).map(lambda rows: tf.nest.map_structure(lambda t: tf.gather(t, rows), tensors))
    return _sharded_by_rows(batches.prefetch(tf.data.AUTOTUNE))


def from_iterable(x, shuffle, seed):
    """Make the dataset from a dataset, `PyDataset` or generator → dataset, first batch or None."""
    import tensorflow as tf

    if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        return x, None
    if isinstance(x, keras.utils.PyDataset):
        return _from_generator(_py_dataset_epochs(x, shuffle, seed), x[0])
    if isinstance(x, Iterator):
        first = next(x)
        pending = [first]

        def rest():
            while pending:
                yield pending.pop()
            yield from x

        return _from_generator(rest, first)
    raise ValueError(
        "`x` must be arrays, a tf.data.Dataset, a keras.utils.PyDataset or a generator under a strategy. "
        f"Received: x of type {type(x).__name__}"
    )


def class_weighting(class_weight):
    """Return the function that gives each sample of a batch `(x, y)` its class's weight."""
    import tensorflow as tf

    size = max(class_weight) + 1
    table = tf.constant([class_weight.get(i, 1.0) for i in range(size)], keras.config.floatx())

    def weigh(*batch):
        x, y = batch[:2]
        labels = targets_called("labels", y)
        one_hot = len(labels.shape) > 1 and labels.shape[-1] != 1
        ids = tf.argmax(labels, axis=-1) if one_hot else tf.reshape(labels, [tf.shape(labels)[0]])
        ids = tf.cast(ids, "int32")
        known = ids < size
        return x, y, tf.where(known, tf.gather(table, tf.where(known, ids, 0)), tf.ones_like(table[:1]))

    return weigh


def _py_dataset_epochs(source, shuffle, seed):
    """The function that yields the batches of one more epoch each time it is called."""
    rng = np.random.default_rng(seed)

    def epoch():
        count = source.num_batches
        order = itertools.count() if count is None else range(count)
        if shuffle and count is not None:
            order = rng.permutation(count).tolist()
        return (source[i] for i in order)

    return epoch


def _from_generator(generate, first):
    import tensorflow as tf

    first = tf.nest.map_structure(as_tensor, _as_tuples(first))
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), first)

    def convert():
        for batch in generate():
            yield tf.nest.map_structure(as_tensor, _as_tuples(batch))

    return _sharded_by_rows(tf.data.Dataset.from_generator(convert, output_signature=spec)), first


def _sharded_by_rows(dataset):
    """Workers share such data by its rows: there are no files."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def as_tensor(array):
    """Array → tensor as in Keras: float64 becomes floatx, integers keep their type."""
    import tensorflow as tf

    tensor = tf.convert_to_tensor(array)
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype == tf.float64 else tensor


def _as_tuples(structure):
    """`tf.data` reads a list as one tensor, so lists become tuples."""
    if isinstance(structure, list | tuple):
        return tuple(_as_tuples(part) for part in structure)
    if isinstance(structure, dict):
        return {key: _as_tuples(part) for key, part in structure.items()}
    return structure


class Batches:
    """Global batches from arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator."""

    def __init__(
        self, x, y=None, sample_weight=None, *, batch_size=None, shuffle=False, seed=None, class_weight=None,
        steps=None,
    ):  # fmt: skip
        import tensorflow as tf

        if class_weight and sample_weight is not None:
            raise ValueError(
                "`class_weight` and `sample_weight` cannot be given together. "
                f"Received: class_weight={class_weight}, sample_weight of type {type(sample_weight).__name__}"
            )
        self.source, self.num_batches, self._first = x, None, None
        if is_arrays(x):
            rows, size = _rows((x, y, sample_weight)), batch_size or 32
            self.dataset = from_arrays((x, y, sample_weight), rows, size, shuffle, seed)
            self.num_batches = math.ceil(rows / size)
        elif y is not None or sample_weight is not None or batch_size is not None:
            raise ValueError(
                "`y`, `sample_weight` and `batch_size` go with arrays only; a dataset or generator yields "
                f"whole batches. Received: x of type {type(x).__name__}"
            )
        else:
            self.dataset, self._first = from_iterable(x, shuffle, seed)
            cardinality = self.dataset.cardinality() if isinstance(self.dataset, tf.data.Dataset) else -1
            self.num_batches = int(cardinality) if int(cardinality) >= 0 else None
        if class_weight:
            self.dataset = self.dataset.map(class_weighting(class_weight))
        if isinstance(x, keras.utils.PyDataset):
            self.num_batches = x.num_batches
        self.num_batches = steps or self.num_batches

    def distribute(self, strategy):
        """Return the dataset split over the replicas of `strategy`."""
        import tensorflow as tf

        if isinstance(self.dataset, tf.data.Dataset):
            return strategy.experimental_distribute_dataset(self.dataset)
        return self.dataset

    def first_row(self, strategy):
        """Return the first row of the first batch, on this process, as tensors of batch size 1."""
        import tensorflow as tf

        batch = next(iter(self.dataset)) if self._first is None else self._first
        batch = tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)
        return tf.nest.map_structure(lambda value: value[:1], batch)

    def end_epoch(self):
        """Tell a `PyDataset` that an epoch has ended."""
        if isinstance(self.source, keras.utils.PyDataset):
            self.source.on_epoch_end()


def split_validation(arrays, fraction):
    """Cut the last rows off for validation."""
    if not 0 < fraction < 1 or not is_arrays(arrays[0]):
        raise ValueError(
            "`validation_split` must be in (0, 1) and needs arrays. "
            f"Received: validation_split={fraction!r}, x of type {type(arrays[0]).__name__}"
        )
    rows = _rows(arrays)
    kept = math.floor(rows * (1 - fraction))
    if kept in (0, rows):
        raise ValueError(f"`validation_split={fraction}` leaves a part of the {rows} rows empty.")

    def cut(part):
        return keras.tree.map_structure(lambda array: None if array is None else np.asarray(array)[part], arrays)

    return cut(slice(None, kept)), cut(slice(kept, None))


def _rows(arrays):
    rows = {int(leaf.shape[0]) for leaf in keras.tree.flatten(arrays) if leaf is not None}
    if len(rows) != 1:
        raise ValueError(f"`x`, `y` and `sample_weight` must have the same number of rows. Received: {rows}")
    return rows.pop()
