"""What a comparison of two models says, as text and for JSON."""

from dataclasses import asdict, dataclass

import numpy as np

from keras_normface.metrics.bootstrap import CONFIDENCE, REPEATS, defined_interval
from keras_normface.metrics.results import shown
from keras_normface.protocols.pairs import evaluate_pairs


@dataclass(frozen=True)
class Difference:
    """One figure of two models on the same protocol.

    Attributes:
        name: of the figure.
        a: its value for the first model.
        b: for the second.
        interval: (low, high), 95 % percentile interval of b - a over shared bootstrap replicates, or None.
        b_better: share of the replicates in which b is better than a; equal ones count half. None
            where there is no interval.
        note: what the note of the figure says.

    Example:
        >>> print(Difference("accuracy", 0.98, 0.99, (0.002, 0.018), 0.995))
        accuracy 98.00 % and 99.00 %, difference +1.00 % (95% interval +0.20 % to +1.80 %), second better in 99.5 %
    """

    name: str
    a: float
    b: float
    interval: tuple[float, float] | None = None
    b_better: float | None = None
    note: str = ""

    @property
    def difference(self):
        """B - a."""
        return self.b - self.a

    def __str__(self):
        values = f"{shown(self.a, 'share')} and {shown(self.b, 'share')}"
        text = f"{self.name} {values}, difference {100 * self.difference:+.2f} %"
        if self.interval is not None:
            low, high = (f"{100 * end:+.2f} %" for end in self.interval)
            text += f" ({CONFIDENCE:.0%} interval {low} to {high}), second better in {100 * self.b_better:.1f} %"
        return text + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class Comparison:
    """Two models on one protocol.

    Attributes:
        protocol: the protocol's name.
        models: names of the first and the second model.
        differences: one for each figure.
        resampled: "subjects", or "pairs" where not all subjects are known; None where nothing was.
        repeats: number of bootstrap replicates, or 0.
        seed: of the replicates, or None.

    Example:
        >>> difference = Difference("EER", 0.5, 0.25, (-0.5, 0.0), 0.75)
        >>> print(Comparison("toy", ("a", "b"), (difference,), "subjects", 9, 0))
        toy, a against b, 9 bootstrap replicates of subjects
        EER 50.00 % and 25.00 %, difference -25.00 % (95% interval -50.00 % to +0.00 %), second better in 75.0 %
    """

    protocol: str
    models: tuple[str, str]
    differences: tuple[Difference, ...]
    resampled: str | None = None
    repeats: int = 0
    seed: int | None = None

    def __getitem__(self, name):
        for difference in self.differences:
            if difference.name == name:
                return difference
        raise KeyError(f"no figure {name!r}; there are {[each.name for each in self.differences]}")

    def __str__(self):
        how = (
            f"{self.repeats} bootstrap replicates of {self.resampled}"
            if self.repeats
            else "without intervals of the differences"
        )
        head = f"{self.protocol}, {self.models[0]} against {self.models[1]}, {how}"
        return "\n".join([head, *map(str, self.differences)])

    def to_dict(self):
        """The comparison as a dict for JSON."""
        return asdict(self)


_SMALLER_IS_BETTER = ("EER",)


