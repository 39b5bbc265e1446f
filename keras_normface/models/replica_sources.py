"""Datasets of global batches from arrays, generators and `keras.utils.PyDataset`, all on every worker alike."""

import itertools
from collections.abc import Iterator

import keras
import numpy as np


def is_arrays(x):
    """Whether `x` is an array or tensor, or a list or dict of them."""
    import tensorflow as tf

    others = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset, Iterator)
    return not isinstance(x, others) and all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))


def from_arrays(arrays, rows, size, shuffle, seed):
    """Make the dataset of arrays.

    Args:
        arrays: Tuple `(x, y, sample_weight)`; the latter two may be `None`.
        rows: Number of rows.
        size: Rows of a batch; the last one may be smaller.
        shuffle: Whether to shuffle the rows, anew each epoch.
        seed: Seed of the shuffle.

    Returns:
        A `tf.data.Dataset` of tuples.
    """
    import tensorflow as tf

    x, y, sample_weight = arrays
    packed = (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
    tensors = tf.nest.map_structure(_as_tensor, _as_tuples(packed))
    indices = tf.data.Dataset.range(rows)
    if shuffle:
        indices = indices.shuffle(rows, seed=seed, reshuffle_each_iteration=True)
    batches = indices.batch(size).map(lambda rows: tf.nest.map_structure(lambda t: tf.gather(t, rows), tensors))
    return _sharded_by_rows(batches.prefetch(tf.data.AUTOTUNE))


def from_iterable(x, shuffle, seed):
    """Make the dataset of anything that yields batches.

    Args:
        x: `tf.data.Dataset` or `tf.distribute.DistributedDataset`, which stay as they are, `PyDataset`, or
            Python generator.
        shuffle: Whether a `PyDataset` gives its batches in another order each epoch.
        seed: Seed of that order.

    Returns:
        `(dataset, first batch)`; the batch is `None` where the dataset can be read again for it.

    Raises:
        ValueError: If `x` is something else.
    """
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
        one_hot = len(y.shape) > 1 and y.shape[-1] != 1
        ids = tf.argmax(y, axis=-1) if one_hot else tf.reshape(y, [tf.shape(y)[0]])
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

    first = tf.nest.map_structure(_as_tensor, _as_tuples(first))
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), first)

    def convert():
        for batch in generate():
            yield tf.nest.map_structure(_as_tensor, _as_tuples(batch))

    return _sharded_by_rows(tf.data.Dataset.from_generator(convert, output_signature=spec)), first


def _sharded_by_rows(dataset):
    """Workers share such data by its rows: there are no files."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def _as_tensor(array):
    """Arrays as Keras hands them over: floats of other widths as floatx, integers as they are."""
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
