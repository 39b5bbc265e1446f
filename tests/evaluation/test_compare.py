"""The difference of two models is taken resample by resample, on the same draws of the same subjects."""

import json

import numpy as np
import pytest

from keras_normface.evaluation import PairProtocol, evaluate_pairs, tar_at_far
from keras_normface.evaluation.bootstrap import subject_counts
from keras_normface.evaluation.compare import compare_figures, compare_pairs
from keras_normface.evaluation.figure import Figure
from keras_normface.evaluation.pair_scoring import score_pairs

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
        assert str(comparison).splitlines()[0] == "toy, old against new, 10 draws of subjects"
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
        with pytest.raises(ValueError, match="embeddings must be numbers of shape"):
            compare_pairs(protocol(), embeddings(1.0), embeddings(1.0)[1:], repeats=5)


class TestCompareFigures:
    def test_by_hand(self):
        # b - a: .1, 0, undefined, -.1; better, equal, better not: (1 + .5 + 0) / 3.
        a, b = [Figure("x", 0.5), Figure("only a", 0.5)], [Figure("x", 0.75)]
        resampled = {"x": [0.5, 0.5, np.nan, 0.5]}, {"x": [0.6, 0.5, 0.5, 0.4]}
        (difference,) = compare_figures(a, b, *resampled)
        assert (difference.a, difference.b, difference.b_better) == (0.5, 0.75, 0.5)
        assert difference.interval == pytest.approx((-0.095, 0.095))

    def test_other_resamples(self):
        figures = [Figure("x", 0.5)]
        with pytest.raises(ValueError, match="on 2 and 3 resamples"):
            compare_figures(figures, figures, {"x": [0.1] * 3}, {"x": [0.1] * 2})

    def test_nothing_in_common(self):
        with pytest.raises(ValueError, match="a resampled figure in common"):
            compare_figures([Figure("x", 0.5)], [Figure("y", 0.5)], {"x": [0.5]}, {"y": [0.5]})
