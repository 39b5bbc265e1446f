"""YTF's figures: the accuracy of the mean frame-pair cosine, and of an SVM on the cosines' histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS, count_blocks, pair_weights
from keras_normface.evaluation.figure import Figure
from keras_normface.evaluation.folds import cross_validated_accuracy
from keras_normface.evaluation.index_lists import embeddings_of
from keras_normface.evaluation.intersection_kernel import BINS, cosine_histogram, intersection_kernel
from keras_normface.evaluation.resampled_pairs import BY_PAIR, resampled_figures, resampled_units
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.result import Result
from keras_normface.evaluation.score_tails import unit_rows_float32
from keras_normface.evaluation.video_pairs import VideoPairProtocol

_SVM = "accuracy HIK-SVM"
_PAIRS_DRAWN = "subjects unknown: the interval draws pairs"


def evaluate_video_pairs(
    protocol: VideoPairProtocol,
    embeddings: ArrayLike,
    *,
    svm: bool = False,
    penalty: float = 1.0,
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """Accuracy of the mean of all frame-pair cosines, and on request of the histogram-intersection-kernel SVM.

    The mean over all pairs of frames is exactly the product of the videos' mean unit vectors. Each fold is judged by
    the threshold that is best on the other folds. For the SVM a pair of videos is the histogram of its frame-pair
    cosines, 100 bins over [-1, 1], as shares; each fold is decided by an SVM that was trained on the others. Source:
    Wolf, Hassner, Maoz 2011, "Face recognition in unconstrained videos with matched background similarity", section
    4; Wang et al. 2017 (NormFace), section 4.

    Args:
        protocol: a `VideoPairProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; any lengths.
        svm: whether to train the SVM; needs scikit-learn.
        penalty: the C of the SVM.
        intervals: whether to resample subjects (pairs, where a subject is unknown); thresholds are chosen anew on
            each draw, the SVM is not trained anew.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result` with "accuracy" and, with `svm`, "accuracy HIK-SVM".

    Raises:
        ImportError: `svm` without scikit-learn.
        ValueError: embeddings that do not fit the protocol or are not finite, or pairs of one kind outside a fold.

    Example:
        >>> protocol = VideoPairProtocol(
        ...     "toy", ("a1", "a2", "b1", "b2"), ([0], [1], [2], [3]), left=[0, 0, 2, 2], right=[1, 2, 3, 1],
        ...     same=[1, 0, 1, 0], folds=[0, 0, 1, 1]
        ... )
        >>> evaluate_video_pairs(protocol, [[4, 1], [4, 2], [1, 4], [2, 4]])["accuracy"].value
        1.0
    """
    unit = unit_rows_float32(embeddings_of(embeddings, len(protocol.images), "embeddings"), "embeddings")
    means = np.stack([unit[frames].mean(axis=0, dtype=np.float64) for frames in protocol.videos])
    scores = np.einsum("ij,ij->i", means[protocol.left], means[protocol.right])
    folds = cross_validated_accuracy(scores, protocol.same, folds=protocol.folds)
    codes = np.unique(protocol.folds, return_inverse=True)[1]
    drawn, units = resampled_units(_video_subjects(protocol), protocol.left, protocol.right)
    note = _PAIRS_DRAWN if intervals and drawn == BY_PAIR else ""
    resamples, interval = Resamples(drawn, repeats, seed) if intervals else None, None
    if intervals:
        rows = scores[None], scores, protocol.same, protocol.folds
        values = resampled_figures(units, *rows, [], repeats=repeats, seed=seed)
        interval = resamples.keep("accuracy", values["accuracy"])
    figures = [_figure("accuracy", folds.accuracies, interval, note)]
    if svm:
        right = _svm_decisions(protocol, unit, codes, penalty) == protocol.same
        interval = resamples.keep(_SVM, _kept_decisions(units, right, repeats, seed)) if intervals else None
        note = "; ".join(["decisions kept in the interval", note] if note else ["decisions kept in the interval"])
        accuracies = np.bincount(codes, weights=right) / np.bincount(codes)
        figures.append(_figure(_SVM, accuracies, interval, note if intervals else ""))
    counts = {
        "images": len(protocol.images),
        "videos": len(protocol.videos),
        "genuine": int(protocol.same.sum()),
        "impostor": int((~protocol.same).sum()),
        "folds": int(codes.max()) + 1,
    }
    settings = {
        "thresholds": folds.thresholds,
        "intervals": resamples.settings if intervals else None,
    }
    if svm:
        settings["svm"] = {"bins": BINS, "C": penalty}
    return Result(protocol.name, tuple(figures), counts, settings, resamples=resamples)


def _figure(name: str, accuracies: np.ndarray, interval, note: str) -> Figure:
    error = float(accuracies.std(ddof=1) / np.sqrt(accuracies.size))
    spread_of = f"standard error of {accuracies.size} folds"
    return Figure(name, float(accuracies.mean()), interval=interval, spread=error, spread_of=spread_of, note=note)


def _video_subjects(protocol: VideoPairProtocol) -> np.ndarray | None:
    return None if protocol.subjects is None else protocol.subjects[[frames[0] for frames in protocol.videos]]


def _kept_decisions(units, right: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    values = []
    for counts in count_blocks(units[0], repeats, seed, columns=right.size):
        weights = pair_weights(counts, *units[1:])
        with np.errstate(invalid="ignore"):
            values.append((weights @ right.astype(np.float64)) / weights.sum(axis=1))
    return np.concatenate(values)


def _svm_decisions(protocol, unit: np.ndarray, codes: np.ndarray, penalty: float) -> np.ndarray:
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ImportError('the SVM needs scikit-learn: pip install "keras-normface[svm]"') from error
    frames = [unit[frames] for frames in protocol.videos]
    pairs = zip(protocol.left, protocol.right, strict=True)
    histograms = np.stack([cosine_histogram(frames[left], frames[right]) for left, right in pairs])
    kernel = intersection_kernel(histograms, histograms)
    decisions = np.empty(codes.size, bool)
    for fold in range(codes.max() + 1):
        test = np.flatnonzero(codes == fold)
        train = np.flatnonzero(codes != fold)
        machine = SVC(kernel="precomputed", C=penalty).fit(kernel[np.ix_(train, train)], protocol.same[train])
        decisions[test] = machine.predict(kernel[np.ix_(test, train)])
    return decisions
