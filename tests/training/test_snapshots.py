"""Weights kept at some steps, and their mean."""

import keras
import numpy as np
import pytest

from keras_normface import fit_resumable
from keras_normface.training import WeightSnapshots, average_snapshots
from tests.support import tiny

STEPS = [3, tiny.STEPS, tiny.STEPS + 2]


def train(directory, callbacks=(), seed=0, **model_arguments):
    keras.utils.set_random_seed(seed)
    net = tiny.model(**model_arguments)
    snapshots = WeightSnapshots(directory / "snapshots", STEPS)
    options = {"steps": STEPS[-1], "save_every": 4, "verbose": 0}
    fit_resumable(net, tiny.data(), None, directory, callbacks=[snapshots, *callbacks], **options)
    return net, snapshots


def weights_by_hand():
    """Weights at the steps, by Keras's own loop."""
    keras.utils.set_random_seed(0)
    net, now, found = tiny.model(), 0, []
    for step in STEPS:
        net.fit(tiny.data()(*divmod(now, tiny.STEPS)).take(step - now), shuffle=False, verbose=0)
        found.append(net.get_weights())
        now = step
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def test_the_mean_of_the_weights_at_the_steps_after_a_crash_too(tmp_path):
    with pytest.raises(tiny.Cut):
        train(tmp_path, [tiny.CutAt(5)])
    net, snapshots = train(tmp_path, seed=9)
    assert [path.name for path in snapshots.written()] == [f"step-{step:09d}.snapshot" for step in STEPS]
    at_steps = weights_by_hand()
    kept = [keras.ops.convert_to_numpy(v).copy() for v in net.optimizer.variables]
    for count in (1, 3):
        average_snapshots(net, snapshots.written()[:count])
        for ours, *theirs in zip(net.get_weights(), *at_steps[:count], strict=True):
            np.testing.assert_array_equal(ours, np.mean(np.float64(theirs), axis=0).astype("float32"))
    for before, variable in zip(kept, net.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), before)


def test_several_steps_in_one_execution_keep_the_first_position_past_a_step(tmp_path):
    _, snapshots = train(tmp_path, steps_per_execution=4)
    assert len(snapshots.written()) == 3
    assert not list((tmp_path / "snapshots").glob(".writing-*"))


def test_a_training_that_ends_within_an_execution_has_no_step_after_its_last(tmp_path):
    snapshots = WeightSnapshots(tmp_path / "snapshots", [6, 7, 8])
    net = tiny.model(steps_per_execution=4)
    fit_resumable(net, tiny.data(), None, tmp_path, steps=6, callbacks=[snapshots], verbose=0)
    assert int(keras.ops.convert_to_numpy(net.optimizer.iterations)) == 6
    assert [path.name for path in snapshots.written()] == ["step-000000006.snapshot"]


def test_a_full_disk_costs_a_snapshot_and_no_training(tmp_path, whole, monkeypatch):
    def full(path, *_):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("keras_normface.training._checkpoint.write_checkpoint", full)
        with pytest.warns(RuntimeWarning, match=r"No snapshot of step 3: .*step-000000003\.snapshot .*No space left"):
            net, snapshots = train(tmp_path / "full")
    assert snapshots.written() == []
    assert tiny.state(net) == tiny.state(whole[0])


def test_what_does_not_belong_together_is_refused_and_nothing_changed(tmp_path, whole):
    net, snapshots = whole
    other = tiny.model(units=9)
    before = other.get_weights()
    with pytest.raises(ValueError, match="of another model"):
        average_snapshots(other, snapshots.written())
    for ours, theirs in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    first, *_, last = snapshots.written()
    cut = tmp_path / last.name
    cut.write_bytes(last.read_bytes()[:-7])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        average_snapshots(net, [first, cut])
    with pytest.raises(ValueError, match="at least one snapshot"):
        average_snapshots(net, [])
    for steps in ([], [0, 3]):
        with pytest.raises(ValueError, match="`steps` must"):
            WeightSnapshots(tmp_path, steps)
