"""Pairs of images in folds, as in Labeled Faces in the Wild, AgeDB-30, CALFW, CPLFW and CFP-FP."""

import numbers
from dataclasses import dataclass

import numpy as np

from keras_normface._threshold import BY_PAIR
from keras_normface.metrics import checked_labels
from keras_normface.metrics.bootstrap import REPEATS, Resamples, rate_name, resampled_figures, resampled_units
from keras_normface.metrics.folds import fold_accuracy
from keras_normface.metrics.projection import fold_projections
from keras_normface.metrics.results import MetricValue, Result
from keras_normface.metrics.verification import SortedScores, chosen_rates
from keras_normface.protocols._records import (
    check_agreement,
    checked_indices,
    checked_keys,
    checked_same,
    checked_subjects,
    set_fields,
)


@dataclass(frozen=True, eq=False)
class PairProtocol:
    """Pairs of images in folds: Huang et al. 2007, "Labeled Faces in the Wild", View 2 (6 000 pairs, ten folds).

    Attributes:
        name: printed beside each figure, such as "LFW, 6 000 pairs, ten folds".
        images: N keys of the images, each once; embeddings have one row for each.
        left, right: (P,) indices into `images`.
        same: (P,) bool, true where both images show one subject.
        folds: (P,) fold of each pair, integers or strings. With one fold alone there is no cross-validated accuracy.
        subjects: (N,) subject of each image, -1 where unknown, or None.

    Raises:
        ValueError: lists that do not fit each other, pairs of one kind only, or a pair whose two subjects contradict
            `same`.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0], [1, 2], [True, False], [0, 1], [7, 7, 8])
        >>> protocol.right.tolist(), protocol.same.tolist()
        ([1, 2], [True, False])
    """

    name: str
    images: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    subjects: np.ndarray | None = None

    def __post_init__(self):
        images = checked_keys(self.images, "images")
        left = checked_indices(self.left, "left", len(images))
        right = checked_indices(self.right, "right", len(images))
        changes = {"images": images, "left": left, "right": right, "same": checked_same(self.same, left, right)}
        genuine = np.count_nonzero(changes["same"])
        if genuine in (0, left.size):
            raise ValueError(
                "`same` must mark at least one genuine and one impostor pair. "
                f"Received: same with {genuine} genuine and {left.size - genuine} impostor pairs"
            )
        changes["folds"] = checked_labels(self.folds, "folds", left.size)
        if self.subjects is not None:
            changes["subjects"] = checked_subjects(self.subjects, len(images))
            check_agreement(changes["subjects"], left, right, changes["same"])
        set_fields(self, changes)


FLIPS = ("sum", "concatenate", "maximum")
_BLOCK_ROWS = 1024


def flip_fused(embeddings, mirrored, flip, count):
    """Embeddings of images and of their mirror images as one feature an image.

    Args:
        embeddings: (N, D) real numbers, as the network gives them: no row is normalised here.
        mirrored: (N, D), the embeddings of the mirror images, or None.
        flip: "sum", "concatenate", or "maximum", which takes the larger of the two in each dimension; "none" without
            `mirrored`.
        count: N.

    Returns:
        (N, D) or (N, 2 * D) floats.

    Raises:
        ValueError: shapes that do not fit, a row that is not finite or has no direction, or a `flip` that needs
            what was not given. Source: NormFace (arXiv 1704.06369), section 5.1, and the authors' notes on its
            mirror trick for the element-wise maximum.

    Example:
        >>> flip_fused([[1.0, 2.0]], [[2.0, 0.0]], "maximum", 1).tolist()
        [[2.0, 2.0]]
    """
    front = _checked_rows(embeddings, "embeddings", count)
    if mirrored is None:
        if flip not in ("none", "sum"):
            raise ValueError(f"`mirrored` must be given for `flip`. Received: flip={flip!r}, mirrored=None")
        return front
    if flip not in FLIPS:
        raise ValueError(f"`flip` must be one of {FLIPS} where `mirrored` is given. Received: flip={flip!r}")
    back = _checked_rows(mirrored, "mirrored", count)
    if back.shape != front.shape:
        raise ValueError(f"`mirrored` must have shape {front.shape}. Received: mirrored.shape={back.shape}")
    if flip == "concatenate":
        return np.concatenate([front, back], axis=1)
    return _checked_rows(front + back if flip == "sum" else np.maximum(front, back), "fused embeddings", count)


def checked_share(share, name):
    """`share` as None or a float in (0, 1]; otherwise a ValueError that names `name`.

    Example:
        >>> checked_share(0.995, "pca")
        0.995
    """
    if share is None:
        return None
    if isinstance(share, (bool, np.bool_)) or not isinstance(share, numbers.Real) or not 0.0 < share <= 1.0:
        raise ValueError(f"`{name}` must be None or a share in (0, 1]. Received: {name}={share!r}")
    return float(share)


