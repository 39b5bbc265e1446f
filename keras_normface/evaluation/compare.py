"""Is one model better than another, or were the subjects kind to it? A paired bootstrap over subjects."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.comparison import Comparison, Difference
from keras_normface.evaluation.figure import Figure
from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.evaluation.pairs import evaluate_pairs
from keras_normface.evaluation.resamples import defined_interval
from keras_normface.evaluation.result import Result

_SMALLER_IS_BETTER = ("EER",)


def compare_results(result_a: Result, result_b: Result, models: tuple[str, str] = ("a", "b")) -> Comparison:
    """Compare two models on one protocol, draw by draw: the paired bootstrap, for whatever was evaluated.

    Args:
        result_a: what an `evaluate_...` function of this package returned for the first model.
        result_b: what it returned for the second, with the same options, `repeats` and `seed`.
        models: their names.

    Returns:
        A `Comparison` of the figures that both have, in the order of `result_a`. Where a figure of either was not
        evaluated on draws, its difference has no interval. What was kept on the draws of a figure (a threshold,
        the distractors) is kept here too; its note says so.

    Raises:
        ValueError: the results are of two protocols or have no figure in common, or their draws differ.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 13.

    Example:
        >>> a, b = (Result("toy", (Figure("rank-1", value),), {}) for value in (0.5, 0.75))
        >>> print(compare_results(a, b, ("old", "new")))
        toy, old against new, without intervals of the differences
        rank-1 50.00 % and 75.00 %, difference +25.00 %
    """
    if (result_a.protocol, result_a.counts) != (result_b.protocol, result_b.counts):
        raise ValueError(
            "result_b must be of the protocol of result_a. Received: "
            + " and ".join(f"{result.protocol} with {result.counts}" for result in (result_a, result_b))
        )
    drawn, ours, theirs = _shared_draws(result_a.resamples, result_b.resamples)
    values_b = {figure.name: figure.value for figure in result_b.figures}
    common = [figure for figure in result_a.figures if figure.name in values_b]
    if not common:
        raise ValueError("result_a and result_b must have a figure in common. Received: none")
    differences = tuple(
        _difference(figure, values_b[figure.name], ours.get(figure.name), theirs.get(figure.name)) for figure in common
    )
    return Comparison(result_a.protocol, tuple(models), differences, *drawn)


def compare_pairs(
    protocol: PairProtocol,
    embeddings_a: ArrayLike,
    embeddings_b: ArrayLike,
    mirrored_a: ArrayLike | None = None,
    mirrored_b: ArrayLike | None = None,
    *,
    models: tuple[str, str] = ("a", "b"),
    fusion: str | None = "sum",
    center: bool = False,
    pca: float | None = None,
    fars: Iterable[float] | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same pairs by a paired bootstrap over subjects.

    Args:
        protocol: the pairs.
        embeddings_a: (N, D) of the first model, one row for each of `protocol.images`.
        embeddings_b: (N, E) of the second.
        mirrored_a: None, or (N, D) of the mirror images.
        mirrored_b: None, or (N, E) of the mirror images.
        models: their names.
        fusion: see `evaluate_pairs`, for both models, as are the others.
        center: see `evaluate_pairs`.
        pca: see `evaluate_pairs`.
        fars: see `evaluate_pairs`.
        repeats: number of draws; each is evaluated with both models.
        seed: of the draws.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: see `evaluate_pairs`; its message does not say which model it is about.

    Source: see `compare_results`.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
        >>> good, bad = [[1, 0], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]]
        >>> compare_pairs(protocol, bad, good, repeats=20)["EER"].difference
        -1.0
    """
    fars = None if fars is None else tuple(fars)
    options = {"fusion": fusion, "center": center, "pca": pca, "fars": fars, "repeats": repeats, "seed": seed}
    sides = (embeddings_a, mirrored_a), (embeddings_b, mirrored_b)
    return compare_results(*(evaluate_pairs(protocol, *side, **options) for side in sides), models)


def _shared_draws(ours, theirs):
    """What was drawn, as the last attributes of a `Comparison`; and both models' values on the draws, by name."""
    known = [resamples for resamples in (ours, theirs) if resamples is not None]
    drawn = [(resamples.drawn, resamples.repeats, resamples.seed) for resamples in known]
    if len(drawn) == 2 and drawn[0] != drawn[1]:
        raise ValueError(
            "result_b must be evaluated on the draws of result_a, with its repeats and seed. "
            f"Received: {drawn[1]} and {drawn[0]}"
        )
    if len(drawn) < 2 or not ours.values.keys() & theirs.values.keys():
        return (), {}, {}
    return drawn[0], ours.values, theirs.values


def _difference(figure: Figure, b: float, ours: np.ndarray | None, theirs: np.ndarray | None) -> Difference:
    gained = np.empty(0) if ours is None or theirs is None else theirs - ours
    interval = defined_interval(gained) if gained.size else None
    if interval is None:
        return Difference(figure.name, figure.value, b, note=figure.note)
    sign = np.sign(gained[~np.isnan(gained)]) * (-1 if figure.name in _SMALLER_IS_BETTER else 1)
    return Difference(figure.name, figure.value, b, interval, float(np.mean((sign + 1.0) / 2.0)), figure.note)
