"""Which identities are left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_normface.data
from keras_normface.data import CASIA_LFW_OVERLAP
from keras_normface.data._reader import PackedNames, kept_identities, without_excluded


def test_the_shipped_names():
    shipped = json.loads((Path(keras_normface.data.__file__).parent / "casia_lfw_overlap.json").read_text())
    assert len(CASIA_LFW_OVERLAP) == len(shipped["names"]) == 17
    assert {"0000513", "0166921", "3478560"} < CASIA_LFW_OVERLAP == set(shipped["names"])
    assert all(len(name) == 7 and name.isdigit() for name in CASIA_LFW_OVERLAP)
    assert "1801.05599" in shipped["source"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1), st.sets(st.integers(0, 6)))
def test_labels_stay_dense_and_in_order(labels, excluded):
    names = [f"n{number}" for number in range(7)]
    excluded = {f"n{number}" for number in excluded}
    if len(excluded) == 7:
        with pytest.raises(ValueError, match="leave an identity"):
            kept_identities(names, excluded)
        return
    kept = kept_identities(names, excluded)
    stays, dense = without_excluded(np.array(labels), kept)
    left = [name for name in names if name not in excluded]
    assert [left[label] for label in dense] == [names[label] for label in labels if names[label] not in excluded]
    assert stays.sum() == len(dense)


def test_unknown_names_are_an_error_unless_it_is_the_shipped_set():
    assert kept_identities(["a", "b"], CASIA_LFW_OVERLAP).all()
    assert kept_identities(["0000513", "b"], CASIA_LFW_OVERLAP).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"\['c'\]"):
        kept_identities(["a", "b"], ["a", "c"])
    with pytest.raises(ValueError, match=r"and 13 more"):
        kept_identities(["a", "b"], [*CASIA_LFW_OVERLAP, "c"])


@pytest.mark.parametrize("exclude", ["0000513", b"0000513", [513]])
def test_what_is_no_collection_of_names(exclude):
    with pytest.raises(ValueError, match="exclude"):
        kept_identities(["0000513", "a"], exclude)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec=None))))
def test_packed_names_are_the_names(names):
    packed = PackedNames(iter(names))
    assert list(packed) == names == packed
    assert packed[1:] == names[1:]
    assert packed != [*names, "another"]
    for index in (len(names), -len(names) - 1):
        with pytest.raises(IndexError):
            packed[index]


def test_packed_names_take_few_bytes():
    packed = PackedNames(f"{number:07d}" for number in range(200_000))
    assert packed[199_999] == "0199999"
    assert packed.nbytes <= 200_000 * 11 + 4
