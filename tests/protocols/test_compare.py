"""The difference of two models is taken replicate by replicate, on the same resampled subjects."""

import json

import numpy as np
import pytest

from keras_normface.metrics import MetricValue, Result, tar_at_far
from keras_normface.metrics.bootstrap import Resamples, subject_counts
from keras_normface.protocols import PairProtocol, compare_pairs, compare_results, evaluate_pairs
from keras_normface.protocols.pairs import score_pairs

PEOPLE, IMAGES = 20, 3


def protocol(**changes):
    subjects = np.repeat(np.arange(PEOPLE), IMAGES)
    left, right = np.triu_indices(subjects.size, 1)
    content = {
        "name": "toy",
        "images": tuple(f"image {number}" for number in range(subjects.size)),
        "left": left,
        "right": right,
        "same": subjects[left] == subjects[right],
        "folds": np.arange(left.size) % 3,
        "subjects": subjects,
    }
    return PairProtocol(**{**content, **changes})


def embeddings(noise, seed=0):
    centres = np.random.default_rng(9).normal(size=(PEOPLE, 8))
    own = np.random.default_rng(seed).normal(size=(PEOPLE * IMAGES, 8))
    return np.repeat(centres, IMAGES, axis=0) + noise * own


class TestComparePairs:
    def test_against_drawing_the_subjects_one_by_one(self):
        pairs = protocol()
        good, bad = embeddings(0.8, 1), embeddings(1.2, 2)
        comparison = compare_pairs(pairs, bad, good, repeats=25, fars=[0.05], seed=4)
        scores = [score_pairs(pairs, each).pooled for each in (bad, good)]
        gained = []
        for counts in subject_counts(PEOPLE, 25, seed=4):
            copies = []
            for pair in range(pairs.left.size):
                a, b = pairs.subjects[pairs.left[pair]], pairs.subjects[pairs.right[pair]]
                copies += [pair] * int(counts[a] if a == b else counts[a] * counts[b])
            before, after = (tar_at_far(each[copies], pairs.same[copies], 0.05).tar for each in scores)
            gained.append(after - before)
        difference = comparison["TAR@FAR=5e-02"]
        assert difference.interval == pytest.approx(tuple(np.quantile(gained, [0.025, 0.975])))
        better = np.mean([1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in gained])
        assert difference.b_better == pytest.approx(better)

    def test_the_values_are_those_of_the_evaluation(self):
        pairs, good, bad = protocol(), embeddings(0.8), embeddings(1.5)
        comparison = compare_pairs(pairs, bad, good, pca=0.99, repeats=30)
        for which, each in (("a", bad), ("b", good)):
            result = evaluate_pairs(pairs, each, pca=0.99, intervals=False)
            assert [figure.name for figure in result.figures] == [d.name for d in comparison.differences]
            assert [figure.value for figure in result.figures] == [getattr(d, which) for d in comparison.differences]

    def test_a_clearly_better_model_and_a_smaller_error_is_better(self):
        comparison = compare_pairs(protocol(), embeddings(2.0), embeddings(0.1), repeats=100)
        for name, sign in (("accuracy", 1), ("EER", -1), ("TAR@FAR=1e-01", 1)):
            difference = comparison[name]
            assert difference.b_better == 1.0
            low, high = sorted(sign * end for end in difference.interval)
            assert 0 < low <= sign * difference.difference <= high

    def test_a_model_against_itself(self):
        comparison = compare_pairs(protocol(), embeddings(1.0), 3 * embeddings(1.0), repeats=20)
        for difference in comparison.differences:
            assert difference.interval == (0.0, 0.0)
            assert (difference.difference, difference.b_better) == (0.0, 0.5)

    def test_swapping_the_models_turns_the_signs(self):
        models = embeddings(1.5), embeddings(1.0)
        ours = compare_pairs(protocol(), *models, repeats=40)
        theirs = compare_pairs(protocol(), *models[::-1], repeats=40)
        for a, b in zip(ours.differences, theirs.differences, strict=True):
            assert a.difference == -b.difference
            assert a.interval == pytest.approx((-b.interval[1], -b.interval[0]), abs=1e-12)
            assert a.b_better == pytest.approx(1.0 - b.b_better)

    def test_paired_draws_are_narrower_than_those_of_each_model(self):
        # Two models that agree about nearly everything: much of what sways one sways the other.
        first = embeddings(1.2)
        second = first + 0.1 * np.random.default_rng(5).normal(size=first.shape)
        comparison = compare_pairs(protocol(), first, second, repeats=200)
        alone = evaluate_pairs(protocol(), first, repeats=200)["accuracy"].interval
        low, high = comparison["accuracy"].interval
        assert high - low < 0.7 * (alone[1] - alone[0])

    def test_text_json_and_what_was_drawn(self):
        comparison = compare_pairs(protocol(), embeddings(2.0), embeddings(0.1), models=("old", "new"), repeats=10)
        assert str(comparison).splitlines()[0] == "toy, old against new, 10 bootstrap replicates of subjects"
        assert "second better in" in str(comparison["EER"])
        assert json.loads(json.dumps(comparison.to_dict()))["differences"][0]["name"] == "accuracy"
        unknown = compare_pairs(protocol(subjects=None), embeddings(2.0), embeddings(0.1), repeats=10)
        assert unknown.resampled == "pairs"
        with pytest.raises(KeyError, match=r"no figure 'rank-1'; there are \['accuracy', 'EER'"):
            comparison["rank-1"]

    def test_models_of_different_dimensions(self):
        wide = np.concatenate([embeddings(1.0)] * 2, axis=1)
        assert compare_pairs(protocol(), embeddings(1.0), wide, repeats=5)["EER"].difference == pytest.approx(0.0)

    def test_errors_of_either_model(self):
        with pytest.raises(ValueError, match="`embeddings` must be numbers of shape"):
            compare_pairs(protocol(), embeddings(1.0), embeddings(1.0)[1:], repeats=5)


