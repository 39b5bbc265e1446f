"""Unit rows, and the largest scores of a stream, against sorting all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics import roc_curve, tar_at_far, unit_rows
from keras_normface.metrics import score_matrix as score_tails
from keras_normface.metrics.score_matrix import (
    TopScores,
    curve_of_sorted,
    listed_scores,
    num_impostor_pairs,
    score_all_pairs,
)
from keras_normface.metrics.verification import accepted, checked_rate, chosen_rates, threshold_at_rate
from tests.support.evaluation_oracle import exact_rows, rate_at

TIED = st.integers(-6, 6).map(lambda n: n / 8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(TIED, min_size=1, max_size=30), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 9))
def test_the_top_of_a_stream_is_the_top_of_all(parts, keep, buffer):
    before, score_tails._BUFFER = score_tails._BUFFER, buffer
    try:
        top = TopScores(keep)
        for part in parts:
            top.add(np.array(part, "float32"))
        got = top.largest().tolist()
    finally:
        score_tails._BUFFER = before
    everything = sorted((score for part in parts for score in part), reverse=True)
    assert got == everything[:keep]
    assert top.count == len(everything)


def test_the_buffer_stays_small(monkeypatch):
    monkeypatch.setattr(score_tails, "_BUFFER", 100)
    top, rng, held = TopScores(50), np.random.default_rng(0), 0
    for _ in range(200):
        top.add(rng.normal(size=100).astype("float32"))
        held = max(held, sum(len(part) for part in top._parts))
    assert held <= 2 * 50 + 100 + 100


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 1e-15)])
def test_unit_rows_have_the_wanted_type(dtype, tolerance):
    rows = np.random.default_rng(0).normal(size=(5000, 7))
    expected = rows / np.sqrt((rows**2).sum(axis=1))[:, None]
    for given_rows in (rows, rows * 1e200, rows * 1e-200):
        unit = unit_rows(given_rows, "rows", dtype=dtype)
        assert unit.dtype == dtype
        np.testing.assert_allclose(unit, expected, atol=tolerance)
    for given_rows in (rows.astype("float32"), (rows * 1e30).astype("float32")):
        np.testing.assert_allclose(unit_rows(given_rows, "rows", dtype=dtype), expected, atol=3e-7)
    assert unit_rows([[3, 4]], "rows", dtype=dtype).tolist() == np.array([[0.6, 0.8]], dtype).tolist()
    assert unit_rows(np.float16([[3, 4]]), "rows", dtype=dtype).tolist() == np.array([[0.6, 0.8]], dtype).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "NaN"), (0.0, "zero")])
def test_a_bad_row_is_named(value, kind, dtype):
    rows = np.ones((5000, 3), "float32")
    rows[4321] = value
    with pytest.raises(ValueError, match=rf"rows\[4331\] is a.*{kind}"):
        unit_rows(rows, "rows", dtype=dtype, first=10)


@pytest.mark.parametrize("rows", [np.ones(3), np.ones((3, 0)), np.ones((0, 3)), np.ones((2, 2), complex), [["a", "b"]]])
def test_rows_must_be_a_matrix_of_numbers(rows):
    with pytest.raises(ValueError, match=r"`?rows`? must .*Received: rows"):
        unit_rows(rows, "rows")


def test_rates():
    assert chosen_rates(None, (0.1, 0.01, 0.001), 150, "fars", "pairs") == (0.1, 0.01)
    assert chosen_rates([0.5, 0.1, 0.5], (), 10, "fars", "pairs") == (0.5, 0.1)
    assert chosen_rates(0.01, (), 100, "fars", "pairs") == (0.01,)
    # The refusal names both numbers.
    with pytest.raises(ValueError, match=r"`fars` must be at least 1/150 = 0.00667.*Received: fars=0.001"):
        chosen_rates([0.001], (), 150, "fars", "pairs")
    for wrong in (0.0, 1.5, -1.0, True, "a"):
        with pytest.raises(ValueError, match="`fars` must be a number in"):
            chosen_rates([wrong], (), 150, "fars", "pairs")
        with pytest.raises(ValueError, match="`far` must be a number in"):
            checked_rate(wrong, 150, "far", "pairs")


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10**8), st.floats(1e-8, 1.0))
def test_accepted_is_the_largest_share_within_the_rate(count, rate):
    most = accepted(rate, count)
    assert most / count <= rate
    assert (most + 1) / count > rate


@settings(deadline=None, max_examples=60)
@given(st.lists(TIED, min_size=1, max_size=20), st.lists(TIED, min_size=2, max_size=20), st.floats(0.05, 1.0))
def test_the_threshold_is_that_of_tar_at_far_and_of_trying_all(genuine, impostor, far):
    if far * len(impostor) < 1.0:
        far = 1.0 / len(impostor)
    genuine, falling = np.float32(genuine), np.sort(np.float32(impostor))[::-1]
    threshold = threshold_at_rate(falling, far, falling.size, -2.0)
    share = np.mean(genuine >= threshold)
    assert share == rate_at(genuine, falling, far)
    both, same = np.concatenate([genuine, falling]), np.arange(genuine.size + falling.size) < genuine.size
    assert share == tar_at_far(both, same, far).tar


@pytest.mark.parametrize("block", [1, 50, 2**23])
def test_all_pairs_against_loops(block, monkeypatch):
    monkeypatch.setattr("keras_normface.metrics.score_matrix.BLOCK_SCORES", block)
    rng = np.random.default_rng(1)
    rows, subjects = exact_rows(rng, 41), rng.integers(0, 9, size=41)
    genuine, impostor = [], []
    for i in range(41):
        for j in range(i):
            score = float(rows[i] @ rows[j])
            if subjects[i] == subjects[j]:
                genuine.append((int(subjects[i]), score))
            else:
                impostor.append(score)
    for keep in (3, 10**6):
        pairs = score_all_pairs(rows, subjects, keep)
        assert sorted(zip(pairs.genuine_subjects.tolist(), pairs.genuine.tolist(), strict=True)) == sorted(genuine)
        assert pairs.impostor.tolist() == sorted(impostor, reverse=True)[:keep]
        assert pairs.num_impostor == len(impostor) == num_impostor_pairs(subjects)


@pytest.mark.parametrize("cells", [0, 1e9])
@pytest.mark.parametrize("block", [7, 2**23])
def test_listed_scores_by_products_and_by_rows(cells, block, monkeypatch):
    monkeypatch.setattr("keras_normface.metrics.score_matrix._CELLS_PER_PAIR", cells)
    monkeypatch.setattr("keras_normface.metrics.score_matrix.BLOCK_SCORES", block)
    rng = np.random.default_rng(2)
    rows = exact_rows(rng, 30)
    left, right = rng.integers(0, 25, size=200), rng.integers(3, 30, size=200)
    expected = [float(rows[i] @ rows[j]) for i, j in zip(left, right, strict=True)]
    assert listed_scores(rows, left, right).tolist() == expected
    assert listed_scores(rows, right, left).tolist() == expected


def test_many_rows_need_longer_codes():
    rows = exact_rows(np.random.default_rng(3), 2**16 + 5)
    left, right = np.array([2**16 + 4, 0, 2**16]), np.array([0, 2**16 + 1, 2**16])
    expected = [float(rows[i] @ rows[j]) for i, j in zip(left, right, strict=True)]
    assert listed_scores(rows, left, right).tolist() == expected


def test_the_curve_of_sorted_scores_lies_on_the_full_curve():
    rng = np.random.default_rng(4)
    genuine, impostor = rng.integers(20, 900, size=3000) / 8, rng.integers(0, 500, size=20_000) / 8
    full = roc_curve(np.concatenate([genuine, impostor]), np.arange(23_000) < 3000)
    points = {(f, t): h for f, t, h in zip(full.far, full.tar, full.thresholds, strict=True)}
    curve = curve_of_sorted(np.sort(genuine), np.sort(impostor))
    assert all(points[f, t] == h for f, t, h in zip(curve.far, curve.tar, curve.thresholds, strict=True))
    assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (curve.num_genuine, curve.num_impostor) == (3000, 20_000)
    assert len(curve.far) > 100
    # Rates are not read from a curve that lacks points.
    for read in (curve.equal_error_rate, lambda: curve.tar_at_far(0.1)):
        with pytest.raises(ValueError, match="downsampled curve"):
            read()
