"""What a model scores on pairs of images in folds: accuracy, EER and TAR@FAR."""

from __future__ import annotations

import numbers
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.figure import Figure, rate_name
from keras_normface.evaluation.folds import cross_validated_accuracy
from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.evaluation.pair_scoring import PairScores, resample_pairs, score_pairs
from keras_normface.evaluation.resampled_pairs import BY_PAIR, resampled_units
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.result import Result
from keras_normface.evaluation.score_tails import chosen_rates
from keras_normface.evaluation.verification import equal_error_rate, roc_curve, tar_at_far

DEFAULT_FARS = (1e-1, 1e-2, 1e-3, 1e-4)
_COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
_OWN_THRESHOLD = "threshold taken on the pairs themselves"
_PAIRS_DRAWN = "interval by drawing pairs, since not all subjects are known: it may be too narrow"


def evaluate_pairs(
    protocol: PairProtocol,
    embeddings: ArrayLike,
    mirrored: ArrayLike | None = None,
    *,
    fusion: str | None = "sum",
    center: bool = False,
    pca: float | None = None,
    fars: Iterable[float] | None = None,
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """Accuracy over folds, EER and TAR@FAR of a model on pairs.

    Each fold is judged by a threshold, and if wanted a mean and a PCA, that come from the pairs of the other folds
    and the unique images in them. Between equally accurate thresholds the mean is taken.

    Args:
        protocol: the pairs.
        embeddings: (N, D), one row for each of `protocol.images`, as the network gives them.
        mirrored: None, or (N, D) of the mirror images.
        fusion: how the two become one: "sum", "concatenate" or "maximum" (element by element).
        center: whether a mean is subtracted.
        pca: None, or the share of the variance, such as 0.995, that the least number of principal components must
            keep; the mean is subtracted too.
        fars: rates for TAR@FAR; None takes those of 0.1, 0.01, 0.001 and 0.0001 that the impostor pairs resolve.
        intervals: whether 95 % intervals are estimated, by drawing subjects (pairs, where a subject is unknown)
            `repeats` times; thresholds are chosen anew on each draw, mean and PCA are not fitted anew.
        repeats: number of draws.
        seed: of the draws.

    Returns:
        A `Result` with "accuracy" (its spread is the standard error of the folds), "EER" and "TAR@FAR=...".

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, a FAR that the impostor pairs do not
            resolve, a fold outside which there are pairs of one kind only.

    Source: Huang et al. 2007, "Labeled Faces in the Wild", View 2; NormFace (arXiv 1704.06369), section 5.1.

    Example:
        >>> images = ("a1", "a2", "b1", "b2")
        >>> protocol = PairProtocol("toy", images, [0, 0, 2, 1], [1, 2, 3, 3], [1, 0, 1, 0], [0, 0, 1, 1])
        >>> result = evaluate_pairs(protocol, [[1, 0], [1, 0.1], [0, 1], [0.1, 1]], intervals=False)
        >>> print(result["accuracy"])
        accuracy 100.00 % +- 0.00 % (standard error of two folds)
    """
    scores = score_pairs(protocol, embeddings, mirrored, fusion=fusion, center=center, pca=pca)
    return evaluate_pair_scores(protocol, scores, fars=fars, intervals=intervals, repeats=repeats, seed=seed)


def evaluate_pair_scores(
    protocol: PairProtocol,
    scores: PairScores,
    *,
    fars: Iterable[float] | None = None,
    intervals: bool = True,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Result:
    """`evaluate_pairs` from scores on.

    Args:
        protocol: the pairs.
        scores: from `score_pairs`, or of any other similarity, larger for more alike.
        fars: see `evaluate_pairs`.
        intervals: see `evaluate_pairs`; a figure that fewer than half of the draws define has none.
        repeats: see `evaluate_pairs`.
        seed: see `evaluate_pairs`.

    Returns:
        A `Result`.

    Raises:
        ValueError: scores that are not finite or do not fit the protocol; see also `evaluate_pairs`.

    Example:
        >>> import numpy as np
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
        >>> scores = np.array([0.9, 0.1, 0.8, 0.3])
        >>> evaluate_pair_scores(protocol, PairScores(scores[None], scores, {}), intervals=False)["EER"].value
        0.0
    """
    fars = checked_fars(fars, np.count_nonzero(~protocol.same))
    accuracy = cross_validated_accuracy(scores.rows, protocol.same, folds=protocol.folds)
    settings = {
        **scores.settings,
        "fold_accuracies": accuracy.accuracies,
        "fold_thresholds": accuracy.thresholds,
        "repeats": repeats if intervals else 0,
        "seed": seed,
    }
    ranges, note, resamples = {}, "", None
    if intervals:
        drawn = resampled_units(protocol.subjects, protocol.left, protocol.right)[0]
        resamples = Resamples(drawn, repeats, seed)
        values = resample_pairs(protocol, scores, fars, repeats=repeats, seed=seed)
        ranges = {name: resamples.keep(name, value) for name, value in values.items()}
        note, settings["resampled"] = _PAIRS_DRAWN if drawn == BY_PAIR else "", drawn
    figures = _figures(protocol, scores.pooled, accuracy, fars, ranges, note)
    curves = {"all pairs": roc_curve(scores.pooled, protocol.same)}
    return Result(protocol.name, figures, _counts(protocol), settings, curves, resamples)


def checked_fars(fars: Iterable[float] | None, num_impostor: int) -> tuple[float, ...]:
    """The rates to report.

    Args:
        fars: what came; None takes the default rates that can be resolved.
        num_impostor: how many impostor pairs there are.

    Returns:
        Rates.

    Raises:
        ValueError: a rate is no number in (0, 1], occurs twice, or cannot be resolved.

    Example:
        >>> checked_fars(None, 500)
        (0.1, 0.01)
    """
    if fars is None:
        return tuple(far for far in DEFAULT_FARS if far * num_impostor >= 1.0)
    fars = (fars,) if isinstance(fars, numbers.Real) else tuple(fars)
    chosen = chosen_rates(fars, (), num_impostor, "fars", "impostor pairs")
    if len(chosen) != len(fars):
        raise ValueError(f"fars must hold each rate once. Received: fars={fars}")
    return chosen


def _figures(protocol, pooled, accuracy, fars, ranges, note) -> tuple[Figure, ...]:
    notes = "; ".join(part for part in (_OWN_THRESHOLD, note) if part)
    folds = _COUNT_WORDS.get(accuracy.accuracies.size, str(accuracy.accuracies.size))
    figures = [
        Figure(
            "accuracy",
            accuracy.mean,
            ranges.get("accuracy"),
            accuracy.standard_error,
            f"standard error of {folds} folds",
            note=note,
        ),
        Figure("EER", equal_error_rate(pooled, protocol.same), ranges.get("EER"), note=notes),
    ]
    for far in fars:
        name, point = rate_name("TAR@FAR", far), tar_at_far(pooled, protocol.same, far)
        figures.append(Figure(name, point.tar, ranges.get(name), threshold=point.threshold, note=notes))
    return tuple(figures)


def _counts(protocol: PairProtocol) -> dict[str, int]:
    genuine = int(np.count_nonzero(protocol.same))
    counts = {"images": len(protocol.images), "pairs": protocol.same.size, "folds": np.unique(protocol.folds).size}
    counts.update(genuine=genuine, impostor=protocol.same.size - genuine)
    if protocol.subjects is not None:
        counts["subjects"] = np.unique(protocol.subjects[protocol.subjects >= 0]).size
    return counts
