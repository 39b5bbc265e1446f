"""A training that is cut and called again ends as if it had never been cut."""

import contextlib
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_normface import fit_resumable
from keras_normface._io import LockedError, locked
from keras_normface.data import ArrayBatches
from keras_normface.training import CheckpointStore
from tests.support import tiny

EPOCHS = 3
SAVE_EVERY = 4


def run(directory, cut_at=None, seed=0, data=None, epochs=EPOCHS, callbacks=(), validate=False, **model_arguments):
    keras.utils.set_random_seed(seed)
    net = tiny.model(**model_arguments)
    cut = [tiny.CutAt(cut_at)] if cut_at else []
    history = fit_resumable(
        net,
        data or tiny.data(),
        epochs,
        directory,
        save_every=SAVE_EVERY,
        callbacks=[*callbacks, *cut],
        validation_data=tiny.arrays(seed=1, samples=8) if validate else None,
        verbose=0,
    )
    return net, history


def assert_same_after_cuts(tmp_path, cuts, whole=None, **arguments):
    net, history = whole or run(tmp_path / "whole", **arguments)
    for cut in cuts:
        with pytest.raises(tiny.Cut):
            run(tmp_path / "cut", cut_at=cut, **arguments)
    resumed, resumed_history = run(tmp_path / "cut", seed=99, **arguments)
    assert tiny.state(resumed) == tiny.state(net)
    assert resumed_history.epoch == history.epoch
    assert resumed_history.history == history.history


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "cuts",
    [[7, 7, 7], *(pytest.param(cuts, marks=pytest.mark.slow) for cuts in ([5], [tiny.STEPS], [2 * tiny.STEPS + 7]))],
    ids=str,
)
def test_a_cut_run_ends_bit_for_bit_like_a_whole_one(tmp_path, whole, cuts):
    assert_same_after_cuts(tmp_path, cuts, whole)


def test_the_whole_run_is_what_fit_does(whole):
    keras.utils.set_random_seed(0)
    net, history = tiny.model(), []
    for epoch in range(EPOCHS):
        one = net.fit(tiny.data()(epoch, 0), epochs=1, shuffle=False, verbose=0)
        history.append(one.history["loss"][0])
    assert tiny.state(net) == tiny.state(whole[0])
    assert whole[1].history["loss"] == history


def test_a_cut_before_the_first_checkpoint_begins_anew(tmp_path, whole):
    with pytest.raises(tiny.Cut):
        run(tmp_path, cut_at=SAVE_EVERY - 1)
    assert list(tmp_path.iterdir()) == []
    assert tiny.state(run(tmp_path)[0]) == tiny.state(whole[0])


@pytest.mark.slow  # test_steps.py resumes with a validation, quickly
def test_with_validation(tmp_path):
    assert_same_after_cuts(tmp_path, [6], epochs=2, validate=True)


@pytest.mark.slow
def test_under_xla(tmp_path):
    assert_same_after_cuts(tmp_path, [6], epochs=1, jit_compile=True)


@pytest.mark.slow
def test_several_steps_in_one_execution(tmp_path):
    assert_same_after_cuts(tmp_path, [3], epochs=2, steps_per_execution=2)


@pytest.mark.slow
def test_averaged_weights_replace_the_weights_only_at_the_very_end(tmp_path):
    def averaging():
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)

    net, _ = run(tmp_path / "whole", optimizer=averaging())
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", cut_at=tiny.STEPS + 6, optimizer=averaging())
    resumed, _ = run(tmp_path / "cut", optimizer=averaging())
    assert tiny.state(resumed) == tiny.state(net)
    saved = CheckpointStore(tmp_path / "whole").latest()
    assert not np.array_equal(saved.arrays[0], net.weights[0].numpy())
    assert net.optimizer.use_ema


@pytest.mark.slow
def test_loss_scale_of_mixed_precision(tmp_path):
    def scaled():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=3)

    net, _ = run(tmp_path / "whole", optimizer=scaled())
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", cut_at=9, optimizer=scaled())
    assert tiny.state(run(tmp_path / "cut", optimizer=scaled())[0]) == tiny.state(net)


