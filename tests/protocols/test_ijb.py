"""IJB's figures against loops over pairs, galleries and probes."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve as sklearn_roc

from keras_normface.protocols import GallerySearch, TemplatePairs, TemplateProtocol, evaluate_ijb
from keras_normface.protocols.ijb import fewest_non_mated
from tests.support.evaluation_oracle import cosine, exact_rows, rank_of, rate_at

TEMPLATES = 40


def random_protocol(rng, splits=1, galleries=2):
    """One image a template, so that cosines stay exact; templates 100, 101, ..."""
    subjects = rng.integers(0, 12, size=TEMPLATES)
    pairs, searches = [], []
    for _ in range(splits):
        left, right = rng.integers(0, TEMPLATES, size=(2, 300))
        pairs.append(TemplatePairs(100 + left, 100 + right, subjects[left] == subjects[right]))
        people = rng.permutation(12)
        split = []
        for part in np.array_split(people[:9], galleries):
            gallery = np.concatenate([np.flatnonzero(subjects == p)[: 1 + (p == part[0])] for p in part])
            split.append(GallerySearch(100 + gallery, 100 + np.setdiff1d(np.arange(TEMPLATES), gallery)))
        searches.append(tuple(split))
    images = tuple(f"i{n}" for n in range(TEMPLATES))
    ids = 100 + np.arange(TEMPLATES)
    return TemplateProtocol(
        "random", images, np.arange(TEMPLATES), ids, np.zeros(TEMPLATES, int), subjects, tuple(pairs), tuple(searches)
    )


def slow_verification(rows, pairs, far):
    scores = [cosine(rows[a - 100], rows[b - 100]) for a, b in zip(pairs.left, pairs.right, strict=True)]
    genuine = [score for score, same in zip(scores, pairs.same, strict=True) if same]
    impostor = [score for score, same in zip(scores, pairs.same, strict=True) if not same]
    return rate_at(genuine, impostor, far)


def slow_search(rows, subjects, search):
    """(score, rank) of each mated probe's best mate, and the highest score of each non-mated probe."""
    mated, strangers = [], []
    for probe in search.probes - 100:
        own = [cosine(rows[probe], rows[g]) for g in search.gallery - 100 if subjects[g] == subjects[probe]]
        others = [cosine(rows[probe], rows[g]) for g in search.gallery - 100 if subjects[g] != subjects[probe]]
        if own:
            mated.append((max(own), rank_of(max(own), others)))
        else:
            strangers.append(max(others))
    return mated, strangers


def mean_and_deviation(values):
    return np.mean(values), np.std(values, ddof=1) if len(values) > 1 else None


@pytest.mark.parametrize(("splits", "galleries"), [(1, 1), (1, 2), (10, 1), (3, 2)])
def test_against_loops_with_ties(splits, galleries):
    rng = np.random.default_rng(splits + galleries)
    protocol = random_protocol(rng, splits, galleries)
    rows = exact_rows(rng, TEMPLATES)
    rows[:, :8] = exact_rows(rng, 12)[protocol.template_subjects, :8]
    result = evaluate_ijb(protocol, rows, fars=(0.3, 0.05), fpirs=(0.5, 0.2), ranks=(1, 4), intervals=False)
    expected = {}
    for far, name in ((0.3, "TAR@FAR=3e-01"), (0.05, "TAR@FAR=5e-02")):
        expected[name] = [slow_verification(rows, pairs, far) for pairs in protocol.pairs]
    searched = [[slow_search(rows, protocol.template_subjects, s) for s in split] for split in protocol.searches]
    for rank in (1, 4):
        expected[f"rank-{rank}"] = [
            np.mean([np.mean([place <= rank for _, place in mated]) for mated, _ in split]) for split in searched
        ]
    for fpir, name in ((0.5, "TPIR@FPIR=5e-01"), (0.2, "TPIR@FPIR=2e-01")):
        expected[name] = [
            np.mean([rate_at([score for score, _ in mated], strangers, fpir) for mated, strangers in split])
            for split in searched
        ]
    assert {figure.name for figure in result.figures} == set(expected)
    for name, values in expected.items():
        mean, deviation = mean_and_deviation(values)
        assert result[name].value == pytest.approx(mean, abs=1e-12)
        assert result[name].spread == (None if deviation is None else pytest.approx(deviation, abs=1e-12))
        assert deviation is None or result[name].spread_of == f"standard deviation over {splits} splits"


