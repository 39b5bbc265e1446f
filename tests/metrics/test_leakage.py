"""Leaks are found by every way to write a name and by planted copies, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics import find_leaks
from keras_normface.metrics import leakage as near_duplicates
from keras_normface.metrics.leakage import normalised_name


def planted(dimensions=16, seed=0):
    """40 training and 25 test rows; test rows 3 and 20 are noisy copies of training rows 7 and 39."""
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(40, dimensions)), rng.normal(size=(25, dimensions))
    test[3] = 5.0 * train[7] + 0.01 * rng.normal(size=dimensions)
    test[20] = 0.1 * train[39]
    return train, test


def names(prefix, count):
    return [f"{prefix}{number}" for number in range(count)]


class TestNames:
    @pytest.mark.parametrize(
        "written",
        ["Ada Lovelace", "ada_lovelace", "ADA__LOVELACE", " Ada-Lovelace ", "ada\tlovelace_", "Ａda lovelace"],
    )
    def test_ways_to_write_one_name(self, written):
        found = find_leaks([written, "Bob"], ["Ada_Lovelace", "Carl"])
        assert found.by_name == ((written, "Ada_Lovelace"),)
        assert found
        assert found.by_embedding is None

    @pytest.mark.parametrize("other", ["AdaLovelace", "Ada Lovelac", "Lovelace Ada", "Áda Lovelace"])
    def test_other_names(self, other):
        assert not find_leaks([other], ["Ada Lovelace"])

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.text("aAbB_- ", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
    def test_against_comparing_all_with_all(self, ours, data):
        theirs = data.draw(st.lists(st.text("aAbB_- ", min_size=1, max_size=4), min_size=1, max_size=8))
        expected = {(a, b) for a in ours for b in theirs if normalised_name(a) == normalised_name(b)}
        found = find_leaks(ours, theirs)
        assert set(found.by_name) == expected
        assert len(found.by_name) == len(expected)
        assert (found.num_train, found.num_test) == (len(set(ours)), len(set(theirs)))

    def test_normalising_twice_changes_nothing(self):
        assert normalised_name(normalised_name("  A_-b ")) == normalised_name("A b") == "a b"


class TestEmbeddings:
    def test_planted_copies(self):
        found = find_leaks(names("a", 40), names("b", 25), *planted())
        assert [(each.test_row, each.train_row) for each in found.by_embedding] == [(20, 39), (3, 7)]
        assert found.by_embedding[0].cosine == pytest.approx(1.0, abs=1e-6)
        assert (found.by_embedding[1].train_identity, found.by_embedding[1].test_identity) == ("a7", "b3")
        assert found.by_name == ()
        assert found

    @pytest.mark.parametrize("threshold", [-0.5, 0.2, 0.4, 0.9, 1.0])
    @pytest.mark.parametrize("rows", [3, 8, 1000])
    def test_against_loops_whatever_the_blocks(self, monkeypatch, threshold, rows):
        monkeypatch.setattr(near_duplicates, "_TRAIN_ROWS", rows)
        monkeypatch.setattr(near_duplicates, "_TEST_ROWS", rows + 1)
        train, test = planted()
        expected = {}
        for row, ours in enumerate(test):
            cosines = [ours @ theirs / np.sqrt(ours @ ours * (theirs @ theirs)) for theirs in train]
            if max(cosines) >= threshold - 1e-6:
                expected[row] = (int(np.argmax(cosines)), max(cosines))
        found = find_leaks(names("a", 40), names("b", 25), train, test, threshold=threshold)
        assert {each.test_row: each.train_row for each in found.by_embedding} == {
            row: where for row, (where, _) in expected.items()
        }
        for each in found.by_embedding:
            assert each.cosine == pytest.approx(expected[each.test_row][1], abs=1e-6)
        cosines = [each.cosine for each in found.by_embedding]
        assert cosines == sorted(cosines, reverse=True)

    def test_of_equal_training_images_the_first(self, monkeypatch):
        monkeypatch.setattr(near_duplicates, "_TRAIN_ROWS", 2)
        found = find_leaks(names("a", 5), ["b"], np.ones((5, 3)), [[2.0, 2.0, 2.0]])
        assert [each.train_row for each in found.by_embedding] == [0]

    def test_a_memory_map_is_enough(self, tmp_path):
        train, test = planted()
        np.save(tmp_path / "train.npy", train.astype("f"))
        found = find_leaks(names("a", 40), names("b", 25), np.load(tmp_path / "train.npy", mmap_mode="r"), test)
        assert len(found.by_embedding) == 2

    def test_nothing_near(self):
        found = find_leaks(["a", "b"], ["c"], np.eye(2), [[1.0, 1.0]])
        assert found.by_embedding == ()
        assert not found


class TestText:
    def test_long_lists_are_cut(self):
        found = find_leaks(names("p", 50), names("P", 50), np.ones((50, 2)), np.ones((50, 2)))
        lines = str(found).splitlines()
        assert lines[0].startswith("50 of 50 test identities are in the training set by name")
        assert lines[21] == "  ... and 30 more"
        assert lines[22].startswith(
            "50 test images, of 50 identities, have a training image at a cosine of at least 0.9:"
        )
        assert len(lines) == 44

    def test_nothing_found_is_said(self):
        lines = str(find_leaks(["a"], ["b"])).splitlines()
        assert lines[0].startswith("0 of 1 test identities are in the training set by name (case, underscores")
        assert lines[1:] == ["embeddings were not compared"]


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"train_identities": "ada"}, "several names, not one text"),
            ({"test_identities": ["a", 3]}, "`test_identities` must hold names, at least one. Received: 3"),
            ({"train_identities": []}, "`train_identities` must hold names, at least one"),
            ({"test_embeddings": None}, "given both or not at all"),
            ({"train_embeddings": np.ones((3, 2))}, r"`train_embeddings` must have shape \(2, D\)"),
            ({"test_embeddings": np.ones((2, 3))}, r"as many columns as train_embeddings, 2.*\(2, 3\)"),
            ({"test_embeddings": np.zeros((2, 2))}, r"test_embeddings\[0\] is a zero vector"),
            ({"train_embeddings": [[1.0, 0.0], [np.nan, 0.0]]}, r"train_embeddings\[1\] is a vector with NaN"),
            ({"threshold": 1.5}, r"`threshold` must be a cosine in \(-1, 1\]. Received: threshold=1.5"),
            ({"threshold": np.nan}, "`threshold` must be a cosine"),
        ],
    )
    def test_bad_arguments(self, changes, message):
        arguments = {
            "train_identities": ["a", "b"],
            "test_identities": ["c", "d"],
            "train_embeddings": np.ones((2, 2)),
            "test_embeddings": np.ones((2, 2)),
        }
        with pytest.raises(ValueError, match=message):
            find_leaks(**{**arguments, **changes})
