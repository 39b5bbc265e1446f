"""Pairs of videos against loops over all pairs of frames."""

import builtins

import numpy as np
import pytest
from sklearn.svm import SVC

from keras_normface.metrics import cross_validated_accuracy
from keras_normface.protocols import VideoPairProtocol, evaluate_video_pairs
from keras_normface.protocols.ytf import _cosine_histogram, _intersection_kernel
from tests.support.evaluation_oracle import cosine, exact_rows

VIDEOS, PAIRS, FOLDS = 20, 60, 5


def random_protocol(rng):
    people = np.arange(VIDEOS) % 7
    lengths = rng.integers(1, 7, size=VIDEOS)
    owner = np.repeat(np.arange(VIDEOS), lengths)
    frames = rng.permutation(owner.size)
    videos = tuple(frames[owner == video] for video in range(VIDEOS))
    subjects = np.empty(owner.size, int)
    subjects[frames] = people[owner]
    genuine = [(a, b) for a in range(VIDEOS) for b in range(a) if people[a] == people[b]]
    impostor = [(a, b) for a in range(VIDEOS) for b in range(a) if people[a] != people[b]]
    rng.shuffle(genuine)
    rng.shuffle(impostor)
    pairs = np.array([pair for two in zip(genuine[:15], impostor[:15], strict=True) for pair in two])
    left, right = pairs.T
    images = tuple(f"f{n}" for n in range(owner.size))
    same = people[left] == people[right]
    return VideoPairProtocol("random", images, videos, left, right, same, np.arange(30) % FOLDS, subjects)


def frame_cosines(protocol, rows, pair):
    left, right = protocol.videos[protocol.left[pair]], protocol.videos[protocol.right[pair]]
    return [cosine(rows[a], rows[b]) for a in left for b in right]


def likeness(rng, protocol):
    return rng.normal(size=(7, 6))[protocol.subjects] + rng.normal(size=(len(protocol.images), 6))


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_all_frame_pairs(seed):
    rng = np.random.default_rng(seed)
    protocol = random_protocol(rng)
    rows = likeness(rng, protocol)
    scores = [np.mean(frame_cosines(protocol, rows, pair)) for pair in range(30)]
    expected = cross_validated_accuracy(scores, protocol.same, folds=protocol.folds)
    result = evaluate_video_pairs(protocol, rows)
    assert result["accuracy"].value == pytest.approx(expected.mean)
    assert result["accuracy"].spread == pytest.approx(expected.standard_error)
    assert result.settings["thresholds"] == pytest.approx(expected.thresholds.tolist(), abs=1e-6)
    low, high = result["accuracy"].interval
    assert low < high
    assert result["accuracy"].note == ""


def test_histograms_by_loops():
    rng = np.random.default_rng(3)
    left, right = exact_rows(rng, 5), exact_rows(rng, 8)
    counts = np.zeros(100)
    for a in left:
        for b in right:
            # Cosines are multiples of 1/8: 50 * (1 + cosine) is exact, and 1 belongs to the last bin.
            counts[min(99, int((1 + cosine(a, b)) * 50))] += 1
    np.testing.assert_allclose(_cosine_histogram(left, right), counts / 40)


def test_a_cosine_at_an_edge_stays_in_its_bin():
    # Orthogonal vectors whose float32 product is a little below zero; and two equal ones, a little off one.
    left = np.float32([[0.6, 0.8], [0.8, -0.6]])
    assert np.flatnonzero(_cosine_histogram(left, left)).tolist() == [50, 99]
    turned = np.float32([[np.cos(1), np.sin(1)]]), np.float32([[-np.sin(1), np.cos(1)]])
    assert np.flatnonzero(_cosine_histogram(*turned)).tolist() == [50]
    assert np.flatnonzero(_cosine_histogram(left[:1], -left[:1])).tolist() == [0]


def test_the_kernel_by_loops():
    rng = np.random.default_rng(4)
    left, right = rng.integers(0, 5, size=(9, 6)) / 4, rng.integers(0, 5, size=(4, 6)) / 4
    expected = [[sum(min(x, y) for x, y in zip(a, b, strict=True)) for b in right] for a in left]
    assert _intersection_kernel(left, right).tolist() == expected


def test_the_svm_against_a_callable_kernel():
    rng = np.random.default_rng(5)
    protocol = random_protocol(rng)
    rows = likeness(rng, protocol)
    histograms = np.zeros((30, 100))
    for pair in range(30):
        for score in frame_cosines(protocol, rows, pair):
            histograms[pair, int((1 + score) * 50)] += 1
        histograms[pair] /= histograms[pair].sum()

    def kernel(a, b):
        return np.array([[np.minimum(x, y).sum() for y in b] for x in a])

    for penalty in (1.0, 10.0):
        accuracies = []
        for fold in range(FOLDS):
            test = protocol.folds == fold
            machine = SVC(kernel=kernel, C=penalty).fit(histograms[~test], protocol.same[~test])
            accuracies.append(np.mean(machine.predict(histograms[test]) == protocol.same[test]))
        figure = evaluate_video_pairs(protocol, rows, svm=True, penalty=penalty)["accuracy HIK-SVM"]
        assert figure.value == pytest.approx(np.mean(accuracies))
        assert figure.spread == pytest.approx(np.std(accuracies, ddof=1) / FOLDS**0.5)
        assert "decisions kept" in figure.note
        assert figure.interval is not None


