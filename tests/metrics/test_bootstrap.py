"""Resamples of subjects against the same resample written out pair by pair."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_normface.metrics import bootstrap as bootstrap
from keras_normface.metrics import cross_validated_accuracy, equal_error_rate, tar_at_far
from keras_normface.metrics.bootstrap import (
    blocks,
    count_blocks,
    pair_weights,
    percentile_interval,
    resampled_figures,
    resampled_units,
    subject_counts,
    weighted_error_rates,
)
from keras_normface.metrics.folds import weighted_accuracy
from keras_normface.metrics.verification import sorted_scores


class TestCounts:
    def test_as_many_are_drawn_as_there_are(self):
        counts = subject_counts(7, repeats=500, seed=3)
        assert counts.shape == (500, 7)
        np.testing.assert_array_equal(counts.sum(axis=1), 7)
        # Each is drawn once on average, with variance 1 - 1/7.
        np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.2)
        np.testing.assert_allclose(counts.var(), 6 / 7, atol=0.05)

    def test_the_seed_decides(self):
        np.testing.assert_array_equal(subject_counts(9, 20, seed=1), subject_counts(9, 20, seed=1))
        assert (subject_counts(9, 20, seed=1) != subject_counts(9, 20, seed=2)).any()
        np.testing.assert_array_equal(subject_counts(9, 20, seed=1)[:5], subject_counts(9, 5, seed=1))

    def test_parts_are_the_whole(self, monkeypatch):
        whole = subject_counts(9, 20, seed=1)
        monkeypatch.setattr(bootstrap, "_BLOCK_ELEMENTS", 31)
        parts = list(count_blocks(9, 20, 1, columns=10))
        assert [len(part) for part in parts] == [3] * 6 + [2]
        np.testing.assert_array_equal(np.concatenate(parts), whole)

    def test_blocks_cover_each_row_once(self):
        assert [row for block in blocks(10, 10**9) for row in range(10)[block]] == list(range(10))

    @pytest.mark.parametrize(("name", "value"), [("num_subjects", 0), ("repeats", 0), ("seed", -1), ("repeats", 2.0)])
    def test_bad_counts(self, name, value):
        arguments = {"num_subjects": 3, "repeats": 2, "seed": 0, name: value}
        with pytest.raises(ValueError, match=f"`{name}` must be a"):
            subject_counts(**arguments)

    def test_weights_by_hand(self):
        # Subject 0 drawn twice, 1 never, 2 three times: 0-0 counts 2, 0-2 counts 6, 2-2 counts 3, 0-1 not at all.
        counts = np.array([[2, 0, 3]], np.int32)
        left, right = np.array([0, 0, 2, 0]), np.array([0, 2, 2, 1])
        assert pair_weights(counts, left, right).tolist() == [[2, 6, 3, 0]]

    def test_large_weights_do_not_overflow(self):
        counts = np.array([[60000, 60000]], np.int32)
        assert pair_weights(counts, np.array([0]), np.array([1])).tolist() == [[3600000000]]

    def test_subjects_only_where_all_are_known(self):
        left, right = np.array([0, 2]), np.array([1, 3])
        kind, (count, ours, theirs) = resampled_units(np.array([5, 5, 9, 5, -1]), left, right)
        assert (kind, count, ours.tolist(), theirs.tolist()) == ("subjects", 2, [0, 1], [0, 0])
        for unknown in (None, np.array([5, 5, 9, -1, 0])):
            kind, (count, ours, theirs) = resampled_units(unknown, left, right)
            assert (kind, count, ours.tolist(), theirs.tolist()) == ("pairs", 2, [0, 1], [0, 1])


class TestInterval:
    def test_quantiles(self):
        assert percentile_interval(np.arange(41.0)) == pytest.approx((1.0, 39.0))
        assert percentile_interval([np.nan, 2.0]) == (2.0, 2.0)

    @pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.nan, np.nan]])
    def test_too_few_numbers(self, values):
        with pytest.raises(ValueError, match=r"at least half of the bootstrap replicates|at least one"):
            percentile_interval(values)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
    def test_bad_confidence(self, confidence):
        with pytest.raises(ValueError, match=r"`confidence` must lie inside \(0, 1\)"):
            percentile_interval([1.0], confidence)


@st.composite
def weighted_pairs(draw):
    """Scores with ties in eighths, two folds or three, and weights of 0 to 3."""
    size = draw(st.integers(2, 14))
    numbers = st.integers(-8, 8)
    scores = np.array(draw(st.lists(numbers, min_size=size, max_size=size))) / 8.0
    same = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    assume(0 < same.sum() < size)
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    return scores, same, weights


class TestErrorRates:
    @settings(deadline=None, max_examples=150)
    @given(weighted_pairs(), st.sampled_from([0.05, 0.25, 0.5, 1.0]))
    def test_against_the_resample_written_out(self, data, far):
        scores, same, weights = data
        tar, eer = weighted_error_rates(sorted_scores(scores, same), weights[None], [far])
        ours, theirs = np.repeat(scores, weights), np.repeat(same, weights)
        if not 0 < theirs.sum() < theirs.size:
            assert np.isnan(tar[0][0])
            assert np.isnan(eer[0])
            return
        assert eer[0] == pytest.approx(equal_error_rate(ours, theirs), abs=1e-12)
        impostor = ours[~theirs]
        if far * impostor.size >= 1:
            assert tar[0][0] == tar_at_far(ours, theirs, far).tar
        else:  # no impostor may be accepted
            assert tar[0][0] == np.mean(ours[theirs] > impostor.max())


def slow_accuracy(scores, same, codes, weights):
    """Fold by fold, candidate by candidate, pair by pair, for weights that are all positive."""
    shares = []
    for fold in sorted(set(codes)):
        rest = [(s, g, w) for s, g, c, w in zip(scores, same, codes, weights, strict=True) if c != fold]
        mine = [(s, g, w) for s, g, c, w in zip(scores, same, codes, weights, strict=True) if c == fold]
        levels = sorted({s for s, _, _ in rest})
        candidates = [levels[0], *((a + b) / 2 for a, b in pairwise(levels))]
        candidates.append(float(np.nextafter(levels[-1], np.inf)))
        right = [sum(w for s, g, w in rest if (s >= c) == g) for c in candidates]
        threshold = np.mean([c for c, r in zip(candidates, right, strict=True) if r == max(right)])
        shares.append(sum(w for s, g, w in mine if (s >= threshold) == g) / sum(w for _, _, w in mine))
    return np.mean(shares)


class TestAccuracy:
    @settings(deadline=None, max_examples=150)
    @given(weighted_pairs(), st.integers(2, 3), st.randoms())
    def test_against_loops(self, data, folds, random):
        scores, same, weights = data
        codes = np.arange(scores.size) % folds
        random.shuffle(codes)
        assume(set(codes) == set(range(folds)))
        assume(all(0 < same[codes != f].sum() < (codes != f).sum() for f in range(folds)))
        pairs = [sorted_scores(scores, same)]
        ours = weighted_accuracy(pairs, codes, 1 + weights[None])
        assert ours[0] == pytest.approx(slow_accuracy(scores, same, codes, 1 + weights), abs=1e-12)
        once = weighted_accuracy(pairs, codes, np.ones((1, scores.size), int))
        assert once[0] == pytest.approx(cross_validated_accuracy(scores, same, folds=codes).mean, abs=1e-12)

    def test_a_fold_that_was_not_drawn_is_left_out(self):
        # Fold 1 is wrong about both its pairs, but weighs nothing.
        pairs = [sorted_scores([0.9, 0.1, 0.2, 0.8, 0.9, 0.1], [1, 0, 1, 0, 1, 0])]
        weights = np.array([[1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
        values = weighted_accuracy(pairs, np.array([0, 0, 1, 1, 2, 2]), weights)
        assert values[0] == 1.0
        assert np.isnan(values[1])

    def test_each_fold_has_its_own_row(self):
        # Row 0 says nothing about fold 0, row 1 parts fold 1 perfectly.
        same, codes = np.array([1, 0, 1, 0], bool), np.array([0, 0, 1, 1])
        rows = [sorted_scores(row, same) for row in ([0.2, 0.3, 0.9, 0.1], [0.9, 0.1, 0.8, 0.3])]
        # Fold 0: from .9 G .1 I the threshold is .5: rejects both, 1/2. Fold 1: from .9 G .1 I, .5: right twice.
        assert weighted_accuracy(rows, codes, np.ones((1, 4), int)).tolist() == [0.75]


class TestResampled:
    def test_ten_subjects_against_drawing_them_one_by_one(self):
        rng = np.random.default_rng(0)
        subjects = np.repeat(np.arange(10), 3)
        left, right = np.triu_indices(30, 1)
        same = subjects[left] == subjects[right]
        scores = np.round(rng.normal(size=left.size) + 2 * same, 1)
        folds = np.arange(left.size) % 4
        units = resampled_units(subjects, left, right)[1]
        pairs = sorted_scores(scores, same)
        values = resampled_figures(units, [pairs], pairs, folds, [0.1], repeats=30, seed=5)
        for repeat, counts in enumerate(subject_counts(10, 30, seed=5)):
            copies = []
            for pair in range(left.size):
                a, b = subjects[left[pair]], subjects[right[pair]]
                copies += [pair] * int(counts[a] if a == b else counts[a] * counts[b])
            assert values["TAR@FAR=1e-01"][repeat] == tar_at_far(scores[copies], same[copies], 0.1).tar
            assert values["EER"][repeat] == pytest.approx(equal_error_rate(scores[copies], same[copies]))
            kept = np.bincount(copies, minlength=left.size)
            expected = weighted_accuracy([pairs], folds, kept[None])[0]
            assert values["accuracy"][repeat] == expected

    def test_the_interval_covers(self):
        # One genuine pair a subject, right with probability .8: the interval of TAR must cover
        # .8 about 95 times in 100.
        rng, covered = np.random.default_rng(1), 0
        folds = np.arange(199) % 2
        left, right = np.array([*range(100), *range(99)]), np.array([*range(100), *range(1, 100)])
        same = np.arange(199) < 100
        units = resampled_units(np.arange(100), left, right)[1]
        for _ in range(100):
            scores = np.where(same, rng.random(199) < 0.8, 0.5)
            pairs = sorted_scores(scores, same)
            values = resampled_figures(units, [pairs], pairs, folds, [0.5], repeats=200, seed=0)
            low, high = percentile_interval(values["TAR@FAR=5e-01"])
            covered += low <= 0.8 <= high
        assert 88 <= covered <= 99