def _paired_cosines(features, left, right):
    """(N, D) nonzero rows, (P,) left, (P,) right → (P,) float64 in [-1, 1]."""
    # Dividing by the largest entry first keeps the squares from overflowing or vanishing.
    largest = np.abs(features).max(axis=1).astype(np.float64)[:, None]

    def dots(rows, others):
        # A sum over one row at a time, so that a pair's cosine does not depend on its neighbours.
        return np.einsum("pd,pd->p", features[rows] / largest[rows], features[others] / largest[others])

    cosines, squares = np.empty(left.size), np.empty(len(features))
    for start in range(0, len(features), _BLOCK_ROWS):
        # A slice, of which no copy is made.
        rows = slice(start, start + _BLOCK_ROWS)
        squares[rows] = dots(rows, rows)
    for start in range(0, left.size, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        cosines[block] = dots(left[block], right[block]) / np.sqrt(squares[left[block]] * squares[right[block]])
    return np.clip(cosines, -1.0, 1.0, out=cosines)


def _checked_rows(embeddings, name, count):
    """Embeddings → (count, D) float32 or float64, each row finite and nonzero."""
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or len(rows) != count or rows.shape[1] == 0 or rows.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` must be numbers of shape ({count}, D), one row for each image of the protocol. "
            f"Received: {name}.shape={rows.shape}, {name}.dtype={rows.dtype}"
        )
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    for start in range(0, count, _BLOCK_ROWS):
        largest = np.abs(rows[start : start + _BLOCK_ROWS]).max(axis=1)
        bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0.0))
        if bad.size:
            what = f"row {start + bad[0]} is {'zero' if largest[bad[0]] == 0.0 else 'NaN or infinite'}"
            raise ValueError(f"`{name}` must be finite and nonzero in each row. Received: {what}")
    return rows


@dataclass(frozen=True, eq=False)
class PairScores:
    """How alike a model finds the pairs of a protocol.

    Attributes:
        rows: (1, P), or (F, P) where a mean or PCA was fitted for each fold without it, in the folds' sorted order.
        pooled: (P,); where there are F rows, each pair's score in its own fold's row.
        settings: how the scores were made.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0], [1, 2], [True, False], [0, 1])
        >>> score_pairs(protocol, [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]).pooled.tolist()
        [1.0, 0.0]
    """

    rows: np.ndarray
    pooled: np.ndarray
    settings: dict[str, object]


def score_pairs(protocol, embeddings, mirrored=None, *, flip="sum", center=False, pca=None):
    """Cosines of the pairs of a protocol; see `evaluate_pairs` for the arguments.

    Returns:
        `PairScores`.

    Raises:
        ValueError: see `evaluate_pairs`.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0], [1, 2], [True, False], [0, 1])
        >>> score_pairs(protocol, [[1, 0], [0, 1], [1, 0]], [[0, 1], [1, 0], [1, 0]]).settings["flip"]
        'sum'
    """
    features = flip_fused(embeddings, mirrored, flip, len(protocol.images))
    pca = checked_share(pca, "pca")
    settings = {"flip": flip if mirrored is not None else "none", "center": bool(center), "pca": pca}
    left, right = protocol.left, protocol.right
    if not center and pca is None:
        cosines = _paired_cosines(features, left, right)
        return PairScores(cosines[None], cosines, settings)
    names, codes = np.unique(protocol.folds, return_inverse=True)
    if names.size == 1:
        raise ValueError(
            "`center` and `pca` are fitted on the other folds, so the protocol must have at least two. "
            f"Received: center={center!r}, pca={pca!r} with one fold, {names[0]}"
        )
    rows, dimensions = np.empty((names.size, left.size)), []
    for fold, projection in enumerate(fold_projections(features, left, right, codes, pca)):
        what = f"embeddings as projected for fold {names[fold]}"
        projected = _checked_rows(projection.of(features), what, len(features))
        rows[fold] = _paired_cosines(projected, left, right)
        dimensions.append(projected.shape[1])
    return PairScores(rows, rows[codes, np.arange(left.size)], {**settings, "dimensions": dimensions})


_DEFAULT_FARS = (1e-1, 1e-2, 1e-3, 1e-4)
_COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
_OWN_THRESHOLD = "threshold taken on the pairs themselves"
_PAIRS_RESAMPLED = "interval by resampling pairs, since not all subjects are known: it may be too narrow"


def evaluate_pairs(
    protocol,
    embeddings,
    mirrored=None,
    *,
    flip="sum",
    center=False,
    pca=None,
    fars=None,
    intervals=True,
    repeats=REPEATS,
    seed=0,
):
    """Accuracy over folds, EER and TAR@FAR of a model on pairs.

    Each fold is judged by a threshold, and if wanted a mean and a PCA, that come from the pairs of the other folds
    and the unique images in them. Between equally accurate thresholds the mean is taken.

    Args:
        protocol: the pairs.
        embeddings: (N, D), one row for each of `protocol.images`, as the network gives them.
        mirrored: None, or (N, D) of the mirror images.
        flip: how the two become one: "sum", "concatenate" or "maximum" (element by element).
        center: whether a mean is subtracted.
        pca: None, or the share of the variance, such as 0.995, that the least number of principal components must
            keep; the mean is subtracted too.
        fars: rates for TAR@FAR; None takes those of 0.1, 0.01, 0.001 and 0.0001 that the impostor pairs resolve.
        intervals: whether 95 % intervals are estimated, by resampling subjects (pairs, where a subject is unknown);
            thresholds are chosen anew on each bootstrap replicate, mean and PCA are not fitted anew.
        repeats: number of replicates.
        seed: of the replicates.

    Returns:
        A `Result` with "accuracy" (its spread is the standard error of the folds), "EER" and "TAR@FAR=...". Where there
        is one fold alone, as in `pairsDevTest.txt`, "accuracy" is omitted: no other pairs give its threshold.

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, a FAR that the impostor pairs do not
            resolve, a fold outside which there are pairs of one kind only, `center` or `pca` with one fold.

    Source: Huang et al. 2007, "Labeled Faces in the Wild", View 2; NormFace (arXiv 1704.06369), section 5.1.

    Example:
        >>> images = ("a1", "a2", "b1", "b2")
        >>> protocol = PairProtocol("toy", images, [0, 0, 2, 1], [1, 2, 3, 3], [1, 0, 1, 0], [0, 0, 1, 1])
        >>> result = evaluate_pairs(protocol, [[1, 0], [1, 0.1], [0, 1], [0.1, 1]], intervals=False)
        >>> print(result["accuracy"])
        accuracy 100.00 % +- 0.00 % (standard error of two folds)
    """
    scores = score_pairs(protocol, embeddings, mirrored, flip=flip, center=center, pca=pca)
    fars = _checked_fars(fars, np.count_nonzero(~protocol.same))
    # Sorted once: the folds, the curve and each bootstrap replicate read this order.
    rows = [_sorted(row, protocol.same) for row in scores.rows]
    pooled = rows[0] if len(rows) == 1 else _sorted(scores.pooled, protocol.same)
    accuracy = fold_accuracy(rows, protocol.folds) if np.unique(protocol.folds).size > 1 else None
    settings = {
        **scores.settings,
        "fold_accuracies": () if accuracy is None else accuracy.accuracies,
        "fold_thresholds": () if accuracy is None else accuracy.thresholds,
        "repeats": repeats if intervals else 0,
        "seed": seed,
    }
    ranges, note, resamples = {}, "", None
    if intervals:
        unit, units = resampled_units(protocol.subjects, protocol.left, protocol.right)
        resamples = Resamples(unit, repeats, seed)
        values = resampled_figures(units, rows, pooled, protocol.folds, fars, repeats=repeats, seed=seed)
        ranges = {name: resamples.keep(name, value) for name, value in values.items()}
        note, settings["resampled"] = _PAIRS_RESAMPLED if unit == BY_PAIR else "", unit
    curve = pooled.roc_curve()
    figures = _figures(curve, accuracy, fars, ranges, note)
    return Result(protocol.name, figures, _counts(protocol), settings, {"all pairs": curve}, resamples)


def _sorted(scores, same):
    """(P,) cosines and flags of a protocol's pairs, both checked already → `SortedScores`."""
    return SortedScores(scores, same, np.argsort(scores))


def _checked_fars(fars, num_impostor):
    """Rates to report; None: the default rates that the impostor pairs resolve."""
    if fars is None:
        return tuple(far for far in _DEFAULT_FARS if far * num_impostor >= 1.0)
    fars = (fars,) if isinstance(fars, numbers.Real) else tuple(fars)
    chosen = chosen_rates(fars, (), num_impostor, "fars", "impostor pairs")
    if len(chosen) != len(fars):
        raise ValueError(f"`fars` must hold each rate once. Received: fars={fars}")
    return chosen


def _figures(curve, accuracy, fars, ranges, note):
    notes = "; ".join(part for part in (_OWN_THRESHOLD, note) if part)
    figures = []
    if accuracy is not None:
        folds = _COUNT_WORDS.get(accuracy.accuracies.size, str(accuracy.accuracies.size))
        spread_of = f"standard error of {folds} folds"
        interval = ranges.get("accuracy")
        figures.append(MetricValue("accuracy", accuracy.mean, interval, accuracy.standard_error, spread_of, note=note))
    figures.append(MetricValue("EER", curve.equal_error_rate(), ranges.get("EER"), note=notes))
    for far in fars:
        name, point = rate_name("TAR@FAR", far), curve.tar_at_far(far)
        figures.append(MetricValue(name, point.tar, ranges.get(name), threshold=point.threshold, note=notes))
    return tuple(figures)


def _counts(protocol):
    genuine = int(np.count_nonzero(protocol.same))
    counts = {"images": len(protocol.images), "pairs": protocol.same.size, "folds": np.unique(protocol.folds).size}
    counts.update(genuine=genuine, impostor=protocol.same.size - genuine)
    if protocol.subjects is not None:
        counts["subjects"] = np.unique(protocol.subjects[protocol.subjects >= 0]).size
    return counts