def compare_results(result_a, result_b, models=("a", "b")):
    """Compare two models on one protocol by the paired bootstrap, for whatever was evaluated.

    Args:
        result_a: what an `evaluate_...` function of this package returned for the first model.
        result_b: what it returned for the second, with the same options, `repeats` and `seed`.
        models: their names.

    Returns:
        A `Comparison` of the figures that both have, in the order of `result_a`. Where a figure of either was not
        evaluated on replicates, its difference has no interval. What a figure keeps on its replicates (a threshold,
        the distractors) is kept here too; its note says so.

    Raises:
        ValueError: the results are of two protocols or have no figure in common, or their replicates differ.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 13.

    Example:
        >>> from keras_normface.metrics.results import MetricValue, Result
        >>> a, b = (Result("toy", (MetricValue("rank-1", value),), {}) for value in (0.5, 0.75))
        >>> print(compare_results(a, b, ("old", "new")))
        toy, old against new, without intervals of the differences
        rank-1 50.00 % and 75.00 %, difference +25.00 %
    """
    if (result_a.protocol, result_a.counts) != (result_b.protocol, result_b.counts):
        raise ValueError(
            "`result_b` must be of the protocol of result_a. Received: "
            + " and ".join(f"{result.protocol} with {result.counts}" for result in (result_a, result_b))
        )
    resampling, ours, theirs = _shared_replicates(result_a.resamples, result_b.resamples)
    values_b = {figure.name: figure.value for figure in result_b.figures}
    common = [figure for figure in result_a.figures if figure.name in values_b]
    if not common:
        raise ValueError("`result_a` and `result_b` must have a figure in common. Received: none")
    differences = tuple(
        _difference(figure, values_b[figure.name], ours.get(figure.name), theirs.get(figure.name)) for figure in common
    )
    return Comparison(result_a.protocol, tuple(models), differences, *resampling)


def compare_pairs(
    protocol,
    embeddings_a,
    embeddings_b,
    mirrored_a=None,
    mirrored_b=None,
    *,
    models=("a", "b"),
    flip="sum",
    center=False,
    pca=None,
    fars=None,
    repeats=REPEATS,
    seed=0,
):
    """Compare two models on the same pairs by a paired bootstrap over subjects.

    Args:
        protocol: the pairs.
        embeddings_a: (N, D) of the first model, one row for each of `protocol.images`.
        embeddings_b: (N, E) of the second.
        mirrored_a: None, or (N, D) of the mirror images.
        mirrored_b: None, or (N, E) of the mirror images.
        models: their names.
        flip: see `evaluate_pairs`, for both models, as are the others.
        center: see `evaluate_pairs`.
        pca: see `evaluate_pairs`.
        fars: see `evaluate_pairs`.
        repeats: number of bootstrap replicates; each is evaluated with both models.
        seed: of the replicates.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: see `evaluate_pairs`; its message does not say which model it is about.

    Source: see `compare_results`.

    Example:
        >>> from keras_normface.protocols import PairProtocol
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
        >>> good, bad = [[1, 0], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]]
        >>> compare_pairs(protocol, bad, good, repeats=20)["EER"].difference
        -1.0
    """
    fars = None if fars is None else tuple(fars)
    options = {"flip": flip, "center": center, "pca": pca, "fars": fars, "repeats": repeats, "seed": seed}
    sides = (embeddings_a, mirrored_a), (embeddings_b, mirrored_b)
    return compare_results(*(evaluate_pairs(protocol, *side, **options) for side in sides), models)


def _shared_replicates(ours, theirs):
    """The last attributes of a `Comparison`, and both models' values on the replicates, by name."""
    known = [resamples for resamples in (ours, theirs) if resamples is not None]
    resampling = [(resamples.unit, resamples.repeats, resamples.seed) for resamples in known]
    if len(resampling) == 2 and resampling[0] != resampling[1]:
        raise ValueError(
            "`result_b` must be evaluated on the bootstrap replicates of result_a, with its repeats and seed. "
            f"Received: {resampling[1]} and {resampling[0]}"
        )
    if len(resampling) < 2 or not ours.values.keys() & theirs.values.keys():
        return (), {}, {}
    return resampling[0], ours.values, theirs.values


def _difference(figure, b, ours, theirs):
    gained = np.empty(0) if ours is None or theirs is None else theirs - ours
    interval = defined_interval(gained) if gained.size else None
    if interval is None:
        return Difference(figure.name, figure.value, b, note=figure.note)
    sign = np.sign(gained[~np.isnan(gained)]) * (-1 if figure.name in _SMALLER_IS_BETTER else 1)
    return Difference(figure.name, figure.value, b, interval, float(np.mean((sign + 1.0) / 2.0)), figure.note)
