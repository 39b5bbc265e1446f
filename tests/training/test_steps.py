"""Training that ends at a number of steps, in the middle of an epoch too."""

import functools
import shutil

import keras
import numpy as np
import pytest

from keras_normface import fit_resumable
from keras_normface.training._callbacks import AtSteps
from tests.support import tiny

LENGTH = tiny.STEPS
SOME = LENGTH + 5


def run(directory, steps, epochs=None, seed=0, validate=False, **arguments):
    keras.utils.set_random_seed(seed)
    seen = Seen()
    net = tiny.model(**arguments.pop("model", {}))
    validation = tiny.arrays(seed=1, samples=8) if validate else None
    callbacks = [seen, *arguments.pop("callbacks", ())]
    options = {"save_every": 4, "verbose": 0, "validation_data": validation, **arguments}
    history = fit_resumable(net, tiny.data(), epochs, directory, steps=steps, callbacks=callbacks, **options)
    return net, history, seen


class Seen(keras.callbacks.Callback):
    """What a callback sees."""

    def __init__(self):
        super().__init__()
        self.steps, self.lengths, self.epochs = [], set(), []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((self.epochs[-1], batch))
        self.lengths.add(self.params["steps"])


@functools.cache
def by_hand(steps):
    """The model after so many steps of Keras's own loop."""
    keras.utils.set_random_seed(0)
    net, epoch = tiny.model(), 0
    while steps:
        part = tiny.data()(epoch, 0).take(min(steps, LENGTH))
        net.fit(part, shuffle=False, verbose=0)
        epoch, steps = epoch + 1, steps - min(steps, LENGTH)
    return net


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory, and what `run` left there."""
    path = tmp_path_factory.mktemp("whole")
    return path, *run(path, SOME)


@pytest.mark.parametrize("steps", [LENGTH, SOME])
def test_it_ends_at_the_step_and_is_not_trained_on(tmp_path, steps):
    net, history, seen = run(tmp_path, steps)
    assert len(seen.steps) == int(net.optimizer.iterations) == steps
    assert seen.steps == [divmod(step, LENGTH) for step in range(steps)]
    assert seen.lengths == {LENGTH}
    assert tiny.state(net) == tiny.state(by_hand(steps))
    again, history_again, seen = run(tmp_path, steps, seed=9)
    assert seen.steps == []
    assert tiny.state(again) == tiny.state(net)
    assert history_again.history == history.history
    assert history_again.epoch == history.epoch == list(range(-(-steps // LENGTH)))


def test_fewer_steps_than_were_trained_leave_all_as_it_is(tmp_path, whole):
    path, net, *_ = whole
    shutil.copytree(path, tmp_path / "again")
    again, _, seen = run(tmp_path / "again", 3)
    assert seen.steps == []
    assert tiny.state(again) == tiny.state(net)


def test_more_steps_go_on_as_if_it_had_never_ended(tmp_path):
    validate = True  # a validation resets the metrics that go on
    whole, history, _ = run(tmp_path / "whole", 2 * LENGTH + 2, validate=validate)
    for steps in (4, SOME):
        run(tmp_path / "parts", steps, validate=validate)
    net, parts, seen = run(tmp_path / "parts", 2 * LENGTH + 2, seed=9, validate=validate)
    assert seen.steps[0] == (1, 5)
    assert tiny.state(net) == tiny.state(whole)
    assert parts.epoch == history.epoch == [0, 1, 2]
    assert parts.history == history.history


def test_a_cut_run_ends_like_a_whole_one(tmp_path, whole):
    _, uncut, history, _ = whole
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", SOME, callbacks=[tiny.CutAt(LENGTH + 3)])
    net, cut_history, _ = run(tmp_path / "cut", SOME, seed=9)
    assert tiny.state(net) == tiny.state(uncut)
    assert cut_history.history == history.history


def test_epochs_end_it_where_they_are_fewer(tmp_path):
    _, history, seen = run(tmp_path, SOME, epochs=1)
    assert len(seen.steps) == LENGTH
    assert history.epoch == [0]


def test_several_steps_in_one_execution_are_cut_at_the_end(tmp_path):
    net, _, _ = run(tmp_path, SOME, model={"steps_per_execution": 3})
    assert int(net.optimizer.iterations) == SOME
    for ours, theirs in zip(net.weights, by_hand(SOME).weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), atol=1e-6)


@pytest.mark.parametrize(("epochs", "steps"), [(None, None), (2, 0), (None, -1)])
def test_an_end_must_be_given(tmp_path, epochs, steps):
    with pytest.raises(ValueError, match=f"Received: epochs={epochs}, steps={steps}"):
        run(tmp_path, steps, epochs)


def test_steps_are_counted_to_the_end_of_the_epoch_and_no_further(tmp_path):
    # Three steps at once, of eleven: Keras calls the last execution, of two, step 11 of 0 to 10.
    seen = []

    class Note(AtSteps):
        def is_due(self, before, now):
            seen.append((before, now))
            return False

    tiny.model(steps_per_execution=3).fit(tiny.data()(0, 0), epochs=2, shuffle=False, verbose=0, callbacks=[Note()])
    first = [(0, 3), (3, 6), (6, 9), (9, 11)]
    assert seen == first + [(before + 11, now + 11) for before, now in first]
