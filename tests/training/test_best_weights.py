"""People held out of training: the figure by hand, which weights are kept, when it stops, what a resume knows."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_normface import EmbeddingModel, MarginSoftmaxHead, fit_resumable
from keras_normface.data import ArrayBatches
from keras_normface.training import BestWeights, HeldOutResult
from tests.support import tiny

SIDE, PEOPLE = 3, 4
RNG = np.random.default_rng(1)
CENTRES = RNG.normal(size=(2 * PEOPLE, SIDE, SIDE, 3))


def images(people, each, seed):
    labels = np.repeat(people, each)
    noise = np.random.default_rng(seed).normal(size=(len(labels), SIDE, SIDE, 3))
    return (CENTRES[labels] + 0.9 * noise).astype("float32"), labels


TRAINED, HELD_OUT = images(np.arange(PEOPLE), 6, 0), images(np.arange(PEOPLE, 2 * PEOPLE), 4, 1)
STEPS = len(TRAINED[0]) // 4


def model(rate=0.2):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    net = EmbeddingModel(net, MarginSoftmaxHead(PEOPLE, scale=20.0))
    net.compile(keras.optimizers.SGD(rate))
    return net


def train(directory, steps=20, rate=0.2, callbacks=(), every_steps=4, patience=100):
    net = model(rate)
    best = BestWeights(*HELD_OUT, directory / "held_out", every_steps=every_steps, patience=patience)
    data = ArrayBatches(*TRAINED, batch_size=4, seed=2)
    options = {"steps": steps, "save_every": 3, "verbose": 0}
    history = fit_resumable(net, data, None, directory / "checkpoints", callbacks=[best, *callbacks], **options)
    return net, best, history


def by_hand(net, rows=HELD_OUT):
    """One image after another; the equal error rate by a search over all thresholds."""
    embed = lambda image: np.float64(keras.ops.convert_to_numpy(net(image[None]))[0])  # noqa: E731
    embeddings = [embed(image) + embed(image[:, ::-1]) for image in rows[0]]
    embeddings = [row / np.sqrt(row @ row) for row in embeddings]
    pairs = [(i, j) for i in range(len(embeddings)) for j in range(i)]
    cosines = np.array([embeddings[i] @ embeddings[j] for i, j in pairs])
    same = np.array([rows[1][i] == rows[1][j] for i, j in pairs])
    genuine, impostor = cosines[same], cosines[~same]
    rates = [(np.mean(impostor >= t), np.mean(genuine < t)) for t in np.sort(cosines)]
    return np.mean(min(rates, key=lambda pair: abs(pair[0] - pair[1])))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def test_each_look_is_that_of_the_weights_after_its_step(whole, tmp_path):
    _, best, _ = whole
    assert [result.step for result in best.results] == [0, 4, 8, 12, 16, 20]
    for result in (best.results[0], best.results[-1]):
        net = model() if result.step == 0 else whole[0]
        assert abs(result.eer - by_hand(net)) < 0.02  # the crossing lies between two points of the curve
    assert len({result.eer for result in best.results}) > 2


def test_the_best_weights_come_back_bit_for_bit(whole, tmp_path):
    net, best, _ = whole
    wanted = min(best.results, key=lambda result: (result.eer, result.step))
    assert best.restore(net) == wanted == best.best
    again = train(tmp_path, steps=wanted.step)[0] if wanted.step else model()
    for ours, theirs in zip(net.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_that_gets_worse_is_given_back_as_it_was_and_training_stops(tmp_path):
    net, best, history = train(tmp_path, steps=60, rate=80.0, patience=3)
    start = best.results[0]
    assert len(best.results) < 60 // 4
    if best.best == start:
        assert [result.step for result in best.results] == [0, 4, 8, 12]
    assert best.restore(net) == best.best
    last = best.results[-1 - 3 :]
    assert last[0] == best.best
    assert min(result.eer for result in last[1:]) >= last[0].eer
    assert len(history.epoch) < 60 // STEPS


def test_a_crash_between_two_looks_is_not_seen_in_the_end(whole, tmp_path):
    for step in (2, 9):
        with pytest.raises(tiny.Cut):
            train(tmp_path, callbacks=[tiny.CutAt(step)])
    net, best, _ = train(tmp_path)
    assert best.results == whole[1].results
    restored = best.restore(net)
    assert restored == whole[1].restore(whole[0])
    for ours, theirs in zip(net.get_weights(), whole[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_call_on_a_finished_training_knows_what_was_seen(tmp_path):
    _, first, _ = train(tmp_path)
    net, best, _ = train(tmp_path)
    assert best.results == first.results
    assert best.restore(net) == first.best


def test_a_look_that_the_checkpoint_does_not_know_is_made_again(tmp_path):
    train(tmp_path, steps=8)
    record = tmp_path / "held_out" / "held_out.json"
    content = json.loads(record.read_text())
    content["results"].append(dataclasses.asdict(HeldOutResult(400, 0.0)))
    record.write_text(json.dumps(content))
    assert [result.step for result in train(tmp_path, steps=12)[1].results] == [0, 4, 8, 12]


def test_the_log_has_both_figures_and_keras_callbacks_know_their_direction(tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append({name: value for name, value in logs.items() if name.startswith("val_")})

    train(tmp_path, steps=4, callbacks=[Watch()])
    assert [sorted(logs) for logs in seen] == [[], [], [], ["val_held_out_eer"]]


def test_of_equal_looks_the_first_is_kept(tmp_path):
    apart = np.eye(12, 27).reshape(12, SIDE, SIDE, 3).astype("float32")[np.repeat(np.arange(4), 3)]
    net = model(1e-3)
    best = BestWeights(apart, np.repeat(np.arange(4), 3), tmp_path, every_steps=2, patience=2, flip="none")
    net.fit(*TRAINED, batch_size=4, epochs=9, verbose=0, callbacks=[best])
    assert best.results == [HeldOutResult(0, 0.0), HeldOutResult(2, 0.0), HeldOutResult(4, 0.0)]
    net.set_weights([0 * weight for weight in net.get_weights()])
    assert best.restore(net).step == 0
    for ours, theirs in zip(net.get_weights(), model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"every_steps": 0}, "`every_steps`"),
        ({"patience": 0}, "`patience`"),
        ({"labels": [0, 0]}, "`labels`"),
        ({"labels": np.zeros(16, "int64")}, "`labels` must make a genuine and an impostor pair"),
        ({"labels": np.arange(16)}, "`labels` must make a genuine and an impostor pair"),
        ({"images": []}, "`images`"),
        ({"flip": "maximum"}, "`flip`"),
    ],
)
def test_what_does_not_fit_is_named(changes, argument, tmp_path):
    options = {"images": HELD_OUT[0], "labels": HELD_OUT[1], "every_steps": 1, "patience": 1, **changes}
    with pytest.raises(ValueError, match=argument):
        BestWeights(options.pop("images"), options.pop("labels"), tmp_path, **options)


LOOK = {"step": 0, "eer": 0.1}


@pytest.mark.parametrize(
    "results", ["none", [3], [{"step": 0}], [{**LOOK, "d": 1}], [{**LOOK, "step": -1}], [{**LOOK, "eer": 2.0}]]
)
def test_a_record_that_is_none_is_refused(results, tmp_path):
    content = {"format": "keras_normface.held_out", "version": 1, "results": results}
    (tmp_path / "held_out.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"held_out.json is not .*(`results`|`step`|`eer`)"):
        BestWeights(*HELD_OUT, tmp_path, every_steps=1, patience=1)