def test_a_complete_run_is_restored_and_more_epochs_go_on(tmp_path, whole):
    run(tmp_path, epochs=2)
    seen = Seen()
    net, history = run(tmp_path, callbacks=[seen])
    assert tiny.state(net) == tiny.state(whole[0])
    assert seen.steps[0] == (2, 0)
    restored, history = run(tmp_path, seed=5, cut_at=1)
    assert tiny.state(restored) == tiny.state(whole[0])
    assert history.history["loss"] == whole[1].history["loss"]


class Seen(keras.callbacks.Callback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.steps, self.hooks, self.stop_at = [], [], stop_at

    def on_train_begin(self, logs=None):
        self.hooks.append("begin")

    def on_train_end(self, logs=None):
        self.hooks.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((self.epoch, batch))
        if self.stop_at == (self.epoch, batch):
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        logs["mine"] = 10.0 * epoch
        assert self.params["epochs"] == EPOCHS
        if self.stop_at == (epoch, None):
            self.model.stop_training = True


@pytest.mark.slow
def test_callbacks_see_one_training_with_true_numbers(tmp_path):
    with pytest.raises(tiny.Cut):
        run(tmp_path, cut_at=tiny.STEPS + 6, callbacks=[Seen()])
    seen = Seen()
    _, history = run(tmp_path, callbacks=[seen])
    assert seen.hooks == ["begin", "end"]
    expected = [(1, step) for step in range(4, tiny.STEPS)] + [(2, step) for step in range(tiny.STEPS)]
    assert seen.steps == expected
    assert history.history["mine"] == [0, 10, 20]


def test_a_run_that_a_callback_stopped_stays_stopped(tmp_path):
    run(tmp_path, callbacks=[Seen(stop_at=(1, None))])
    seen = Seen()
    _, history = run(tmp_path, callbacks=[seen])
    assert history.epoch == [0, 1]
    assert seen.steps == []


def test_a_stop_within_an_epoch_is_not_taken_for_its_end(tmp_path, whole):
    run(tmp_path, callbacks=[Seen(stop_at=(1, 6))])
    seen = Seen()
    net, _ = run(tmp_path, callbacks=[seen])
    assert seen.steps[0] == (1, 4)
    assert tiny.state(net) == tiny.state(whole[0])


class OfUnknownLength:
    """As a reader of files: a dataset that does not know its length, and a callable that may."""

    def __init__(self, steps_per_epoch, repeat=False):
        self.of, self.steps_per_epoch, self.repeat = tiny.data(), steps_per_epoch, repeat

    def __call__(self, epoch, step):
        rest = self.of(epoch, step)
        return rest.repeat() if self.repeat else rest.filter(lambda *_: True)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [False, True])
def test_steps_per_epoch_stands_in_for_a_length(tmp_path, whole, repeat):
    data = OfUnknownLength(tiny.STEPS, repeat)
    assert_same_after_cuts(tmp_path, [9], whole, data=data)


def test_unknown_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="steps_per_epoch"):
        run(tmp_path, data=OfUnknownLength(None))


@pytest.mark.slow
def test_several_inputs_in_a_subclassed_model_that_is_not_built(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Sum(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.dropout = keras.layers.Dense(1), keras.layers.Dropout(0.5)

        def call(self, inputs, training=None):
            return self.dense(self.dropout(inputs["a"] + inputs["b"], training=training))

    def train(directory, cut_at=None):
        keras.utils.set_random_seed(1)
        net = Sum()
        net.compile("rmsprop", "mse", jit_compile=False)
        a, b = np.random.default_rng(0).normal(size=(2, 12, 3)).astype("float32")
        data = ArrayBatches({"a": a, "b": b}, a[:, 0], 2, seed=0, sample_weight=np.arange(12.0))
        cut = [tiny.CutAt(cut_at)] if cut_at else []
        fit_resumable(net, data, 2, directory, save_every=2, callbacks=cut, verbose=0)
        return tiny.state(net)

    whole = train(tmp_path / "whole")
    with pytest.raises(tiny.Cut):
        train(tmp_path / "cut", cut_at=5)
    assert train(tmp_path / "cut") == whole


def test_another_model_is_refused_by_name(tmp_path):
    run(tmp_path, epochs=1, data=batches(samples=8))
    with pytest.raises(ValueError, match=r"(?s)epoch-000001.*another model.*variable 0.*\(5, 8\).*\(5, 9\)"):
        run(tmp_path, units=9, data=batches(samples=8))
    with pytest.raises(ValueError, match=r"optimizer variable \d.*model has"):
        run(tmp_path, optimizer=keras.optimizers.SGD(0.1, momentum=0.9), data=batches(samples=8))


def test_other_metrics_are_refused_only_within_an_epoch(tmp_path):
    with pytest.raises(tiny.Cut):
        run(tmp_path, cut_at=6)
    with pytest.raises(ValueError, match="metrics variable"):
        run(tmp_path, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)])


