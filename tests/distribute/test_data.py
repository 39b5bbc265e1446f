"""What the replicas are fed: in this process, without a strategy."""

import numpy as np
import pytest

from keras_normface.distribute._data import Batches, split_validation
from tests.support.scenario_parts import Parts

X, Y = np.arange(10.0).reshape(5, 2), np.arange(5)


def read(batches):
    """The batches of an epoch, as NumPy arrays."""
    return [tuple(np.asarray(part) for part in batch) for batch in batches.dataset]


def parts(count=8):
    return Parts([(np.full((2, 1), i), np.full(2, i)) for i in range(count)])


def order(batches):
    return [int(batch[1][0]) for batch in read(batches)]


def test_arrays_are_cut_in_order():
    batches = Batches(X, Y, batch_size=2)
    assert batches.num_batches == 3
    assert [batch[1].tolist() for batch in read(batches)] == [[0, 1], [2, 3], [4]]
    assert read(batches)[0][0].dtype == "float32"


def test_arrays_are_shuffled_anew_each_epoch_and_alike_with_one_seed():
    epochs = []
    for _ in range(2):
        batches = Batches(np.arange(40.0), batch_size=40, shuffle=True, seed=3)
        epochs.append([read(batches)[0][0].tolist() for _ in range(2)])
    first, second = epochs[0]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert epochs[0] == epochs[1]


def test_a_py_dataset_gives_its_batches_in_another_order_each_epoch():
    epochs = []
    for _ in range(2):
        batches = Batches(parts(), shuffle=True, seed=3)
        epochs.append([order(batches) for _ in range(2)])
    first, second = epochs[0]
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    assert epochs[0] == epochs[1]


def test_a_py_dataset_keeps_its_order_unless_told_and_hears_of_the_end():
    source, ended = parts(), []
    source.on_epoch_end = lambda: ended.append(True)
    batches = Batches(source)
    assert order(batches) == list(range(8))
    assert batches.num_batches == 8
    batches.end_epoch()
    assert ended == [True]


def test_a_generator_loses_no_batch_to_the_look_ahead():
    batches = Batches(part for part in parts(3).parts)
    assert batches.num_batches is None
    assert order(batches) == [0, 1, 2]


@pytest.mark.parametrize("targets", [Y, Y[:, None], np.eye(5)])
def test_class_weights_go_by_class_id(targets):
    batches = Batches(X, targets, batch_size=5, class_weight={0: 2.0, 3: 0.5})
    np.testing.assert_array_equal(read(batches)[0][2], [2.0, 1.0, 1.0, 0.5, 1.0])


def test_lists_and_dicts_keep_their_structure():
    batches = Batches({"a": X, "b": [Y]}, [Y, Y], batch_size=5)
    x, y = next(iter(batches.dataset))
    assert set(x) == {"a", "b"}
    assert len(y) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X, "y": Y[:3]}, "same number of rows"),
        ({"x": parts(), "y": Y}, "go with arrays only"),
        ({"x": "faces"}, "must be arrays"),
        ({"x": X, "y": Y, "sample_weight": np.ones(5), "class_weight": {0: 1.0}}, "cannot be given together"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(**arguments)


def test_the_last_rows_are_cut_off_for_validation():
    training, validation = split_validation((X, [Y, Y], None), 0.4)
    assert training[1][0].tolist() == [0, 1, 2]
    assert validation[0].shape == (2, 2)
    for fraction in (0.9, 1.0):
        with pytest.raises(ValueError, match="validation_split"):
            split_validation((X, Y, None), fraction)