def test_the_svm_sees_what_the_mean_cannot():
    # Genuine: cosines 1, 0, 0, 1. Impostor: 0.5 four times. The means are equal.
    genuine = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
    impostor = [[[1.0, 0.0]] * 2, [[0.5, np.sqrt(0.75)]] * 2]
    rows, videos, left, same = [], [], [], []
    for number in range(20):
        pair = genuine if number % 2 else impostor
        left.append(len(videos))
        same.append(number % 2)
        for video in pair:
            videos.append(list(range(len(rows), len(rows) + 2)))
            rows += video
    left = np.array(left)
    images = tuple(str(n) for n in range(len(rows)))
    protocol = VideoPairProtocol("planted", images, videos, left, left + 1, same, np.arange(20) // 4)
    result = evaluate_video_pairs(protocol, rows, svm=True, penalty=100.0, intervals=False)
    assert result["accuracy HIK-SVM"].value == 1.0


def test_swapping_videos_and_permuting_pairs_changes_nothing():
    rng = np.random.default_rng(6)
    protocol = random_protocol(rng)
    rows = likeness(rng, protocol)
    order = rng.permutation(30)
    other = VideoPairProtocol(
        "random",
        protocol.images,
        tuple(frames[::-1] for frames in protocol.videos),
        protocol.right[order],
        protocol.left[order],
        protocol.same[order],
        protocol.folds[order],
        protocol.subjects,
    )
    got, expected = evaluate_video_pairs(other, 9 * rows), evaluate_video_pairs(protocol, rows)
    assert got["accuracy"].value == pytest.approx(expected["accuracy"].value)
    assert got["accuracy"].interval == pytest.approx(expected["accuracy"].interval)


def test_unknown_subjects():
    rng = np.random.default_rng(7)
    protocol = random_protocol(rng)
    lists = protocol.left, protocol.right, protocol.same, protocol.folds
    other = VideoPairProtocol("nameless", protocol.images, protocol.videos, *lists)
    figure = evaluate_video_pairs(other, likeness(rng, protocol), svm=True)["accuracy HIK-SVM"]
    assert figure.interval is not None
    assert "resamples pairs" in figure.note


def test_without_scikit_learn(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    rng = np.random.default_rng(8)
    protocol = random_protocol(rng)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert evaluate_video_pairs(protocol, likeness(rng, protocol), intervals=False).figures
    with pytest.raises(ImportError, match=r"keras-normface\[svm\]"):
        evaluate_video_pairs(protocol, likeness(rng, protocol), svm=True, intervals=False)


def test_refusals():
    rng = np.random.default_rng(9)
    protocol = random_protocol(rng)
    rows = likeness(rng, protocol)
    with pytest.raises(ValueError, match="`embeddings` must have shape"):
        evaluate_video_pairs(protocol, rows[1:])
    rows[3] = 0.0
    with pytest.raises(ValueError, match=r"embeddings\[3\] is a zero vector"):
        evaluate_video_pairs(protocol, rows)
    for folds, same, message in (([0, 0], [1, 0], "two folds"), ([0, 1], [1, 1], "genuine and one impostor")):
        one = VideoPairProtocol("one", ("a", "b", "c"), ([0], [1], [2]), [0, 0], [1, 2], same, folds)
        with pytest.raises(ValueError, match=message):
            evaluate_video_pairs(one, np.eye(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"videos": ([0, 3], [1])}, r"videos\[0\]` must lie in 0\.\.2"),
        ({"videos": ([], [1])}, r"videos\[0\]` must hold at least one"),
        ({"videos": ([0, 0], [1])}, r"videos\[0\]` must hold each index once"),
        ({"right": [2]}, r"`right` must lie in 0\.\.1"),
        ({"same": [2]}, "`right` and `same`"),
        ({"folds": [0, 1]}, "`folds` must have shape"),
        ({"subjects": [4, 5, 6]}, r"videos\[0\] with several"),
        ({"subjects": [4, 4, 4]}, r"same\[0\]=False for subjects 4 and 4"),
        ({"subjects": [4, 4, 5], "same": [1]}, r"same\[0\]=True for subjects 4 and 5"),
    ],
)
def test_lists_that_do_not_fit(changes, message):
    lists = {"videos": ([0, 1], [2]), "left": [0], "right": [1], "same": [0], "folds": [0], **changes}
    with pytest.raises(ValueError, match=message):
        VideoPairProtocol("wrong", ("a", "b", "c"), **lists)