@pytest.mark.parametrize("arguments", [{"save_every": 0}, {"keep": 0}])
def test_bad_arguments(tmp_path, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        fit_resumable(tiny.model(), tiny.data(), 1, tmp_path, **arguments)


def test_a_model_that_is_not_compiled(tmp_path):
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="compiled"):
        fit_resumable(net, tiny.data(), 1, tmp_path)


def test_a_full_disk_ends_no_training_and_loses_nothing(tmp_path, whole, monkeypatch):
    with pytest.raises(tiny.Cut):
        run(tmp_path, cut_at=6)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(RuntimeWarning, match="No space left"):
            net, _ = run(tmp_path)
    assert tiny.state(net) == tiny.state(whole[0])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def plain():
    """Without what costs time to compile, where it is the data that count."""
    net = keras.Sequential([keras.Input((tiny.FEATURES,)), keras.layers.Dense(tiny.CLASSES)])
    net.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    return net


def batches(seed=3, batch_size=4, samples=24, arrays_seed=0, augment=None):
    return ArrayBatches(*tiny.arrays(arrays_seed, samples), batch_size, seed, augment=augment)


@pytest.mark.parametrize(
    ("cut", "change", "message"),
    [
        (None, {"seed": 4}, "seed: there 3, here 4"),
        (4, {"batch_size": 8}, "batch_size: there 4, here 8; steps_per_epoch: there 6, here 3"),
        (None, {"samples": 20}, "samples: there 24, here 20"),
        (None, {"arrays_seed": 1}, "arrays_sha256"),
        (4, {"augment": tiny.jitter}, "augment: there None, here 'jitter'"),
    ],
)
def test_other_data_are_refused_unless_one_insists(tmp_path, cut, change, message):
    with contextlib.nullcontext() if cut is None else pytest.raises(tiny.Cut):
        callbacks = [] if cut is None else [tiny.CutAt(cut + 1)]
        fit_resumable(plain(), batches(), 1, tmp_path, save_every=SAVE_EVERY, callbacks=callbacks, verbose=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    net, other = plain(), batches(**change)
    with pytest.raises(ValueError, match=f"other data.*{message}.*allow_other_data"):
        fit_resumable(net, other, 2, tmp_path, verbose=0)
    assert int(keras.ops.convert_to_numpy(net.optimizer.iterations)) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    history = fit_resumable(net, other, 2, tmp_path, verbose=0, allow_other_data=True)
    done = 6 + other.steps_per_epoch if cut is None else 4 + 2 * other.steps_per_epoch
    assert history.epoch == [0, 1]
    assert int(keras.ops.convert_to_numpy(net.optimizer.iterations)) == done
    fit_resumable(plain(), other, 2, tmp_path, verbose=0)  # these are its data now


def test_other_data_of_ones_own_are_refused_by_what_can_be_seen(tmp_path):
    inner = batches()
    fit_resumable(plain(), lambda epoch, step: inner(epoch, step), 1, tmp_path, verbose=0)
    other = batches(batch_size=3)
    with pytest.raises(ValueError, match=r"steps_per_epoch: there 6, here 8; batch: .*\(4, 5\).*\(3, 5\)"):
        fit_resumable(plain(), lambda epoch, step: other(epoch, step), 2, tmp_path, verbose=0)
    inner.__class__ = type("Own", (ArrayBatches,), {"fingerprint": {"seed": (1, 2)}})
    fit_resumable(plain(), inner, 2, tmp_path / "own", verbose=0)
    fit_resumable(plain(), inner, 2, tmp_path / "own", verbose=0)


def test_the_fingerprint_of_arrays():
    ours = batches().fingerprint
    assert ours == batches().fingerprint
    assert ours == json.loads(json.dumps(ours))
    x, y = np.arange(6.0), np.array(["a", "b", "c", "d", "e", "f"])
    texts = [ArrayBatches(x, labels, 2, 0).fingerprint for labels in (y, y[::-1].copy())]
    assert texts[0]["arrays_sha256"][0] == texts[1]["arrays_sha256"][0]
    assert texts[0]["arrays_sha256"][1] != texts[1]["arrays_sha256"][1]


def test_two_trainings_in_one_directory_are_refused_and_leave_each_other_alone(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".writing-epoch-000000-step-000000004.ckpt-1").touch()
        with pytest.raises(ValueError, match=f"in use by another run: process {os.getpid()} on host .*since 20"):
            fit_resumable(plain(), tiny.data(), 1, tmp_path, verbose=0)
        net = plain()
        net.optimizer.build(net.trainable_variables)
        CheckpointStore(tmp_path).save(net, 0, 1)
        assert (tmp_path / ".writing-epoch-000000-step-000000004.ckpt-1").exists()
    (tmp_path / "epoch-000000-step-000000001.ckpt").unlink()
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.extend(path.name for path in tmp_path.iterdir())
    )
    fit_resumable(plain(), tiny.data(), 1, tmp_path, verbose=0, callbacks=[look])
    assert seen == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == [f"epoch-000001-step-{0:09d}.ckpt"]


