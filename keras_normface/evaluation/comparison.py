"""What a comparison of two models says, as text and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from keras_normface.evaluation.figure import CONFIDENCE, shown


@dataclass(frozen=True)
class Difference:
    """One figure of two models on the same protocol.

    Attributes:
        name: of the figure.
        a: its value for the first model.
        b: for the second.
        interval: (low, high), 95 % percentile interval of b - a over draws that both models share; or None.
        b_better: share of the draws in which b is better than a; those in which they are equal count half. None
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
    def difference(self) -> float:
        """B - a."""
        return self.b - self.a

    def __str__(self) -> str:
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
        resampled: "subjects", or "pairs" where not all subjects are known; None where nothing was drawn.
        repeats: number of draws, or 0.
        seed: of the draws, or None.

    Example:
        >>> difference = Difference("EER", 0.5, 0.25, (-0.5, 0.0), 0.75)
        >>> print(Comparison("toy", ("a", "b"), (difference,), "subjects", 9, 0))
        toy, a against b, 9 draws of subjects
        EER 50.00 % and 25.00 %, difference -25.00 % (95% interval -50.00 % to +0.00 %), second better in 75.0 %
    """

    protocol: str
    models: tuple[str, str]
    differences: tuple[Difference, ...]
    resampled: str | None = None
    repeats: int = 0
    seed: int | None = None

    def __getitem__(self, name: str) -> Difference:
        for difference in self.differences:
            if difference.name == name:
                return difference
        raise KeyError(f"no figure {name!r}; there are {[each.name for each in self.differences]}")

    def __str__(self) -> str:
        drawn = f"{self.repeats} draws of {self.resampled}" if self.repeats else "without intervals of the differences"
        head = f"{self.protocol}, {self.models[0]} against {self.models[1]}, {drawn}"
        return "\n".join([head, *map(str, self.differences)])

    def to_dict(self) -> dict[str, object]:
        """The comparison as a dict for JSON."""
        return asdict(self)
