"""From embeddings to the scores of a protocol's pairs, and their figures on resamples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.pair_features import (
    checked_rows,
    checked_share,
    fused_features,
    paired_cosines,
)
from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.evaluation.projection import fold_projections
from keras_normface.evaluation.resampled_pairs import resampled_figures, resampled_units


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


def score_pairs(
    protocol: PairProtocol,
    embeddings: ArrayLike,
    mirrored: ArrayLike | None = None,
    *,
    fusion: str | None = "sum",
    center: bool = False,
    pca: float | None = None,
) -> PairScores:
    """Cosines of the pairs of a protocol; see `evaluate_pairs` for the arguments.

    Returns:
        `PairScores`.

    Raises:
        ValueError: see `evaluate_pairs`.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0], [1, 2], [True, False], [0, 1])
        >>> score_pairs(protocol, [[1, 0], [0, 1], [1, 0]], [[0, 1], [1, 0], [1, 0]]).settings["fusion"]
        'sum'
    """
    features = fused_features(embeddings, mirrored, fusion, len(protocol.images))
    pca = checked_share(pca, "pca")
    settings = {"fusion": fusion if mirrored is not None else None, "center": bool(center), "pca": pca}
    left, right = protocol.left, protocol.right
    if not center and pca is None:
        cosines = paired_cosines(features, left, right)
        return PairScores(cosines[None], cosines, settings)
    names, codes = np.unique(protocol.folds, return_inverse=True)
    rows, dimensions = np.empty((names.size, left.size)), []
    for fold, projection in enumerate(fold_projections(features, left, right, codes, pca)):
        what = f"embeddings as projected for fold {names[fold]}"
        projected = checked_rows(projection.of(features), what, len(features))
        rows[fold] = paired_cosines(projected, left, right)
        dimensions.append(projected.shape[1])
    return PairScores(rows, rows[codes, np.arange(left.size)], {**settings, "dimensions": dimensions})


def resample_pairs(
    protocol: PairProtocol, scores: PairScores, fars: Iterable[float], *, repeats: int = REPEATS, seed: int = 0
) -> dict[str, np.ndarray]:
    """The figures of `evaluate_pairs` on resamples, the same ones for every model with the same seed.

    Args:
        protocol: the pairs.
        scores: of one model.
        fars: rates for TAR@FAR.
        repeats: R, number of draws.
        seed: of the draws.

    Returns:
        (R,) values by name of the figure.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
        >>> scores = score_pairs(protocol, [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> resample_pairs(protocol, scores, [0.5], repeats=5)["EER"].shape
        (5,)
    """
    units = resampled_units(protocol.subjects, protocol.left, protocol.right)[1]
    return resampled_figures(
        units, scores.rows, scores.pooled, protocol.same, protocol.folds, fars, repeats=repeats, seed=seed
    )