HOLDS_THE_LOCK = """
import sys, time
from keras_normface._io import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDS_THE_LOCK, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(LockedError, match=f"process {process.pid} on host"), locked(tmp_path):
            pass
        process.kill()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path), pytest.raises(LockedError, match=f"process {os.getpid()} "), locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_data_without_a_batch(tmp_path):
    with pytest.raises(ValueError, match="no batch"):
        fit_resumable(plain(), lambda *_: tf.data.Dataset.range(0), 1, tmp_path)


def test_a_model_that_fit_would_build_is_built_in_the_scope_of_its_strategy(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        net = keras.Sequential([keras.layers.Dense(tiny.CLASSES)])
        net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit_resumable(net, ArrayBatches(*tiny.arrays(samples=8), 4, seed=0), 1, tmp_path, verbose=0)
    assert int(keras.ops.convert_to_numpy(net.optimizer.iterations)) == 2
    assert isinstance(net.weights[0].value, tf.distribute.DistributedValues)


def test_what_was_trained_on_other_data_after_one_insisted_is_resumed(tmp_path):
    with pytest.raises(tiny.Cut):
        fit_resumable(plain(), batches(), 1, tmp_path, save_every=1, verbose=0, callbacks=[tiny.CutAt(5)])
    options = {"save_every": 1, "verbose": 0, "allow_other_data": True}
    with pytest.raises(tiny.Cut):
        fit_resumable(plain(), batches(seed=4), 1, tmp_path, callbacks=[tiny.CutAt(3)], **options)
    saved = CheckpointStore(tmp_path).latest()
    assert (saved.epoch, saved.step, saved.extra["data"]["seed"]) == (0, 2, 4)
    net = plain()
    fit_resumable(net, batches(seed=4), 1, tmp_path, save_every=1, verbose=0)
    assert int(keras.ops.convert_to_numpy(net.optimizer.iterations)) == 4 + 6


def test_a_checkpoint_of_a_loop_of_ones_own_is_resumed_if_one_insists(tmp_path):
    net = plain()
    net.optimizer.build(net.trainable_variables)
    CheckpointStore(tmp_path).save(net, 0, 1)
    with pytest.raises(ValueError, match="does not record its data"):
        fit_resumable(plain(), batches(), 2, tmp_path, verbose=0)
    assert fit_resumable(plain(), batches(), 2, tmp_path, verbose=0, allow_other_data=True).epoch == [0, 1]
