"""ROC, EER and TAR@FAR against loops over thresholds, scikit-learn and pairs worked by hand."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from keras_normface.metrics import TarAtFar, equal_error_rate, pair_scores, roc_curve, tar_at_far

# Ten pairs, 4 genuine (G) and 6 impostor (I); accepting down to each score in turn gives
#   score   .9   .8   .7   .6   .5   .4   .3   .2   .1   .0
#   kind    G    G    I    G    I    I    G    I    I    I
#   FAR     0    0   1/6  1/6  2/6  3/6  3/6  4/6  5/6  1
#   TAR    1/4  2/4  2/4  3/4  3/4  3/4   1    1    1    1
TEN_SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
TEN_SAME = np.array([1, 1, 0, 1, 0, 0, 1, 0, 0, 0], dtype=bool)


def rates(scores, same, threshold):
    """Exact (FAR, TAR) of `score >= threshold`, pair by pair."""
    accepted = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for score, kind in zip(scores, same, strict=True):
        total[bool(kind)] += 1
        accepted[bool(kind)] += int(score >= threshold)
    return Fraction(accepted[False], total[False]), Fraction(accepted[True], total[True])


def slow_roc(scores, same):
    thresholds = [float("inf"), *sorted({float(score) for score in scores}, reverse=True)]
    return thresholds, [rates(scores, same, threshold) for threshold in thresholds]


def slow_eer(scores, same):
    points = slow_roc(scores, same)[1]
    for (far, tar), (next_far, next_tar) in pairwise(points):
        gap, next_gap = far - (1 - tar), next_far - (1 - next_tar)
        if gap <= 0 <= next_gap:
            return float(far + (next_far - far) * (-gap) / (next_gap - gap))
    raise AssertionError("the curve runs from FAR < FRR to FAR > FRR")


def slow_tar_at_far(scores, same, far):
    """Largest TAR over all thresholds that keep to `far`, and the largest FAR that has that TAR."""
    kept = [(tar, point) for point, tar in slow_roc(scores, same)[1] if float(point) <= far]
    return max(tar for tar, _ in kept)


@st.composite
def pairs(draw, min_size=2):
    """Scores on a coarse grid, so that ties are common, with both kinds of pairs."""
    size = draw(st.integers(min_size, 40))
    scores = draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size))
    same = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    same[0], same[-1] = True, False
    return np.array(scores) / 8.0, np.array(same)


class TestPairScores:
    def test_against_a_double_loop(self):
        rng = np.random.default_rng(0)
        embeddings = rng.normal(size=(600, 5)) * rng.uniform(0.01, 100, size=(600, 1))
        labels = rng.integers(0, 9, size=600)
        scores, same = pair_scores(embeddings, labels)
        expected_scores, expected_same = [], []
        for i in range(600):
            for j in range(i + 1, 600):
                a, b = embeddings[i], embeddings[j]
                expected_scores.append(float(a @ b) / (float(a @ a) * float(b @ b)) ** 0.5)
                expected_same.append(labels[i] == labels[j])
        np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(same, expected_same)
        assert scores.dtype == np.float64
        assert same.dtype == bool

    @pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e308])
    def test_length_does_not_matter(self, scale):
        scores, _ = pair_scores(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]) * scale, ["a", "b", "c"])
        np.testing.assert_array_equal(scores, [0.0, -1.0, 0.0])

    def test_cosines_never_leave_their_range(self):
        row = np.random.default_rng(1).normal(size=37)
        scores, _ = pair_scores(np.outer(np.r_[np.ones(20), -np.ones(20)], row), np.zeros(40, int))
        assert np.abs(scores).max() <= 1.0

    @pytest.mark.parametrize("labels", [["a", "a", "b"], [7, 7, 9], np.array(["a", "a", "b"], object)])
    def test_labels_may_be_text_or_numbers(self, labels):
        np.testing.assert_array_equal(pair_scores(np.eye(3), labels)[1], [True, False, False])

    @pytest.mark.parametrize(
        ("row", "value", "kind"),
        [(1, 0.0, "a zero"), (2, np.nan, "a vector with NaN"), (0, np.inf, "a vector")],
    )
    def test_first_bad_row_is_named(self, row, value, kind):
        embeddings = np.ones((4, 3))
        embeddings[row] = value
        embeddings[3] = 0.0
        with pytest.raises(ValueError, match=rf"Received: embeddings\[{row}\] is {kind}"):
            pair_scores(embeddings, np.arange(4))

    @pytest.mark.parametrize(
        ("embeddings", "labels", "message"),
        [
            (np.ones(3), np.arange(3), r"`embeddings` must have 2 .*embeddings.shape=\(3,\)"),
            (np.ones((1, 3)), [0], r"at least two rows.*\(1, 3\)"),
            (np.ones((0, 3)), [], r"at least one embedding.*\(0, 3\)"),
            (np.ones((2, 3)) * 1j, [0, 1], "real numbers.*complex128"),
            ([["x", "y"]], [0], "`embeddings` must hold real numbers"),
            (np.ones((3, 2)), [0, 1], r"`labels` must have shape \(3,\).*labels.shape=\(2,\)"),
            (np.ones((2, 2)), [0.0, np.nan], r"`labels` must be finite. Received: labels\[1\]=nan"),
            (np.ones((2, 2)), np.array(["a", None]), "`labels` must be integers or strings.*object"),
        ],
    )
    def test_bad_arguments(self, embeddings, labels, message):
        with pytest.raises(ValueError, match=message):
            pair_scores(embeddings, labels)


class TestRocCurve:
    def test_ten_pairs_by_hand(self):
        curve = roc_curve(TEN_SCORES, TEN_SAME)
        np.testing.assert_allclose(curve.far, np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6]) / 6)
        np.testing.assert_allclose(curve.tar, np.array([0, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4]) / 4)
        np.testing.assert_array_equal(curve.thresholds, [np.inf, *TEN_SCORES])
        assert (curve.num_genuine, curve.num_impostor) == (4, 6)

    @settings(deadline=None)
    @given(pairs())
    def test_against_a_loop_over_thresholds(self, data):
        scores, same = data
        curve = roc_curve(scores, same)
        thresholds, points = slow_roc(scores, same)
        assert curve.thresholds.tolist() == thresholds
        assert curve.far.tolist() == [float(far) for far, _ in points]
        assert curve.tar.tolist() == [float(tar) for _, tar in points]

    @settings(deadline=None)
    @given(pairs())
    def test_against_scikit_learn(self, data):
        scores, same = data
        curve = roc_curve(scores, same)
        far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
        np.testing.assert_allclose(curve.far, far)
        np.testing.assert_allclose(curve.tar, tar)
        np.testing.assert_array_equal(curve.thresholds, thresholds)

    @settings(deadline=None)
    @given(pairs(), st.randoms())
    def test_order_of_pairs_does_not_matter(self, data, random):
        scores, same = data
        order = list(range(scores.size))
        random.shuffle(order)
        curve, shuffled = roc_curve(scores, same), roc_curve(scores[order], same[order])
        np.testing.assert_array_equal(curve.far, shuffled.far)
        np.testing.assert_array_equal(curve.tar, shuffled.tar)
        assert equal_error_rate(scores, same) == equal_error_rate(scores[order], same[order])

    def test_all_scores_equal(self):
        curve = roc_curve([0.5] * 5, [1, 1, 0, 0, 0])
        assert curve.far.tolist() == curve.tar.tolist() == [0.0, 1.0]
        assert curve.thresholds.tolist() == [np.inf, 0.5]

    def test_is_frozen(self):
        with pytest.raises(AttributeError):
            roc_curve([1, 0], [1, 0]).far = None


class TestEqualErrorRate:
    def test_ten_pairs_by_hand(self):
        # At .6: FAR 1/6 < FRR 1/4, gap -1/12. At .5: FAR 2/6 > FRR 1/4, gap +1/12. Halfway between
        # them FAR = (1/6 + 2/6) / 2 = 1/4, and FRR is 1/4 on the whole segment.
        assert equal_error_rate(TEN_SCORES, TEN_SAME) == pytest.approx(0.25, abs=1e-15)

    def test_a_point_of_the_curve_by_hand(self):
        # 5 G and 5 I: down to .7 one of five impostors and four of five genuine pairs are accepted,
        # so FAR = FRR = 1/5 exactly there.
        scores = [0.95, 0.90, 0.80, 0.75, 0.70, 0.60, 0.50, 0.40, 0.30, 0.20]
        same = [1, 1, 0, 1, 1, 0, 1, 0, 0, 0]
        assert equal_error_rate(scores, same) == pytest.approx(0.2, abs=1e-15)

    @settings(deadline=None)
    @given(pairs())
    def test_against_a_loop_in_fractions(self, data):
        error = equal_error_rate(*data)
        assert error == pytest.approx(slow_eer(*data), abs=1e-12)
        assert 0.0 <= error <= 1.0

    @pytest.mark.parametrize(
        ("scores", "expected"), [([2, 2, 1, 1, 1], 0.0), ([1, 1, 2, 2, 2], 1.0), ([1, 1, 1, 1, 1], 0.5)]
    )
    def test_perfect_reversed_and_equal_scores(self, scores, expected):
        assert equal_error_rate(scores, [1, 1, 0, 0, 0]) == expected

    @settings(deadline=None)
    @given(pairs())
    def test_negated_scores_of_swapped_kinds_err_alike(self, data):
        scores, same = data
        assert equal_error_rate(-scores, ~same) == pytest.approx(equal_error_rate(scores, same), abs=1e-12)


class TestTarAtFar:
    @pytest.mark.parametrize(
        # floor(6 far) impostors are allowed; the next impostor score bounds the threshold from below.
        ("far", "tar", "achieved", "bound"),
        [
            (1 / 6, 3 / 4, 1 / 6, 0.5),  # 1 allowed; above .5 are .9 .8 .6 of the genuine
            (0.4, 3 / 4, 2 / 6, 0.4),  # 2.4, so 2 allowed; above .4 nothing genuine is gained
            (0.5, 1.0, 3 / 6, 0.2),  # 3 allowed; above .2 all four genuine
            (0.99, 1.0, 5 / 6, 0.0),  # 5.94, so 5 allowed
        ],
    )
    def test_ten_pairs_by_hand(self, far, tar, achieved, bound):
        result = tar_at_far(TEN_SCORES, TEN_SAME, far)
        expected = TarAtFar(tar, float(np.nextafter(bound, 1)), far, achieved, 4, 6)
        assert result == expected

    def test_everything_is_accepted_at_far_one(self):
        assert tar_at_far(TEN_SCORES, TEN_SAME, 1.0) == TarAtFar(1.0, 0.0, 1.0, 1.0, 4, 6)
        assert tar_at_far([0.1, 0.9], [1, 0], far=1) == TarAtFar(1.0, 0.1, 1.0, 1.0, 1, 1)

    @settings(deadline=None)
    @given(pairs(), st.floats(0.0, 1.0))
    def test_best_allowed_and_reproducible(self, data, position):
        scores, same = data
        smallest = 1 / np.count_nonzero(~same)
        far = float(min(1.0, smallest + position * (1 - smallest)))
        result = tar_at_far(scores, same, far)
        assert result.tar == float(slow_tar_at_far(scores, same, far))
        assert result.achieved_far <= far
        achieved, tar = rates(scores, same, result.threshold)
        assert (float(achieved), float(tar)) == (result.achieved_far, result.tar)

    @settings(deadline=None)
    @given(pairs())
    def test_tar_never_falls_with_far(self, data):
        count = np.count_nonzero(~data[1])
        results = [tar_at_far(*data, far) for far in np.linspace(1 / count, 1.0, 20)]
        assert np.all(np.diff([result.tar for result in results]) >= 0)
        assert np.all(np.diff([result.achieved_far for result in results]) >= 0)

    @settings(deadline=None)
    @given(st.integers(1, 5000), st.data())
    def test_a_rate_that_is_a_whole_number_of_impostors(self, count, data):
        # 0.29 * 100 is 28.999999999999996: all 29 must still be allowed.
        allowed = data.draw(st.integers(1, count))
        scores = np.r_[2.0 * count, np.arange(count, dtype=float)]
        result = tar_at_far(scores, np.arange(count + 1) == 0, allowed / count)
        assert result.achieved_far == allowed / count

    @pytest.mark.parametrize(("far", "count", "allowed"), [(0.01, 300, 3), (0.29, 100, 29), (0.07, 100, 7)])
    def test_float_error_in_the_product(self, far, count, allowed):
        scores = np.r_[float(count), np.arange(count)]
        assert tar_at_far(scores, np.arange(count + 1) == 0, far).achieved_far == allowed / count

    def test_ties_never_exceed(self):
        result = tar_at_far([0.9, 0.5, 0.5, 0.5, 0.5, 0.1], [1, 1, 0, 0, 0, 0], far=0.5)
        assert (result.tar, result.achieved_far) == (0.5, 0.0)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_threshold_survives_the_type_of_the_scores(self, dtype):
        scores = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1], dtype)
        threshold = tar_at_far(scores, [1, 1, 0, 0, 0, 0], far=0.5).threshold
        assert (scores >= threshold).tolist() == [True, False, False, False, False, False]
        assert (scores >= dtype(threshold)).tolist() == [True, False, False, False, False, False]

    def test_text_shows_what_it_rests_on(self):
        text = str(tar_at_far(TEN_SCORES, TEN_SAME, 0.4))
        assert "TAR=0.7500 at FAR<=0.4" in text
        assert "2 of 6 impostor pairs" in text

    def test_unresolvable_far_is_refused(self):
        message = r"`far` must be at least 1/6 = 0.167.*6 impostor pairs.*Received: far=0.001"
        with pytest.raises(ValueError, match=message):
            tar_at_far(TEN_SCORES, TEN_SAME, 0.001)

    @pytest.mark.parametrize("far", [0, 0.0, -0.1, 1.1, np.nan, np.inf, True, "0.1", None, [0.1]])
    def test_far_out_of_range(self, far):
        with pytest.raises(ValueError, match=r"`far` must be a number in \(0, 1\]. Received: far="):
            tar_at_far(TEN_SCORES, TEN_SAME, far)


@pytest.mark.parametrize("measure", [roc_curve, equal_error_rate, lambda s, g: tar_at_far(s, g, 1.0)])
@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, np.nan], [1, 0], r"`scores` must be finite. Received: scores\[1\]=nan"),
        ([np.inf, 0.1], [1, 0], r"`scores` must be finite. Received: scores\[0\]=inf"),
        ([[0.1, 0.2]], [1, 0], r"`scores` must have 1 .*scores.shape=\(1, 2\)"),
        (["a", "b"], [1, 0], "`scores` must hold real numbers"),
        ([0.1, 0.2, 0.3], [1, 0], r"`same` must have one entry.*\(3,\).*same.shape=\(2,\)"),
        ([0.1, 0.2], [1, 2], r"`same` must be boolean or 0/1. Received: same\[1\]=2"),
        ([0.1, 0.2], [np.nan, 0], r"`same` must be boolean or 0/1. Received: same\[0\]=nan"),
        ([0.1, 0.2], [1, 1], "at least one genuine and one impostor.*2 genuine and 0 impostor"),
        ([0.1, 0.2], [False, False], "0 genuine and 2 impostor"),
        ([], [], "0 genuine and 0 impostor"),
    ],
)
def test_bad_pairs(measure, scores, same, message):
    with pytest.raises(ValueError, match=message):
        measure(scores, same)


@pytest.mark.parametrize("dtype", [bool, int, np.uint8, float, object])
def test_same_may_be_zero_and_one_of_any_type(dtype):
    assert roc_curve(TEN_SCORES, TEN_SAME.astype(dtype)).num_genuine == 4
