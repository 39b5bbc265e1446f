"""Checkpoints are complete or not there, and a corrupt one is skipped."""

import hashlib
import json
import os
import re

import keras
import ml_dtypes
import numpy as np
import pytest

from keras_normface.training import CheckpointStore
from keras_normface.training._checkpoint import CorruptCheckpointError, read_checkpoint, write_checkpoint
from tests.support import tiny


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    net = tiny.model()
    net.optimizer.build(net.trainable_variables)
    return net


ARRAYS = [
    np.arange(6, dtype="float32").reshape(2, 3),
    np.array(7, "int64"),
    np.zeros((0, 4), "float32"),
    np.arange(3).astype(ml_dtypes.bfloat16),
    np.arange(12, dtype="float64").reshape(3, 4).T,
    np.array([True, False]),
]


def test_a_file_gives_back_what_was_written(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", {"step": 3}, ARRAYS)
    header, arrays = read_checkpoint(tmp_path / "a.ckpt")
    assert header == {"step": 3}
    for array, back in zip(ARRAYS, arrays, strict=True):
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_every_damage_is_seen(tmp_path):
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"step": 3}, ARRAYS)
    good = path.read_bytes()
    damaged = [good[:length] for length in range(0, len(good), 13)] + [good + b"\0"]
    flipped = range(0, len(good), 7)
    damaged += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in flipped]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CorruptCheckpointError, match=r"a\.ckpt"):
            read_checkpoint(path)


def with_header(text, data=b""):
    """A checkpoint with the right sum and this header."""
    body = b"KNFCKPT1" + len(text).to_bytes(8, "little") + text + data
    return body + hashlib.sha256(body).digest()


SOUND = {"epoch": 0, "step": 3, "entries": [{"group": "model", "path": "a"}], "extra": {}}
ARRAY = {"dtype": "float32", "shape": [2]}


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'"text"',
        *(
            json.dumps({**SOUND, "arrays": [ARRAY], **change}).encode()
            for change in (
                *({"arrays": arrays} for arrays in (None, 3, {}, [], [3], [{}], [ARRAY, ARRAY])),
                *({"arrays": [{**ARRAY, "dtype": dtype}]} for dtype in ("nothing", "object", 3, None, "float64", "U2")),
                *({"arrays": [{**ARRAY, "shape": shape}]} for shape in (2, [-2], [1], [2**40, 2**40], ["2"], [2.0])),
                {"epoch": -1},
                {"step": "3"},
                {"step": True},
                {"extra": []},
                {"entries": []},
                {"entries": [{"group": "model"}]},
                {"entries": ["model"]},
                {"more": 1},
            )
        ),
        json.dumps({**{key: SOUND[key] for key in ("epoch", "entries", "extra")}, "arrays": [ARRAY]}).encode(),
    ],
)
def test_a_bad_header_with_the_right_sum_is_one_line_that_names_the_file(tmp_path, text):
    path = tmp_path / "epoch-000000-step-000000003.ckpt"
    path.write_bytes(with_header(json.dumps({**SOUND, "arrays": [ARRAY]}).encode(), bytes(8)))
    assert CheckpointStore(tmp_path).latest().step == 3
    path.write_bytes(with_header(text, bytes(8)))
    with pytest.raises(CorruptCheckpointError, match=r"step-000000003\.ckpt is not a valid checkpoint") as caught:
        read_checkpoint(path, *SOUND)
    assert "\n" not in str(caught.value)
    with pytest.warns(RuntimeWarning, match="Skipped a checkpoint"), pytest.raises(ValueError, match="All checkpoints"):
        CheckpointStore(tmp_path).latest()


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, fails):
    write_checkpoint(tmp_path / "a.ckpt", {"step": 3}, ARRAYS)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if fails == "write":
        monkeypatch.setattr("keras_normface.training._checkpoint._bytes_of", full)
    else:
        monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "a.ckpt", {"step": 4}, ARRAYS)
    assert read_checkpoint(tmp_path / "a.ckpt")[0] == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    beside = tmp_path / f".writing-a.ckpt-{os.getpid()}"
    beside.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "a.ckpt", {}, [np.zeros(10**6)])
    assert list(tmp_path.iterdir()) == []


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_last_few_are_kept_in_the_order_of_training(tmp_path, net):
    checkpoints = CheckpointStore(tmp_path, keep=2)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".writing-of-a-killed-process").touch()
    os.utime(tmp_path / ".writing-of-a-killed-process", (0, 0))
    (tmp_path / ".writing-of-another-process").touch()
    for epoch, step in [(0, 9), (0, 10), (1, 0), (10, 0)]:
        checkpoints.save(net, epoch, step)
    kept = ["epoch-000001-step-000000000.ckpt", "epoch-000010-step-000000000.ckpt"]
    assert names(tmp_path) == [".writing-of-another-process", *kept, "notes.txt"]
    assert checkpoints.latest().epoch == 10