def test_by_hand():
    # Templates by angle: gallery G1 ann 0, bob 90; G2 eve 180. Probes: ann 30, bob 40, eve 170, zoe 75.
    # G1: mated ann (30 away; bob 60 away: rank 1), bob (50 away; ann 40 away: rank 2). Non-mated: eve 80 (bob), zoe 15
    # (bob). FPIR 1/2 allows one of the two: threshold just above cos 80: both mates are found. FPIR 1: all.
    # G2: mated eve, 10 away, rank 1. Non-mated: ann 150, bob 140, zoe 105; FPIR 1/2 allows one: above cos 140: found.
    degrees = np.radians([0, 90, 180, 30, 40, 170, 75])
    rows = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    searches = ((GallerySearch([0, 1], [3, 4, 5, 6]), GallerySearch([2], [3, 4, 5, 6])),)
    protocol = TemplateProtocol(
        "hand", tuple("abcdefg"), range(7), range(7), [0] * 7, [1, 2, 3, 1, 2, 3, 4], searches=searches
    )
    result = evaluate_ijb(protocol, rows, ranks=(1, 2), fpirs=0.5, intervals=False)
    assert result["rank-1"].value == pytest.approx((0.5 + 1.0) / 2)
    assert result["rank-2"].value == 1.0
    assert result["TPIR@FPIR=5e-01"].value == 1.0
    # G1 has two non-mated probes, so half is the smallest rate.
    with pytest.raises(ValueError, match=r"`fpirs` must be at least 1/2 .*Received: fpirs=0.4"):
        evaluate_ijb(protocol, rows, fpirs=0.4)
    # Move bob's probe to 170, 80 from bob: tied with the alarm that FPIR 1/2 must reject, so only ann is found.
    rows[4] = rows[5]
    result = evaluate_ijb(protocol, rows, ranks=1, fpirs=0.5, intervals=False)
    assert result["TPIR@FPIR=5e-01"].value == pytest.approx((0.5 + 1.0) / 2)


def test_the_threshold_comes_from_the_non_mated_alone():
    # A mated probe that finds a stranger first must not raise the threshold.
    rows = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0.1]])
    searches = ((GallerySearch([0, 1], [2, 3]),),)
    protocol = TemplateProtocol("strict", tuple("abcd"), range(4), range(4), [0] * 4, [1, 2, 1, 3], searches=searches)
    result = evaluate_ijb(protocol, rows, ranks=1, fpirs=1.0, intervals=False)
    assert result["rank-1"].value == 0.0
    assert result["TPIR@FPIR=1e+00"].value == 1.0


def test_verification_against_scikit_learn():
    rng = np.random.default_rng(4)
    protocol = random_protocol(rng)
    rows = rng.normal(size=(TEMPLATES, 6))
    result = evaluate_ijb(protocol, rows, intervals=False)
    pairs = protocol.pairs[0]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = np.float32([unit[a - 100] @ unit[b - 100] for a, b in zip(pairs.left, pairs.right, strict=True)])
    far, tar, _ = sklearn_roc(pairs.same, scores, drop_intermediate=False)
    for wanted, name in ((0.1, "TAR@FAR=1e-01"), (0.01, "TAR@FAR=1e-02")):
        assert result[name].value == pytest.approx(tar[far <= wanted].max())
    points = {(round(f, 9), round(t, 9)) for f, t in zip(far, tar, strict=True)}
    curve = result.curves["1:1"]
    assert {(round(f, 9), round(t, 9)) for f, t in zip(curve.far, curve.tar, strict=True)} <= points
    assert len(curve.far) > 50
    assert result["TAR@FAR=1e-01"].threshold is not None


def test_media_are_pooled_and_images_are_shared():
    # Two frames of a video and one photo; image "c" is in both templates.
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    (TemplatePairs([1, 2], [2, 2], [0, 1]),)
    protocol = TemplateProtocol(
        "media",
        ("a", "b", "c"),
        [0, 1, 2, 2],
        [1, 1, 1, 2],
        [5, 5, 6, 6],
        pairs=(TemplatePairs([1, 2], [2, 2], [0, 1]),),
    )
    result = evaluate_ijb(protocol, embeddings, fars=1.0)
    # Template 1: (0.5, 0.5) + (0, 3), template 2: (0, 3): the lowest accepted score is their cosine.
    assert result["TAR@FAR=1e+00"].threshold == pytest.approx(3.5 / np.hypot(0.5, 3.5))
    assert result["TAR@FAR=1e+00"].note == "no interval: subjects unknown"