def result(values, draws=None, *, protocol="toy", seed=0, drawn="subjects", counts=4):
    """Figures by name; and their values on the draws, or no draws at all."""
    resamples = None
    if draws is not None:
        resamples = Resamples(drawn, max((len(each) for each in draws.values()), default=9), seed)
        for name, each in draws.items():
            resamples.keep(name, each)
    figures = tuple(MetricValue(name, value, note="some note") for name, value in values.items())
    return Result(protocol, figures, {"pairs": counts}, resamples=resamples)


class TestCompareResults:
    def test_by_hand(self):
        # b - a: .1, 0, undefined, -.1; better, equal, better not: (1 + .5 + 0) / 3.
        a = result({"x": 0.5, "only a": 0.5}, {"x": [0.5, 0.5, np.nan, 0.5]})
        comparison = compare_results(a, result({"x": 0.75}, {"x": [0.6, 0.5, 0.5, 0.4]}), ("old", "new"))
        (difference,) = comparison.differences
        assert (difference.a, difference.b, difference.b_better) == (0.5, 0.75, 0.5)
        assert difference.interval == pytest.approx((-0.095, 0.095))
        assert (comparison.resampled, comparison.repeats, comparison.seed) == ("subjects", 4, 0)
        assert str(difference).endswith("second better in 50.0 %; some note")

    def test_a_figure_without_draws_has_no_interval(self):
        draws = {"x": [0.5] * 4}
        comparison = compare_results(result({"x": 0.5, "y": 0.25}, draws), result({"x": 0.5, "y": 0.5}, draws))
        assert comparison["x"].interval == (0.0, 0.0)
        assert (comparison["y"].interval, comparison["y"].b_better) == (None, None)
        assert str(comparison["y"]) == "y 25.00 % and 50.00 %, difference +25.00 %; some note"

    @pytest.mark.parametrize("draws", [(None, None), ({"x": [0.5]}, None), (None, {"x": [0.5]}), ({}, {})])
    def test_without_draws_the_text_says_so(self, draws):
        comparison = compare_results(*(result({"x": 0.5}, each) for each in draws))
        assert str(comparison).splitlines()[0] == "toy, a against b, without intervals of the differences"
        assert json.loads(json.dumps(comparison.to_dict()))["repeats"] == 0

    def test_draws_that_hardly_define_a_figure(self):
        # Each is defined on half of the draws, both together on none.
        a, b = [0.5, 0.5, np.nan, np.nan], [np.nan, np.nan, 0.5, 0.5]
        assert compare_results(result({"x": 0.5}, {"x": a}), result({"x": 0.5}, {"x": b}))["x"].interval is None

    @pytest.mark.parametrize("other", [{"seed": 1}, {"drawn": "pairs"}, {"draws": {"x": [0.1] * 2}}])
    def test_other_draws(self, other):
        second = result({"x": 0.5}, **{"draws": {"x": [0.1] * 3}, **other})
        with pytest.raises(ValueError, match="on the bootstrap replicates of result_a"):
            compare_results(result({"x": 0.5}, {"x": [0.1] * 3}), second)

    @pytest.mark.parametrize("other", [{"protocol": "another"}, {"counts": 5}])
    def test_another_protocol(self, other):
        with pytest.raises(ValueError, match="of the protocol of result_a"):
            compare_results(result({"x": 0.5}), result({"x": 0.5}, **other))

    def test_nothing_in_common(self):
        with pytest.raises(ValueError, match="a figure in common"):
            compare_results(result({"x": 0.5}), result({"y": 0.5}))

    def test_a_stored_result_has_no_draws(self):
        first = result({"x": 0.5}, {"x": [0.5] * 4})
        again = Result.from_json(first.to_json())
        assert again.resamples is None
        assert again.to_json() == first.to_json()
        assert compare_results(first, again)["x"].interval is None

    def test_draws_of_another_number_or_kind(self):
        with pytest.raises(ValueError, match="one for each of 3 replicates"):
            Resamples("subjects", 3, 0).keep("x", [0.5])
        with pytest.raises(ValueError, match="`repeats` must be"):
            Resamples("subjects", 0, 0)
        with pytest.raises(ValueError, match="`resamples` must be Resamples"):
            Result("toy", (), {}, resamples={"x": [0.5]})
