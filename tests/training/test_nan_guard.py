"""Training stops at the first number that is not finite, and says which, when and where."""

import keras
import numpy as np
import pytest

from keras_normface import fit_resumable
from keras_normface.data import ArrayBatches
from keras_normface.training import CheckpointStore, NanGuard
from tests.support import tiny


class Break(keras.callbacks.Callback):
    """Put a NaN into a variable before a step."""

    def __init__(self, find, at):
        super().__init__()
        self.find, self.at = find, at

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            variable = self.find(self.model)
            variable.assign(np.full(variable.shape, np.nan))


def fit(tmp_path, *callbacks, data=None):
    keras.utils.set_random_seed(0)
    return fit_resumable(tiny.model(), data or tiny.data(), 3, tmp_path, save_every=4, callbacks=callbacks, verbose=0)


def test_a_loss_is_named_with_epoch_and_step_and_the_checkpoint_stays(tmp_path):
    x, y = tiny.arrays()
    bad = ArrayBatches(x, y, tiny.BATCH, seed=3)
    row = np.concatenate([labels.numpy() * 0 + k for k, (_, labels) in enumerate(bad(0, 0))])
    order = np.random.default_rng([3, 0]).permutation(tiny.SAMPLES)
    x[order[np.flatnonzero(row == 6)[0]]] = np.inf
    with pytest.raises(FloatingPointError, match="after step 6 of epoch 0: loss"):
        fit(tmp_path, NanGuard(), data=ArrayBatches(x, y, tiny.BATCH, seed=3))
    assert (CheckpointStore(tmp_path).latest().epoch, CheckpointStore(tmp_path).latest().step) == (0, 4)


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (lambda net: net.layers[1].moving_mean, "moving_mean"),
        (lambda net: net.optimizer.variables[-1], "kernel|bias|velocity"),
    ],
)
def test_a_broken_variable_is_named_though_the_loss_is_finite(tmp_path, find, name):
    with pytest.raises(FloatingPointError, match=f"after step 2 of epoch 1: `.*({name})") as error:
        fit(tmp_path, Break(find, (1, 2)), NanGuard())
    assert "loss" not in str(error.value)
    latest = CheckpointStore(tmp_path).latest()
    assert (latest.epoch, latest.step) == (1, 0)


def test_every_so_many_steps_and_at_the_end_of_the_epoch(tmp_path):
    def moving_mean(net):
        return net.layers[1].moving_mean

    with pytest.raises(FloatingPointError, match="after step 7 of epoch 0"):
        fit(tmp_path / "a", Break(moving_mean, (0, 5)), NanGuard(every_steps=8))
    with pytest.raises(FloatingPointError, match="after step 10 of epoch 0"):
        fit(tmp_path / "b", Break(moving_mean, (0, 9)), NanGuard(every_steps=8))


def test_without_a_guard_nothing_broken_is_saved(tmp_path):
    with pytest.warns(RuntimeWarning, match="not finite"):
        fit(tmp_path, Break(lambda net: net.trainable_variables[0], (1, 2)))
    latest = CheckpointStore(tmp_path).latest()
    assert (latest.epoch, latest.step) == (1, 0)


def test_a_gradient_that_is_not_finite_shows_in_the_weight():
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    net.compile("sgd", lambda y, p: keras.ops.sqrt(keras.ops.abs(p)), jit_compile=False)
    net.layers[0].kernel.assign(np.zeros((2, 1)))
    with pytest.raises(FloatingPointError, match=r"step 0 of epoch 0: `.*kernel`"):
        net.fit(np.ones((2, 2)), np.ones(2), verbose=0, callbacks=[NanGuard()])


def test_bad_argument():
    with pytest.raises(ValueError, match="every_steps=0"):
        NanGuard(every_steps=0)
