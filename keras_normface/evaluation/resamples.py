"""A model's figures on the draws of a bootstrap, kept so that another model can be set against it draw by draw."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_normface.evaluation.bootstrap import checked_count, percentile_interval


@dataclass(frozen=True, eq=False)
class Resamples:
    """Figures on the draws of a bootstrap.

    The same protocol, number of draws and seed give the same draws for every model.

    Attributes:
        drawn: "subjects", or "pairs" where not all subjects are known.
        repeats: R, number of draws, at least 1.
        seed: of the draws.
        values: (R,) by name of the figure; NaN where a draw does not define it.

    Raises:
        ValueError: `repeats` or `seed` is no such integer.

    Example:
        >>> resamples = Resamples("subjects", 3, seed=0)
        >>> resamples.keep("rank-1", [0.5, 0.5, 0.5])
        (0.5, 0.5)
        >>> list(resamples.values)
        ['rank-1']
    """

    drawn: str
    repeats: int
    seed: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "repeats", checked_count(self.repeats, "repeats", 1))
        object.__setattr__(self, "seed", checked_count(self.seed, "seed", 0))

    def keep(self, name: str, values) -> tuple[float, float] | None:
        """Take a figure's values on the draws.

        Args:
            name: of the figure.
            values: (R,) numbers, or None where nothing could be drawn.

        Returns:
            The 95 % percentile interval, or None where fewer than half of the draws define the figure; such values
            are not kept.

        Raises:
            ValueError: there are not R values.
        """
        if values is None:
            return None
        values = np.asarray(values, np.float64)
        if values.shape != (self.repeats,):
            raise ValueError(f"values must be one for each of {self.repeats} draws. Received: shape {values.shape}")
        interval = defined_interval(values)
        if interval is not None:
            self.values[name] = values
        return interval

    @property
    def settings(self) -> dict[str, int]:
        """What a result says of its draws."""
        return {"resamples": self.repeats, "seed": self.seed}


def defined_interval(values: np.ndarray) -> tuple[float, float] | None:
    """`percentile_interval`, or None where fewer than half of the values are numbers.

    Example:
        >>> defined_interval(np.array([np.nan, 1.0])), defined_interval(np.array([np.nan, np.nan, 1.0]))
        ((1.0, 1.0), None)
    """
    return None if 2 * np.count_nonzero(np.isnan(values)) > values.size else percentile_interval(values)
