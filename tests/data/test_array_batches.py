"""The order differs by epoch, repeats by seed, and can be entered anywhere."""

import keras
import numpy as np
import pytest

from keras_normface.data import ArrayBatches
from tests.support import tiny


def batches(data, epoch, step=0):
    return [[part.numpy() for part in batch] for batch in data(epoch, step)]


def order(data, epoch, step=0):
    return np.concatenate([y for _, y in batches(data, epoch, step)]).tolist()


def make(samples=10, batch_size=3, seed=0, **arguments):
    x = np.arange(2 * samples, dtype="float32").reshape(samples, 2)
    return ArrayBatches(x, np.arange(samples), batch_size, seed, **arguments)


def test_an_epoch_is_a_permutation_that_repeats_by_seed_and_differs_by_epoch():
    data = make(drop_remainder=False)
    assert sorted(order(data, 0)) == list(range(10))
    assert order(data, 0) == order(make(drop_remainder=False), 0)
    orders = [order(data, 0), order(data, 1), order(make(seed=1, drop_remainder=False), 0)]
    assert len({tuple(o) for o in orders}) == 3


@pytest.mark.parametrize("drop_remainder", [True, False])
@pytest.mark.parametrize("augment", [None, tiny.jitter])
def test_entering_at_a_step_is_skipping_the_steps_before(drop_remainder, augment):
    weight = np.linspace(1, 2, 10)
    data = make(sample_weight=weight, augment=augment, drop_remainder=drop_remainder)
    whole = batches(data, epoch=2)
    assert len(whole) == data.steps_per_epoch == (3 if drop_remainder else 4)
    for step in range(data.steps_per_epoch + 1):
        assert int(data(2, step).cardinality()) == data.steps_per_epoch - step
        for batch, expected in zip(batches(data, 2, step), whole[step:], strict=True):
            for part, same in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(part, same)
    for _, y, w in whole:
        np.testing.assert_array_equal(w, weight[y])


def test_the_seed_of_the_augmentation_differs_by_seed_epoch_and_step():
    seeds = []

    def record(x, y, seed):
        return keras.ops.zeros_like(x), keras.ops.broadcast_to(seed, (3, 2))

    for seed in (0, 1, 2**31 + 1, 2**40):
        data = make(seed=seed, augment=record)
        for epoch in range(2):
            seeds += [tuple(y[0].tolist()) for _, y in batches(data, epoch)]
    assert len(set(seeds)) == len(seeds) == 4 * 2 * 3


def test_what_is_skipped_is_not_augmented():
    calls = []

    def count(x, y, seed):
        import tensorflow as tf

        return tf.py_function(lambda x: calls.append(1) or x, [x], x.dtype), y

    batches(make(augment=count), 0, step=2)
    assert len(calls) == 1


def test_nests_of_arrays():
    data = ArrayBatches({"a": np.arange(4), "b": np.arange(4) * 10}, np.arange(4), 2, seed=0)
    for x, y in data(0, 0):
        np.testing.assert_array_equal(x["a"], y)
        np.testing.assert_array_equal(x["b"], y * 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 11}, "batch_size=11"),
        ({"seed": -1}, "seed=-1"),
        ({"sample_weight": np.ones(9)}, "length"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 4)])
def test_no_such_step(epoch, step):
    with pytest.raises(ValueError, match=f"epoch={epoch}, step={step}"):
        make()(epoch, step)
