"""Rank-k identification against a loop that sorts the gallery for each probe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics import rank_accuracy


def slow_rank_accuracy(gallery, gallery_labels, probes, probe_labels, rank):
    """Sort the gallery by falling cosine with mates last among equals; look for a mate in the first k."""
    identified = 0
    for probe, person in zip(probes, probe_labels, strict=True):
        entries = []
        for entry, other in zip(gallery, gallery_labels, strict=True):
            cosine = float(probe @ entry) / (float(probe @ probe) * float(entry @ entry)) ** 0.5
            entries.append((-round(cosine, 9), other == person))
        identified += any(mate for _, mate in sorted(entries)[:rank])
    return identified / len(probes)


@st.composite
def galleries(draw):
    """Small integer vectors: equal directions, and so ties, are common."""
    size, num_probes = draw(st.integers(2, 10)), draw(st.integers(1, 10))
    vectors = st.tuples(*[st.integers(-2, 2)] * 3).filter(any)
    gallery = np.array(draw(st.lists(vectors, min_size=size, max_size=size)), float)
    probes = np.array(draw(st.lists(vectors, min_size=num_probes, max_size=num_probes)), float)
    gallery_labels = np.array(draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    picked = draw(st.lists(st.integers(0, size - 1), min_size=num_probes, max_size=num_probes))
    return gallery, gallery_labels, probes, gallery_labels[picked]


@settings(deadline=None)
@given(galleries(), st.data())
def test_against_sorting_the_gallery(problem, data):
    rank = data.draw(st.integers(1, len(problem[0])))
    assert rank_accuracy(*problem, rank=rank) == pytest.approx(slow_rank_accuracy(*problem, rank))


@settings(deadline=None)
@given(galleries())
def test_rises_with_rank_to_one(problem):
    rates = [rank_accuracy(*problem, rank=rank) for rank in range(1, len(problem[0]) + 1)]
    assert np.all(np.diff(rates) >= 0)
    assert rates[-1] == 1.0


def test_many_probes_against_the_loop():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 8))
    gallery_labels, probe_labels = np.repeat(np.arange(40), 2), rng.integers(0, 40, size=600)
    gallery = centres[gallery_labels] + rng.normal(size=(80, 8))
    probes = centres[probe_labels] + rng.normal(size=(600, 8))
    for rank in (1, 5):
        problem = (gallery, gallery_labels, probes, probe_labels)
        assert rank_accuracy(*problem, rank=rank) == pytest.approx(slow_rank_accuracy(*problem, rank))


def test_by_hand():
    # Directions at 0, 30 and 90 degrees for ann, bob, cid. A probe at 20 degrees is 10 from bob, 20
    # from ann, 70 from cid; so as bob it has rank 1, as ann 2, as cid 3.
    angles = np.radians([0, 30, 90])
    gallery = 3 * np.c_[np.cos(angles), np.sin(angles)]
    probes = np.tile([np.cos(np.radians(20)), np.sin(np.radians(20))], (3, 1))
    people = ["ann", "bob", "cid"]
    rates = [rank_accuracy(gallery, people, probes, people, rank=rank) for rank in (1, 2, 3)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_best_of_several_mates_counts():
    gallery, people = [[1, 0], [-1, 0], [0, 1]], ["ann", "ann", "bob"]
    assert rank_accuracy(gallery, people, [[2, 1]], ["ann"]) == 1.0


def test_collapsed_embeddings_identify_nobody():
    # All cosines are one up to rounding; summation order must not decide who is found.
    rng = np.random.default_rng(4)
    gallery = np.outer(rng.uniform(0.1, 10, size=50), rng.normal(size=67))
    people = np.arange(50)
    assert rank_accuracy(gallery, people, gallery * 3, people, rank=49) == 0.0
    assert rank_accuracy(gallery, people, gallery * 3, people, rank=50) == 1.0


@pytest.mark.parametrize("rank", [0, -1, 3, 1.0, True, None])
def test_bad_rank(rank):
    with pytest.raises(ValueError, match=r"`rank` must be an integer from 1 to 2. Received: rank="):
        rank_accuracy(np.eye(2), [0, 1], np.eye(2), [0, 1], rank=rank)


def test_numpy_rank():
    assert rank_accuracy(np.eye(2), [0, 1], np.eye(2), [0, 1], rank=np.int64(1)) == 1.0


@pytest.mark.parametrize(
    ("gallery", "gallery_labels", "probes", "probe_labels", "message"),
    [
        (np.eye(2), ["a", "b"], np.eye(2), ["a", "c"], r"closed set.*Received: probe_labels\[1\]='c'"),
        (np.eye(2), [1, 2], np.eye(2), [3, 1], r"Received: probe_labels\[0\]=3"),
        (np.eye(2), [1, 2], np.eye(2), ["1", "2"], "`probe_labels` must be of the kind .*int64.*<U1"),
        (np.eye(2), [1, 2], np.eye(3), [1, 2, 1], r"as many columns as gallery, 2.*probes.shape=\(3, 3\)"),
        (np.eye(2), [1], np.eye(2), [1, 2], r"`gallery_labels` must have shape \(2,\)"),
        (np.eye(2), [1, 2], np.eye(2), [1], r"`probe_labels` must have shape \(2,\)"),
        (np.eye(2), [1, 2], np.zeros((2, 2)), [1, 2], r"probes\[0\] is a zero vector"),
        ([[1, 0], [np.nan, 0]], [1, 2], np.eye(2), [1, 2], r"gallery\[1\] is a vector with NaN"),
    ],
)
def test_bad_arguments(gallery, gallery_labels, probes, probe_labels, message):
    with pytest.raises(ValueError, match=message):
        rank_accuracy(gallery, gallery_labels, probes, probe_labels)
