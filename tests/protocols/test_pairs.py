"""Pairs in folds against loops over folds, pairs and eigenvectors, and against thresholds planted to mislead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics import cross_validated_accuracy, equal_error_rate, tar_at_far
from keras_normface.metrics.projection import fitted_projection
from keras_normface.protocols import PairProtocol, evaluate_pairs
from keras_normface.protocols.pairs import flip_fused, score_pairs


def keys(count):
    return tuple(f"image {number}" for number in range(count))


def toy(people=12, images=4, folds=3, seed=0, **changes):
    """`people` of `images` images each, all pairs inside the folds, whose people are disjoint."""
    subjects = np.repeat(np.arange(people), images)
    left, right = np.triu_indices(people * images, 1)
    inside = subjects[left] % folds == subjects[right] % folds
    left, right = left[inside], right[inside]
    content = {
        "name": "toy, three folds",
        "images": keys(people * images),
        "left": left,
        "right": right,
        "same": subjects[left] == subjects[right],
        "folds": subjects[left] % folds,
        "subjects": subjects,
    }
    centres = np.random.default_rng(seed).normal(size=(people, 6))
    noise = np.random.default_rng(seed + 1).normal(size=(people * images, 6))
    return PairProtocol(**{**content, **changes}), centres[subjects] + 0.7 * noise


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


def slow_scores(protocol, features, center, pca):
    """(F, P): one fold after the other, PCA by singular values, one pair after the other."""
    rows = []
    for fold in sorted(set(protocol.folds.tolist())):
        images = set()
        for pair in range(len(protocol.left)):
            if protocol.folds[pair] != fold:
                images |= {int(protocol.left[pair]), int(protocol.right[pair])}
        seen = features[sorted(images)]
        projected = features
        if center or pca is not None:
            projected = features - seen.mean(axis=0)
        if pca is not None:
            _, lengths, directions = np.linalg.svd(seen - seen.mean(axis=0))
            share, kept = 0.0, 0
            while share < pca - 1e-12:
                share += lengths[kept] ** 2 / (lengths**2).sum()
                kept += 1
            projected = projected @ directions[:kept].T
        rows.append([cosine(projected[i], projected[j]) for i, j in zip(protocol.left, protocol.right, strict=True)])
    return np.array(rows)


class TestScores:
    @pytest.mark.parametrize(("center", "pca"), [(False, None), (True, None), (False, 0.9), (True, 0.6), (False, 1.0)])
    def test_against_loops(self, center, pca):
        protocol, embeddings = toy()
        rows = slow_scores(protocol, embeddings, center, pca)
        scores = score_pairs(protocol, embeddings, center=center, pca=pca)
        np.testing.assert_allclose(np.broadcast_to(scores.rows, rows.shape), rows, atol=1e-12)
        own = [rows[fold, pair] for pair, fold in enumerate(protocol.folds)]
        np.testing.assert_allclose(scores.pooled, own, atol=1e-12)
        expected = cross_validated_accuracy(rows, protocol.same, folds=protocol.folds)
        result = evaluate_pairs(protocol, embeddings, center=center, pca=pca, intervals=False)
        assert result["accuracy"].value == pytest.approx(expected.mean)
        assert result["accuracy"].spread == pytest.approx(expected.standard_error)

    def test_a_folds_own_images_do_not_move_its_mean_or_pca(self):
        protocol, embeddings = toy()
        moved = embeddings + 0.0
        own = np.unique(protocol.left[protocol.folds == 1])[0]
        moved[own] *= -3.0
        others = (protocol.left != own) & (protocol.right != own)
        before, after = (score_pairs(protocol, rows, pca=0.9).rows for rows in (embeddings, moved))
        np.testing.assert_array_equal(before[1][others], after[1][others])
        assert (before[0][others] != after[0][others]).any()

    def test_least_number_of_components(self):
        # Variances 6, 3 and 1 along the axes: shares .6, .9 and 1.
        spread = np.sqrt([6.0, 3.0, 1.0])
        features = np.concatenate([np.diag(spread), -np.diag(spread)]) + 5.0
        for share, kept in [(0.5, 1), (0.59, 1), (0.61, 2), (0.89, 2), (0.91, 3), (1.0, 3)]:
            projection = fitted_projection(features, share)
            assert projection.components.shape == (3, kept)
            np.testing.assert_allclose(projection.mean, 5.0)
        np.testing.assert_allclose(np.abs(fitted_projection(features, 0.5).components[:, 0]), [1, 0, 0], atol=1e-12)

    @pytest.mark.parametrize("flip", ["sum", "concatenate", "maximum"])
    def test_flip_by_hand(self, flip):
        expected = {"sum": [[3, 1]], "concatenate": [[1, 2, 2, -1]], "maximum": [[2, 2]]}[flip]
        assert flip_fused([[1.0, 2.0]], [[2.0, -1.0]], flip, 1).tolist() == expected

    def test_fusion_reaches_the_figures(self):
        protocol, embeddings = toy()
        mirrored = np.roll(embeddings, 1, axis=1) * 0.5
        for flip, features in [
            ("sum", embeddings + mirrored),
            ("concatenate", np.concatenate([embeddings, mirrored], axis=1)),
            ("maximum", np.maximum(embeddings, mirrored)),
        ]:
            ours = evaluate_pairs(protocol, embeddings, mirrored, flip=flip, intervals=False)
            assert ours.figures == evaluate_pairs(protocol, features, intervals=False).figures
            assert ours.settings["flip"] == flip
        assert evaluate_pairs(protocol, embeddings, intervals=False).settings["flip"] == "none"

    def test_precision_and_range(self):
        protocol, embeddings = toy()
        exact = score_pairs(protocol, embeddings).pooled
        for factor, dtype, tolerance in [(1e-200, float, 1e-14), (1e200, float, 1e-14), (1e30, "f", 1e-6)]:
            scores = score_pairs(protocol, (embeddings * factor).astype(dtype)).pooled
            np.testing.assert_allclose(scores, exact, atol=tolerance)

    def test_blocks_do_not_matter(self, monkeypatch):
        protocol, embeddings = toy()
        whole = [score_pairs(protocol, embeddings, pca=pca).rows for pca in (None, 0.9)]
        monkeypatch.setattr("keras_normface.protocols.pairs._BLOCK_ROWS", 7)
        monkeypatch.setattr("keras_normface.metrics.projection._BLOCK_ROWS", 7)
        parts = [score_pairs(protocol, embeddings, pca=pca).rows for pca in (None, 0.9)]
        np.testing.assert_array_equal(whole[0], parts[0])
        np.testing.assert_allclose(whole[1], parts[1], atol=1e-12)


class TestProtocolOfLfw:
    def test_ten_pairs_by_hand(self):
        # Two folds of five pairs, as vectors (c, sqrt(1 - c^2)) beside (1, 0), so that the cosines are
        #   fold 0: .9 G, .7 G, .5 I, .3 G, .1 I      fold 1: .8 G, .6 I, .4 G, .2 I, .0 I
        # but with .51 and .41 for .5 and .4, so that no score meets a threshold. Fold 1 gets four of five right at
        # (.6 + .8) / 2 = .7 and at (.2 + .41) / 2 = .305, of mean .5025: in fold 0 it errs on .51 I and .3 G, 3/5.
        # Fold 0 does at (.51 + .7) / 2 = .605 and (.1 + .3) / 2 = .2, of mean .4025: wrong about .6 I only, 4/5.
        cosines = np.array([0.9, 0.7, 0.51, 0.3, 0.1, 0.8, 0.6, 0.41, 0.2, 0.0])
        embeddings = np.concatenate([[[1.0, 0.0]], np.c_[cosines, np.sqrt(1 - cosines**2)]])
        protocol = PairProtocol(
            "ten pairs",
            keys(11),
            np.zeros(10, int),
            np.arange(1, 11),
            [1, 1, 0, 1, 0, 1, 0, 1, 0, 0],
            [0] * 5 + [1] * 5,
        )
        result = evaluate_pairs(protocol, embeddings, fars=[0.2], intervals=False)
        assert result.settings["fold_accuracies"] == [0.6, 0.8]
        np.testing.assert_allclose(result.settings["fold_thresholds"], [0.5025, 0.4025])
        assert result["accuracy"].value == pytest.approx(0.7)
        assert result["accuracy"].spread == pytest.approx(0.1)
        assert result["accuracy"].spread_of == "standard error of two folds"
        # Falling: .9 G .8 G .7 G .6 I .51 I .41 G .3 G .2 I .1 I .0 I. FAR 1/5 admits .6, and so 3 of 5 genuine. The
        # error rates are 0 and 2/5 above .6, 1/5 and 2/5 at .6, 2/5 and 2/5 at .51.
        assert result["TAR@FAR=2e-01"].value == 3 / 5
        assert result["EER"].value == pytest.approx(2 / 5)

    def test_a_fold_that_only_its_own_threshold_would_solve(self):
        # Nine folds with genuine pairs at .9 and impostors at .6; fold 0 with genuine pairs at .1 and impostors at -.1.
        cosines = np.tile([0.9, 0.6], 10)
        cosines[:2] = 0.1, -0.1
        embeddings = np.concatenate([[[1.0, 0.0]], np.c_[cosines, np.sqrt(1 - cosines**2)]])
        protocol = PairProtocol(
            "planted", keys(21), np.zeros(20, int), np.arange(1, 21), np.tile([1, 0], 10), np.arange(20) // 2
        )
        result = evaluate_pairs(protocol, embeddings, intervals=False)
        assert result.settings["fold_accuracies"] == [0.5] + [1.0] * 9
        np.testing.assert_allclose(result.settings["fold_thresholds"], 0.75)

    def test_threshold_and_projection_know_nothing_of_the_folds_own_labels(self):
        protocol, embeddings = toy()
        own = np.flatnonzero(protocol.folds == 2)
        flipped = protocol.same.copy()
        flipped[own] = ~flipped[own]
        lying = PairProtocol(protocol.name, protocol.images, protocol.left, protocol.right, flipped, protocol.folds)
        before, after = (evaluate_pairs(each, embeddings, pca=0.9, intervals=False) for each in (protocol, lying))
        assert before.settings["fold_thresholds"][2] == after.settings["fold_thresholds"][2]
        assert before.settings["fold_accuracies"][2] == pytest.approx(1 - after.settings["fold_accuracies"][2])

    def test_all_pairs_figures_say_where_their_threshold_is_from(self):
        protocol, embeddings = toy()
        result = evaluate_pairs(protocol, embeddings, fars=(0.05, 0.5), intervals=False)
        scores = score_pairs(protocol, embeddings).pooled
        assert result["EER"].value == equal_error_rate(scores, protocol.same)
        point = tar_at_far(scores, protocol.same, 0.05)
        assert (result["TAR@FAR=5e-02"].value, result["TAR@FAR=5e-02"].threshold) == (point.tar, point.threshold)
        for name in ("EER", "TAR@FAR=5e-02", "TAR@FAR=5e-01"):
            assert "threshold taken on the pairs themselves" in result[name].note
        assert result["accuracy"].note == ""
        assert result.curves["all pairs"].num_impostor == result.counts["impostor"]

    def test_equal_scores(self):
        protocol, _ = toy()
        result = evaluate_pairs(protocol, np.ones((48, 2)), intervals=False)
        impostor = result.counts["impostor"] / result.counts["pairs"]
        assert result["accuracy"].value == pytest.approx(impostor)
        assert result["EER"].value == 0.5


@pytest.mark.parametrize(("pca", "wanted"), [(None, 1), (0.9, 1 + 3)])
def test_scores_are_sorted_once(monkeypatch, pca, wanted):
    # One order for the folds, the curve and each bootstrap replicate; with a PCA for each of three folds, three more.
    protocol, embeddings = toy()
    sorts = []

    def counted(sort):
        return lambda values, *args, **kw: sorts.append(np.size(values) >= 20) or sort(values, *args, **kw)

    wrong = np.flatnonzero(~protocol.same)
    for name in ("sort", "argsort", "lexsort", "partition"):
        monkeypatch.setattr(np, name, counted(getattr(np, name)))
    result = evaluate_pairs(protocol, embeddings, pca=pca, fars=(0.05, 0.5), repeats=50)
    assert wrong.size > 20
    assert sum(sorts) == wanted
    assert len(result.resamples.values) == 4


class TestFars:
    def test_a_far_that_cannot_be_resolved_is_refused_with_both_numbers(self):
        protocol, embeddings = toy()
        impostor = int((~protocol.same).sum())
        with pytest.raises(ValueError, match=rf"`fars` .*1/{impostor} = .*Received: fars=1e-09"):
            evaluate_pairs(protocol, embeddings, fars=(0.1, 1e-9))

    def test_one_rate_may_come_alone(self):
        protocol, embeddings = toy()
        alone, listed = (evaluate_pairs(protocol, embeddings, fars=fars, intervals=False) for fars in (0.1, [0.1]))
        assert alone["TAR@FAR=1e-01"] == listed["TAR@FAR=1e-01"]

    def test_default_rates_are_those_that_can_be(self):
        protocol, embeddings = toy()
        result = evaluate_pairs(protocol, embeddings, intervals=False)
        assert 100 <= result.counts["impostor"] < 1000
        assert [figure.name for figure in result.figures] == ["accuracy", "EER", "TAR@FAR=1e-01", "TAR@FAR=1e-02"]


class TestIntervals:
    def test_they_are_seeded_and_hold_the_value(self):
        protocol, embeddings = toy()
        first, again = (evaluate_pairs(protocol, embeddings, repeats=200) for _ in range(2))
        assert first.figures == again.figures
        other = evaluate_pairs(protocol, embeddings, repeats=200, seed=1)
        assert other.figures != first.figures
        for figure in first.figures:
            low, high = figure.interval
            assert 0.0 <= low <= figure.value <= high <= 1.0
        assert first.settings["resampled"] == "subjects"
        assert first.settings["repeats"] == 200

    def test_drawing_pairs_is_said(self):
        protocol, embeddings = toy(subjects=None)
        result = evaluate_pairs(protocol, embeddings, repeats=50)
        assert all("interval by resampling pairs" in figure.note for figure in result.figures)
        assert result.settings["resampled"] == "pairs"
        assert "subjects" not in result.counts
        known = evaluate_pairs(toy()[0], embeddings, repeats=50)
        assert all("resampling pairs" not in figure.note for figure in known.figures)
        # Subjects share pairs, so that resampling pairs claims too much.
        widths = [np.subtract(*one["accuracy"].interval) for one in (known, result)]
        assert widths[0] < widths[1] < 0

    def test_none_when_not_wanted(self):
        result = evaluate_pairs(*toy(), intervals=False)
        assert all(figure.interval is None for figure in result.figures)


class TestProperties:
    @settings(deadline=None, max_examples=15)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.9]))
    def test_order_of_pairs_and_sides_do_not_matter(self, seed, pca):
        protocol, embeddings = toy()
        rng = np.random.default_rng(seed)
        order, swap = rng.permutation(protocol.left.size), rng.random(protocol.left.size) < 0.5
        left, right = protocol.left[order], protocol.right[order]
        moved = PairProtocol(
            protocol.name,
            protocol.images,
            np.where(swap, right, left),
            np.where(swap, left, right),
            protocol.same[order],
            protocol.folds[order],
            protocol.subjects,
        )
        first, second = (evaluate_pairs(each, embeddings, pca=pca, repeats=20) for each in (protocol, moved))
        assert first.figures == second.figures
        assert first.counts == second.counts

    def test_order_of_images_does_not_matter(self):
        protocol, embeddings = toy()
        order = np.random.default_rng(3).permutation(48)
        places = np.argsort(order)
        moved = PairProtocol(
            protocol.name,
            tuple(protocol.images[k] for k in order),
            places[protocol.left],
            places[protocol.right],
            protocol.same,
            protocol.folds,
            protocol.subjects[order],
        )
        first, second = evaluate_pairs(protocol, embeddings), evaluate_pairs(moved, embeddings[order])
        assert first.figures == second.figures

    def test_the_same_image_on_both_sides(self):
        protocol = PairProtocol("self", keys(3), [0, 0, 1, 1], [0, 2, 1, 2], [1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 2])
        embeddings = np.random.default_rng(0).normal(size=(3, 512)).astype("float32")
        assert score_pairs(protocol, embeddings).pooled.max() <= 1.0
        assert evaluate_pairs(protocol, embeddings, repeats=20)["accuracy"].value == 1.0


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"images": ("a", "a")}, "`images` must hold each key once"),
            ({"left": [0, 9]}, r"`left` must lie in 0..2. Received: left\[1\]=9"),
            ({"right": [0, -1]}, r"`right` must lie in 0..2. Received: right\[1\]=-1"),
            ({"right": [1]}, "must have one entry for each of the 2 of left"),
            ({"same": [True, 2]}, r"`right` and `same` \(0 or 1\)"),
            ({"same": [True, True]}, "2 genuine and 0 impostor pairs"),
            ({"same": [False, False]}, "0 genuine and 2 impostor pairs"),
            ({"folds": [0, 1, 2]}, r"`folds` must have shape \(2,\)"),
            ({"subjects": [0, 0]}, "`subjects` must be a list of integers of 3 entries"),
            ({"subjects": [0, 0, 0]}, r"differ in impostor pairs. Received: same\[1\]=False for subjects 0 and 0"),
            ({"subjects": [0, 1, 2]}, r"equal in genuine pairs.*same\[0\]=True for subjects 0 and 1"),
        ],
    )
    def test_bad_protocols(self, changes, message):
        content = {"name": "n", "images": keys(3), "left": [0, 0], "right": [1, 2], "same": [1, 0], "folds": [0, 1]}
        with pytest.raises(ValueError, match=message):
            PairProtocol(**{**content, **changes})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"embeddings": np.ones((47, 2))}, r"`embeddings` must be numbers of shape \(48, D\).*\(47, 2\)"),
            ({"embeddings": np.ones((48, 2), complex)}, "dtype=complex128"),
            ({"row": np.nan}, "`embeddings` must be finite and nonzero.*row 31 is NaN or infinite"),
            ({"row": np.inf}, "row 31 is NaN or infinite"),
            ({"row": 0.0}, "row 31 is zero"),
            ({"mirrored": np.ones((48, 5))}, r"`mirrored` must have shape \(48, 6\)"),
            ({"mirrored": np.ones((48, 6)), "flip": "mean"}, r"`flip` must be one of.*flip='mean'"),
            ({"mirrored": np.ones((48, 6)), "flip": None}, r"`flip` must be one of.*flip=None"),
            ({"flip": "maximum"}, "`mirrored` must be given for `flip`"),
            ({"pca": 0.0}, r"`pca` must be None or a share in \(0, 1\]. Received: pca=0.0"),
            ({"pca": True}, "`pca` must be None or a share"),
            ({"fars": (0.1, 0.1)}, "`fars` must hold each rate once"),
            ({"fars": (0.0,)}, r"`fars` must be a number in \(0, 1\]"),
            ({"fars": ("0.1",)}, r"`fars` must be a number in \(0, 1\]. Received: fars='0.1'"),
            ({"fars": 2}, r"`fars` must be a number in \(0, 1\]. Received: fars=2"),
            ({"repeats": 0}, "`repeats` must be a positive integer"),
            ({"seed": -1}, "`seed` must be a non-negative integer"),
            ({"embeddings": np.ones((48, 2)), "pca": 0.9}, "`embeddings` must vary"),
            ({"embeddings": np.ones((48, 2)), "center": True}, "embeddings as projected for fold 0.*row 0 is zero"),
        ],
    )
    def test_bad_arguments(self, change, message):
        protocol, embeddings = toy()
        change = dict(change)
        if "row" in change:
            embeddings[31] = change.pop("row")
        arguments = {"embeddings": embeddings, **change}
        with pytest.raises(ValueError, match=message):
            evaluate_pairs(protocol, **arguments)

    def test_mirrored_rows_that_cancel(self):
        protocol, embeddings = toy()
        mirrored = embeddings.copy()
        mirrored[5] *= -1
        with pytest.raises(ValueError, match=r"`fused embeddings` must be finite and nonzero.*row 5 is zero"):
            evaluate_pairs(protocol, embeddings, mirrored)


def test_one_fold_gives_all_but_the_accuracy():
    protocol, embeddings = toy(folds=1)
    result = evaluate_pairs(protocol, embeddings, repeats=20)
    scores = score_pairs(protocol, embeddings).pooled
    assert [figure.name for figure in result.figures][:2] == ["EER", "TAR@FAR=1e-01"]
    assert result["EER"].value == equal_error_rate(scores, protocol.same)
    assert result["EER"].interval[0] <= result["EER"].value <= result["EER"].interval[1]
    assert len(result.settings["fold_accuracies"]) == 0
    for options in ({"center": True}, {"pca": 0.9}):
        with pytest.raises(ValueError, match="`center` and `pca`"):
            evaluate_pairs(protocol, embeddings, **options)
