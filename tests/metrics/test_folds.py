"""Cross-validated accuracy against a loop over folds, candidates and pairs."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_normface.metrics import cross_validated_accuracy


def slow_accuracies(scores, same, ids):
    """Per fold: try every candidate threshold on the other folds, average the best, judge the fold."""
    accuracies, thresholds = [], []
    for fold in sorted(set(ids)):
        rest = [(s, g) for s, g, i in zip(scores, same, ids, strict=True) if i != fold]
        mine = [(s, g) for s, g, i in zip(scores, same, ids, strict=True) if i == fold]
        levels = sorted({s for s, _ in rest})
        candidates = [levels[0], *((a + b) / 2 for a, b in pairwise(levels))]
        candidates.append(float(np.nextafter(levels[-1], np.inf)))
        right = [sum((s >= c) == g for s, g in rest) for c in candidates]
        best = [c for c, r in zip(candidates, right, strict=True) if r == max(right)]
        thresholds.append(float(np.mean(best)))
        accuracies.append(sum((s >= thresholds[-1]) == g for s, g in mine) / len(mine))
    return accuracies, thresholds


@st.composite
def folded_pairs(draw):
    count, size = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    total = count * size
    scores = np.array(draw(st.lists(st.integers(-8, 8), min_size=total, max_size=total))) / 8.0
    same = np.array(draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    ids = np.repeat(np.arange(count), size)
    assume(all(0 < same[ids != fold].sum() < (ids != fold).sum() for fold in range(count)))
    return scores, same, ids


def planted():
    """Nine folds of one genuine pair at .9 and one impostor at .6, and fold 0 at .1 and -.1."""
    scores = np.array([0.1, -0.1] + [0.9, 0.6] * 9)
    return scores, np.tile([True, False], 10)


class TestByHand:
    def test_ten_pairs(self):
        # Two folds of five pairs.
        #   fold 0: .9 G, .7 G, .5 I, .3 G, .1 I      fold 1: .8 G, .6 I, .4 G, .2 I, .0 I
        # Fold 0 is judged by fold 1. Accepting down to .8 or down to .4 gets four of five right, any
        # other choice fewer, so the best candidates are the midpoints (.6 + .8) / 2 = .7 and
        # (.2 + .4) / 2 = .3, of mean .5: wrong about .5 I and .3 G, 3/5.
        # Fold 1 is judged by fold 0, with 4/5 at (.5 + .7) / 2 = .6 and (.1 + .3) / 2 = .2, of mean
        # .4: wrong about .6 I only (.4 itself is accepted), 4/5.
        # Written in units of 1/8 so that every midpoint is exact in binary.
        scores = np.array([9, 7, 5, 3, 1, 8, 6, 4, 2, 0]) / 8.0
        same = np.array([1, 1, 0, 1, 0, 1, 0, 1, 0, 0])
        result = cross_validated_accuracy(scores, same, folds=2)
        np.testing.assert_array_equal(result.thresholds, np.array([5.0, 4.0]) / 8.0)
        np.testing.assert_array_equal(result.accuracies, [0.6, 0.8])
        assert result.mean == pytest.approx(0.7)
        # std = sqrt(.1^2 + .1^2) = .1414 with ddof 1, over sqrt(2): .1
        assert result.standard_error == pytest.approx(0.1)

    def test_a_planted_fold_is_not_judged_by_its_own_threshold(self):
        # Fold 0 would be perfect at 0, but the other folds choose (.6 + .9) / 2 = .75, which rejects
        # its genuine pair: 1/2. For every other fold .75 gets 8 * 2 + 1 of 18 right, the most, and is
        # perfect on the fold. Mean (.5 + 9) / 10 = .95; std = sqrt((.45^2 + 9 * .05^2) / 9) = .1581,
        # over sqrt(10): .05.
        result = cross_validated_accuracy(*planted(), folds=10)
        np.testing.assert_allclose(result.thresholds, np.full(10, 0.75))
        np.testing.assert_array_equal(result.accuracies, [0.5] + [1.0] * 9)
        assert result.mean == pytest.approx(0.95)
        assert result.standard_error == pytest.approx(0.05)
        assert str(result) == "accuracy=0.9500 +- 0.0500 over 10 folds"

    def test_tied_ends_are_averaged(self):
        # Outside fold 0: 1 I, 2 G, 3 I, 4 G. Right: accept all 2, from 1.5 3, from 2.5 2, from 3.5 3,
        # none 2. Mean of 1.5 and 3.5.
        scores, same = [1, 2, 3, 4] * 2, [0, 1, 0, 1] * 2
        assert cross_validated_accuracy(scores, same, folds=2).thresholds.tolist() == [2.5, 2.5]

    def test_perfect_separation(self):
        scores, same = np.tile([0.9, 0.1], 10), np.tile([1, 0], 10)
        result = cross_validated_accuracy(scores, same)
        assert (result.mean, result.standard_error) == (1.0, 0.0)

    def test_all_scores_equal(self):
        # More impostors than genuine: accepting none is best everywhere, 2 of 3 right.
        result = cross_validated_accuracy([0.5] * 6, [1, 0, 0] * 2, folds=2)
        assert result.accuracies.tolist() == [2 / 3, 2 / 3]

    def test_adjacent_floats_are_parted(self):
        low = np.nextafter(1.0, 0.0)
        lower = np.nextafter(low, 0.0)
        for below, above in [(low, 1.0), (lower, low)]:
            result = cross_validated_accuracy([above, below] * 2, [1, 0] * 2, folds=2)
            assert result.mean == 1.0


class TestProperties:
    @settings(deadline=None)
    @given(folded_pairs())
    def test_against_the_loop(self, data):
        scores, same, ids = data
        result = cross_validated_accuracy(scores, same, folds=ids)
        accuracies, thresholds = slow_accuracies(scores.tolist(), same.tolist(), ids.tolist())
        assert result.accuracies.tolist() == accuracies
        assert result.thresholds.tolist() == thresholds
        assert result.mean == pytest.approx(np.mean(accuracies))
        assert result.standard_error == pytest.approx(np.std(accuracies, ddof=1) / len(accuracies) ** 0.5)

    @settings(deadline=None)
    @given(folded_pairs())
    def test_an_integer_means_contiguous_blocks(self, data):
        scores, same, ids = data
        by_count = cross_validated_accuracy(scores, same, folds=int(ids[-1]) + 1)
        by_ids = cross_validated_accuracy(scores, same, folds=ids)
        np.testing.assert_array_equal(by_count.accuracies, by_ids.accuracies)

    @settings(deadline=None)
    @given(folded_pairs(), st.randoms())
    def test_order_of_pairs_does_not_matter_with_ids(self, data, random):
        scores, same, ids = data
        order = list(range(scores.size))
        random.shuffle(order)
        expected = cross_validated_accuracy(scores, same, folds=ids)
        shuffled = cross_validated_accuracy(scores[order], same[order], folds=ids[order])
        np.testing.assert_array_equal(shuffled.accuracies, expected.accuracies)
        np.testing.assert_array_equal(shuffled.thresholds, expected.thresholds)

    @settings(deadline=None)
    @given(folded_pairs(), st.randoms())
    def test_order_within_blocks_does_not_matter(self, data, random):
        scores, same, ids = data
        order = sorted(range(scores.size), key=lambda pair: (ids[pair], random.random()))
        count = int(ids[-1]) + 1
        expected = cross_validated_accuracy(scores, same, folds=count)
        shuffled = cross_validated_accuracy(scores[order], same[order], folds=count)
        np.testing.assert_array_equal(shuffled.accuracies, expected.accuracies)

    def test_unequal_named_folds(self):
        rng = np.random.default_rng(3)
        same = rng.random(200) < 0.5
        scores = np.round(rng.normal(size=200) + same, 1)
        ids = rng.choice(["x", "y", "z"], size=200, p=[0.6, 0.3, 0.1])
        accuracies, thresholds = slow_accuracies(scores.tolist(), same.tolist(), ids.tolist())
        result = cross_validated_accuracy(scores, same, folds=ids)
        np.testing.assert_allclose(result.accuracies, accuracies)
        np.testing.assert_allclose(result.thresholds, thresholds)


class TestErrors:
    @pytest.mark.parametrize("folds", [0, 1, -10, 2.0, True, None, "ten"])
    def test_not_a_number_of_folds(self, folds):
        with pytest.raises(ValueError, match=r"`folds` must be an integer of at least 2.*Received: folds="):
            cross_validated_accuracy(*planted(), folds=folds)

    def test_folds_that_do_not_divide(self):
        with pytest.raises(ValueError, match=r"`folds` must divide the number of pairs, 20. Received: folds=3"):
            cross_validated_accuracy(*planted(), folds=3)

    def test_ids_of_the_wrong_shape(self):
        with pytest.raises(ValueError, match=r"`folds` must have shape \(20,\).*folds.shape=\(2,\)"):
            cross_validated_accuracy(*planted(), folds=[0, 1])

    def test_a_single_fold_of_ids(self):
        with pytest.raises(ValueError, match="`folds` must name at least two folds"):
            cross_validated_accuracy(*planted(), folds=np.zeros(20, int))

    @pytest.mark.parametrize(("ids", "missing"), [([0, 0, 1, 1], "genuine"), ([1, 1, 0, 0], "impostor")])
    def test_other_folds_of_one_kind(self, ids, missing):
        with pytest.raises(ValueError, match=f"Received: folds with no {missing} pair outside fold 0"):
            cross_validated_accuracy([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], folds=ids)

    def test_scores_are_checked(self):
        with pytest.raises(ValueError, match=r"scores\[0\]=nan"):
            cross_validated_accuracy([np.nan, 0.1], [1, 0], folds=2)
        with pytest.raises(ValueError, match="2 genuine and 0 impostor"):
            cross_validated_accuracy([0.2, 0.1], [1, 1], folds=2)
