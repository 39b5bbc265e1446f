"""Is one model better than another, or were the subjects kind to it? A paired bootstrap over subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation.bootstrap import REPEATS, percentile_interval
from keras_normface.evaluation.figure import CONFIDENCE, Figure, shown
from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.evaluation.pair_scoring import resample_pairs, score_pairs
from keras_normface.evaluation.pairs import checked_fars, evaluate_pair_scores
from keras_normface.evaluation.resampled_pairs import resampled_units

_SMALLER_IS_BETTER = ("EER",)


@dataclass(frozen=True)
class Difference:
    """One figure of two models on the same protocol.

    Attributes:
        name: of the figure.
        a: its value for the first model.
        b: for the second.
        interval: (low, high), 95 % percentile interval of b - a over resamples that both models share.
        b_better: share of the resamples in which b is better than a; those in which they are equal count half.

    Example:
        >>> print(Difference("accuracy", 0.98, 0.99, (0.002, 0.018), 0.995))
        accuracy 98.00 % and 99.00 %, difference +1.00 % (95% interval +0.20 % to +1.80 %), second better in 99.5 %
    """

    name: str
    a: float
    b: float
    interval: tuple[float, float]
    b_better: float

    @property
    def difference(self) -> float:
        """B - a."""
        return self.b - self.a

    def __str__(self) -> str:
        low, high = (f"{100 * end:+.2f} %" for end in self.interval)
        return (
            f"{self.name} {shown(self.a, 'share')} and {shown(self.b, 'share')}, "
            f"difference {100 * self.difference:+.2f} % ({CONFIDENCE:.0%} interval {low} to {high}), "
            f"second better in {100 * self.b_better:.1f} %"
        )


@dataclass(frozen=True)
class Comparison:
    """Two models on one protocol.

    Attributes:
        protocol: the protocol's name.
        models: names of the first and the second model.
        differences: one for each figure.
        resampled: "subjects", or "pairs" where not all subjects are known.
        repeats: number of draws.
        seed: of the draws.

    Example:
        >>> difference = Difference("EER", 0.5, 0.25, (-0.5, 0.0), 0.75)
        >>> print(Comparison("toy", ("a", "b"), (difference,), "subjects", 9, 0))
        toy, a against b, 9 draws of subjects
        EER 50.00 % and 25.00 %, difference -25.00 % (95% interval -50.00 % to +0.00 %), second better in 75.0 %
    """

    protocol: str
    models: tuple[str, str]
    differences: tuple[Difference, ...]
    resampled: str
    repeats: int
    seed: int

    def __getitem__(self, name: str) -> Difference:
        for difference in self.differences:
            if difference.name == name:
                return difference
        raise KeyError(f"no figure {name!r}; there are {[each.name for each in self.differences]}")

    def __str__(self) -> str:
        head = f"{self.protocol}, {self.models[0]} against {self.models[1]}, {self.repeats} draws of {self.resampled}"
        return "\n".join([head, *map(str, self.differences)])

    def to_dict(self) -> dict[str, object]:
        """The comparison as a dict for JSON."""
        return asdict(self)


def compare_figures(
    figures_a: Iterable[Figure],
    figures_b: Iterable[Figure],
    resampled_a: Mapping[str, ArrayLike],
    resampled_b: Mapping[str, ArrayLike],
) -> tuple[Difference, ...]:
    """Differences of the figures that two models have in common, for any protocol.

    Args:
        figures_a: the first model's.
        figures_b: the second's.
        resampled_a: (R,) values by name of the figure, on resamples; NaN where one is not defined.
        resampled_b: the same of the second model ON THE SAME resamples.

    Returns:
        A `Difference` for each name that all four hold, in the order of `figures_a`.

    Raises:
        ValueError: there is no such name, or the two numbers of resamples differ.

    Example:
        >>> a, b = [Figure("rank-1", 0.5)], [Figure("rank-1", 0.75)]
        >>> compare_figures(a, b, {"rank-1": [0.5, 0.5]}, {"rank-1": [0.75, 0.5]})[0].b_better
        0.75
    """
    values_b = {figure.name: figure.value for figure in figures_b}
    differences = []
    for figure in figures_a:
        name = figure.name
        if name in values_b and name in resampled_a and name in resampled_b:
            ours, theirs = np.asarray(resampled_a[name], float), np.asarray(resampled_b[name], float)
            if ours.shape != theirs.shape:
                raise ValueError(
                    f"resampled_b must be on the resamples of resampled_a. Received: {name!r} on {theirs.size} and "
                    f"{ours.size} resamples"
                )
            gained = theirs - ours
            interval = percentile_interval(gained)
            sign = np.sign(gained[~np.isnan(gained)]) * (-1 if name in _SMALLER_IS_BETTER else 1)
            share = float(np.mean((sign + 1.0) / 2.0))
            differences.append(Difference(name, figure.value, values_b[name], interval, share))
    if not differences:
        raise ValueError("figures_a and figures_b must have a resampled figure in common. Received: none")
    return tuple(differences)


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

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 13.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
        >>> good, bad = [[1, 0], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]]
        >>> compare_pairs(protocol, bad, good, repeats=20)["EER"].difference
        -1.0
    """
    fars = checked_fars(fars, np.count_nonzero(~protocol.same))
    figures, resampled = [], []
    for embeddings, mirrored in ((embeddings_a, mirrored_a), (embeddings_b, mirrored_b)):
        scores = score_pairs(protocol, embeddings, mirrored, fusion=fusion, center=center, pca=pca)
        figures.append(evaluate_pair_scores(protocol, scores, fars=fars, intervals=False).figures)
        resampled.append(resample_pairs(protocol, scores, fars, repeats=repeats, seed=seed))
    drawn = resampled_units(protocol.subjects, protocol.left, protocol.right)[0]
    differences = compare_figures(*figures, *resampled)
    return Comparison(protocol.name, tuple(models), differences, drawn, repeats, seed)
