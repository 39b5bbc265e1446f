"""The calibrated threshold is that of TAR@FAR, its interval that of thresholds on draws written out, and it is kept."""

import json

import numpy as np
import pytest

from keras_normface._threshold import CalibratedThreshold
from keras_normface.metrics import calibrate_threshold, tar_at_far
from keras_normface.metrics.bootstrap import subject_counts


def people(count=12, images=3, seed=0):
    """Cosines with ties of all pairs of `count` people."""
    subjects = np.repeat(np.arange(count), images)
    left, right = (subjects[side] for side in np.triu_indices(subjects.size, 1))
    same = left == right
    scores = np.round(np.clip(0.2 * np.random.default_rng(seed).normal(size=same.size) + 0.5 * same, -1, 1), 2)
    return scores, same, left, right


class TestValue:
    def test_ten_pairs_by_hand(self):
        # Falling: .9 G .8 G .7 I .6 G .5 I .4 I .3 G .2 I .1 I .0 I. One impostor of six may pass, so everything above
        # .5 does: .9 G, .8 G, .7 I, .6 G.
        scores, same = np.arange(9, -1, -1) / 10, np.array([1, 1, 0, 1, 0, 0, 1, 0, 0, 0])
        threshold = calibrate_threshold(scores, same, 1 / 6, protocol="ten pairs", repeats=50)
        assert threshold.cosine == np.nextafter(0.5, 1.0)
        assert threshold.squared_distance == pytest.approx(1.0)
        assert (threshold.achieved_far, threshold.tar) == (1 / 6, 3 / 4)
        assert (threshold.num_genuine, threshold.num_impostor, threshold.far) == (4, 6, 1 / 6)

    @pytest.mark.parametrize("far", [0.004, 0.05, 0.5, 1.0])
    def test_as_tar_at_far(self, far):
        scores, same, left, right = people()
        threshold = calibrate_threshold(
            scores, same, far, left_subjects=left, right_subjects=right, protocol="p", repeats=9
        )
        point = tar_at_far(scores, same, far)
        assert (threshold.cosine, threshold.tar, threshold.achieved_far) == (
            point.threshold,
            point.tar,
            point.achieved_far,
        )
        assert np.mean(scores[~same] >= threshold.cosine) == threshold.achieved_far <= far

    def test_float32_scores_step_in_float32(self):
        scores, same, *_ = people()
        threshold = calibrate_threshold(scores.astype("f"), same, 0.01, protocol="p", repeats=9)
        assert np.float32(threshold.cosine) == threshold.cosine


class TestInterval:
    @pytest.mark.parametrize("far", [0.01, 0.1, 1.0])
    def test_against_the_draws_written_out(self, far):
        scores, same, left, right = people()
        threshold = calibrate_threshold(
            scores, same, far, left_subjects=left, right_subjects=right, protocol="p", repeats=40, seed=2
        )
        chosen = []
        for counts in subject_counts(12, 40, seed=2):
            copies = []
            for pair in range(scores.size):
                times = counts[left[pair]] if same[pair] else counts[left[pair]] * counts[right[pair]]
                copies += [pair] * int(times)
            # All of the impostors of a draw may pass at FAR 1, and then all pairs there are.
            chosen.append(tar_at_far(scores[copies], same[copies], far).threshold if far < 1 else scores.min())
        assert threshold.interval == pytest.approx(tuple(np.quantile(chosen, [0.025, 0.975])), abs=1e-15)
        assert threshold.resampled == "subjects"

    def test_without_subjects_pairs_are_drawn(self):
        scores, same, *_ = people()
        threshold = calibrate_threshold(scores, same, 0.05, protocol="p", repeats=50)
        assert threshold.resampled == "pairs"
        low, high = threshold.interval
        assert low <= threshold.cosine <= high
        left, right = people()[2:]
        left[3] = -1
        unknown = calibrate_threshold(
            scores, same, 0.05, left_subjects=left, right_subjects=right, protocol="p", repeats=50
        )
        assert unknown == threshold

    def test_names_may_be_text_and_order_does_not_matter(self):
        scores, same, left, right = people()
        order = np.random.default_rng(1).permutation(scores.size)
        by_number, by_name = (
            calibrate_threshold(
                scores[rows], same[rows], 0.05, left_subjects=a[rows], right_subjects=b[rows], protocol="p", repeats=30
            )
            for rows, a, b in (
                (slice(None), left, right),
                (order, np.char.mod("n%02d", right), np.char.mod("n%02d", left)),
            )
        )
        assert by_number == by_name


class TestJson:
    def test_round_trip_names_cosine_and_distance(self):
        threshold = calibrate_threshold(*people()[:2], 0.05, protocol="own pairs", repeats=20)
        assert CalibratedThreshold.from_json(threshold.to_json()) == threshold
        content = json.loads(threshold.to_json())
        assert content["squared_distance"] == 2 - 2 * content["cosine"]
        assert str(threshold).startswith("own pairs: accept when cosine >= ")
        assert "squared distance <= " in str(threshold)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("format", "x"),
            ("version", 2),
            ("cosine", 2.0),
            ("cosine", "0.5"),
            ("cosine", None),
            ("squared_distance", 0.25),
            ("squared_distance", None),
            ("interval", [0.1]),
            ("interval", [0.1, float("nan")]),
            ("interval", [0.2, 0.1]),
            ("interval", [-(10**400), 0.1]),
            ("cosine", 10**400),
            ("squared_distance", 10**400),
            ("far", -1),
            ("num_impostor", 0),
            ("num_genuine", 2.5),
            ("protocol", ""),
            ("resampled", "sheep"),
            ("extra", 1),
        ],
    )
    def test_damaged(self, key, value):
        content = json.loads(calibrate_threshold(*people()[:2], 0.05, protocol="p", repeats=20).to_json())
        content[key] = value
        with pytest.raises(ValueError, match=r"Received|not valid JSON"):
            CalibratedThreshold.from_json(json.dumps(content))

    @pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100000, b"\xff"])
    def test_no_json(self, text):
        with pytest.raises(ValueError, match=r"not valid JSON|dictionary|`format`"):
            CalibratedThreshold.from_json(text)


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"far": 1e-9}, r"1/594.*Received: far=1e-09"),
            ({"scores": np.r_[np.nan, people()[0][1:]]}, r"scores\[0\]=nan"),
            ({"scores": 2 + people()[0]}, r"`scores` must be cosines"),
            ({"same": np.ones(630, bool)}, "630 genuine and 0 impostor"),
            ({"right_subjects": None}, "given both or not at all"),
            ({"left_subjects": people()[3]}, r"differ in impostor pairs|equal in genuine pairs"),
            ({"left_subjects": people()[2][1:]}, r"`left_subjects` must have shape \(630,\)"),
            ({"repeats": 0}, "`repeats` must be a positive integer"),
            ({"protocol": ""}, "`protocol` must say what the pairs were"),
        ],
    )
    def test_bad_arguments(self, changes, message):
        scores, same, left, right = people()
        arguments = {"scores": scores, "same": same, "far": 0.05, "left_subjects": left, "right_subjects": right}
        with pytest.raises(ValueError, match=message):
            calibrate_threshold(**{"protocol": "p", "repeats": 5, **arguments, **changes})