def test_swapping_and_permuting_pairs_changes_nothing():
    rng = np.random.default_rng(5)
    protocol = random_protocol(rng)
    rows = rng.normal(size=(TEMPLATES, 6))
    order, pairs = rng.permutation(300), protocol.pairs[0]
    other = TemplateProtocol(
        "random",
        protocol.images,
        protocol.members,
        protocol.template_ids,
        protocol.media_ids,
        protocol.template_subjects,
        (TemplatePairs(pairs.right[order], pairs.left[order], pairs.same[order]),),
    )
    expected = evaluate_ijb(protocol, rows)
    for figure in evaluate_ijb(other, rows).figures:
        assert figure.value == expected[figure.name].value
        assert figure.interval == pytest.approx(expected[figure.name].interval)


def test_intervals_hold_the_figures():
    rng = np.random.default_rng(6)
    protocol = random_protocol(rng, splits=2)
    rows = exact_rows(rng, TEMPLATES)
    rows[:, :8] = exact_rows(rng, 12)[protocol.template_subjects, :8]
    result = evaluate_ijb(protocol, rows, fars=0.1, fpirs=0.5, ranks=1)
    for figure in result.figures:
        low, high = figure.interval
        assert low < figure.value < high
        assert ("threshold kept" in figure.note) == (figure.name != "rank-1")
    assert evaluate_ijb(protocol, rows, fars=0.1, fpirs=0.5, ranks=1).to_json() == result.to_json()


def test_all_scores_equal():
    protocol = random_protocol(np.random.default_rng(7))
    result = evaluate_ijb(protocol, np.ones((TEMPLATES, 3)), fars=(0.1, 1.0), fpirs=0.5, ranks=1)
    # No threshold parts the pairs, and whoever is in the gallery ties with the mate.
    assert result["TAR@FAR=1e-01"].value == 0.0
    assert result["TAR@FAR=1e+00"].value == 1.0
    assert result["TPIR@FPIR=5e-01"].value == 0.0
    assert result["rank-1"].value == 0.0


def test_one_subject_alone_has_no_interval():
    protocol = small(searches=((GallerySearch([0], [2, 3]),),))
    for figure in evaluate_ijb(protocol, np.eye(4) + 0.1, ranks=1, fpirs=1.0).figures:
        assert (figure.interval, figure.note) == (None, "no interval: too few subjects")


def small(subjects=(1, 2, 1, 3), pairs=(), searches=()):
    return TemplateProtocol("small", tuple("abcd"), range(4), range(4), [0] * 4, subjects, pairs, searches)


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        (small(), {}, "pairs or searches"),
        (small(pairs=(TemplatePairs([0], [2], [1]),)), {}, r"pairs\[0\] with 0 impostor pairs of 1"),
        (small(pairs=(TemplatePairs([0], [1], [0]),)), {}, r"pairs\[0\] with 1 impostor pairs of 1"),
        (small(None, searches=((GallerySearch([0], [1, 2]),),)), {}, "`template_subjects` must be known"),
        (small((1, 2, 1, -1), searches=((GallerySearch([0], [1, 2]),),)), {}, "`template_subjects` must be known"),
        (small(searches=((GallerySearch([0], [1, 3]),),)), {}, "`searches` must each have a mated probe"),
        (small(searches=((GallerySearch([0], [2]),),)), {"fpirs": 0.5}, "`fpirs` must be None"),
        (small(pairs=(TemplatePairs([0, 0], [1, 2], [0, 1]),)), {"fars": 0.1}, r"1/1 = 1.*Received: fars=0.1"),
    ],
)
def test_refusals(protocol, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_ijb(protocol, np.eye(4), **options)


def test_a_closed_set_has_no_tpir():
    result = evaluate_ijb(small(searches=((GallerySearch([0, 1], [2]),),)), np.eye(4) + 0.1, ranks=1)
    assert [figure.name for figure in result.figures] == ["rank-1"]


def test_the_fewest_probes_without_a_mate():
    rng = np.random.default_rng(8)
    protocol = random_protocol(rng, splits=2)
    subjects, numbers = protocol.template_subjects, []
    for search in (search for split in protocol.searches for search in split):
        known = {subjects[g - 100] for g in search.gallery}
        numbers.append(sum(subjects[probe - 100] not in known for probe in search.probes))
    assert fewest_non_mated(protocol) == min(numbers) > 0
    assert fewest_non_mated(small(searches=((GallerySearch([0, 1], [2]),),))) == 0
    assert fewest_non_mated(small()) is None
    assert fewest_non_mated(small(None, searches=((GallerySearch([0], [2]),),))) is None
    assert fewest_non_mated(small((1, 2, 1, -1), searches=((GallerySearch([0], [2]),),))) is None


def test_a_bad_embedding_is_named():
    rows = np.eye(4)
    rows[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"embeddings\[2\] with NaN or infinity"):
        evaluate_ijb(small(pairs=(TemplatePairs([0, 0], [1, 2], [0, 1]),)), rows)