def test_none_yet(tmp_path):
    assert CheckpointStore(tmp_path / "new").latest() is None


def test_damaged_ones_are_passed_over_and_named(tmp_path, net):
    checkpoints = CheckpointStore(tmp_path)
    paths = [checkpoints.save(net, 0, step) for step in (1, 2, 3)]
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    paths[1].write_bytes(b"")
    with pytest.warns(RuntimeWarning) as seen:
        saved = checkpoints.latest()
    assert saved.step == 1
    assert [paths[2].name in str(seen[0].message), paths[1].name in str(seen[1].message)] == [True, True]
    paths[0].write_bytes(b"KNFCKPT1")
    with (
        pytest.warns(RuntimeWarning, match="Skipped a checkpoint"),
        pytest.raises(ValueError, match=r"All .*step-000000003"),
    ):
        checkpoints.latest()


def test_a_damaged_later_one_never_pushes_out_a_good_one(tmp_path, net):
    checkpoints = CheckpointStore(tmp_path, keep=1)
    checkpoints.save(net, 0, 9).write_bytes(b"damaged")
    for step in (4, 6):
        checkpoints.save(net, 0, step)
        with pytest.warns(RuntimeWarning, match="step-000000009"):
            assert checkpoints.latest().step == step


def test_what_is_not_finite_is_not_saved(tmp_path):
    net = tiny.model()
    net.optimizer.build(net.trainable_variables)
    checkpoints = CheckpointStore(tmp_path)
    checkpoints.save(net, 0, 1)
    before = names(tmp_path)
    variable = net.layers[1].moving_variance
    variable.assign(np.full(variable.shape, np.inf))
    with pytest.warns(RuntimeWarning, match=r"moving_variance.*not finite"):
        assert checkpoints.save(net, 0, 2) is None
    assert names(tmp_path) == before


def change_units():
    return tiny.model(units=9)


def add_layer():
    net = tiny.model()
    bigger = keras.Sequential([keras.Input((5,)), *net.layers, keras.layers.Dense(2)])
    bigger.compile("adam", "mse")
    return bigger


def change_dtype():
    net = keras.models.clone_model(
        tiny.model(), clone_function=lambda layer: type(layer)(**{**layer.get_config(), "dtype": "float64"})
    )
    net.compile("adam", "mse")
    return net


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (change_units, r"model variable 0: .*dense_?\d*/kernel` \(5, 8\) float32, .*\(5, 9\) float32"),
        (add_layer, r"model variable \d+: the checkpoint has .*, the model has `.*dense.*` \(3, 2\)"),
        (change_dtype, r"variable 0: .*float32, the model has .*float64"),
    ],
)
def test_the_first_difference_to_another_model_is_named(tmp_path, net, other, message):
    CheckpointStore(tmp_path).save(net, 0, 1)
    another = other()
    another.optimizer.build(another.trainable_variables)
    before = tiny.state(another)
    with pytest.raises(ValueError, match=message) as error:
        CheckpointStore(tmp_path).latest().restore(another)
    assert re.search("epoch-000000-step-000000001.ckpt", str(error.value))
    assert tiny.state(another) == before


def test_the_dropout_seed_is_in_it(tmp_path, net):
    seed = net.layers[2].seed_generator.state
    seed.assign([5, 17])
    CheckpointStore(tmp_path).save(net, 0, 1)
    seed.assign([0, 0])
    CheckpointStore(tmp_path).latest().restore(net)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(seed), [5, 17])
