"""One number of an evaluation, with all that is needed to print it honestly."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    Attributes:
        name: what it is, such as "accuracy", "TAR@FAR=1e-04" or "rank-1".
        value: a share in [0, 1], or a number in `unit`.
        interval: None, or (low, high), the 95 % percentile bootstrap interval.
        spread: None, or a number not below 0, of the kind that `spread_of` says.
        spread_of: such as "standard error of ten folds".
        threshold: None, or the score from which on a pair was accepted.
        note: what the reader must know to judge it, one sentence or empty.
        unit: "share", or the name of another unit.

    Raises:
        ValueError: an attribute is of the wrong type or not finite, or `spread` has no `spread_of`.

    Example:
        >>> print(Figure("accuracy", 0.9953, spread=0.0011, spread_of="standard error of ten folds"))
        accuracy 99.53 % +- 0.11 % (standard error of ten folds)
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    spread: float | None = None
    spread_of: str | None = None
    threshold: float | None = None
    note: str = ""
    unit: str = "share"

    def __post_init__(self):
        for key, optional in (("name", False), ("spread_of", True), ("note", False), ("unit", False)):
            _check_text(key, getattr(self, key), optional)
        object.__setattr__(self, "value", _finite("value", self.value))
        for key in ("spread", "threshold"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, _finite(key, getattr(self, key)))
        if self.spread is not None and (self.spread < 0.0 or not self.spread_of):
            raise ValueError(
                "spread must not be negative and spread_of must say what it is. "
                f"Received: spread={self.spread}, spread_of={self.spread_of!r}"
            )
        if self.interval is not None:
            object.__setattr__(self, "interval", _checked_interval(self.interval))

    def __str__(self) -> str:
        text = f"{self.name} {shown(self.value, self.unit)}"
        if self.spread is not None:
            text += f" +- {shown(self.spread, self.unit)} ({self.spread_of})"
        if self.interval is not None:
            text += f", {CONFIDENCE:.0%} interval {shown_interval(self)}"
        return text + (f"; {' '.join(self.note.split())}" if self.note else "")


def shown(value: float, unit: str) -> str:
    """A number as it is printed: a share as a percentage with two decimals.

    Args:
        value: the number.
        unit: that of its `Figure`.

    Returns:
        Text with the unit.

    Example:
        >>> shown(0.12345, "share"), shown(0.12345, "cosine")
        ('12.35 %', '0.1235 cosine')
    """
    return f"{100 * value:.2f} %" if unit == "share" else f"{value:.4g} {unit}"


def rate_name(measure: str, rate: float) -> str:
    """The name of a figure at a wanted error rate.

    Args:
        measure: such as "TAR@FAR".
        rate: such as 0.001.

    Returns:
        Text that no other rate has.

    Example:
        >>> rate_name("TAR@FAR", 0.001), rate_name("TAR@FAR", 0.025)
        ('TAR@FAR=1e-03', 'TAR@FAR=0.025')
    """
    short = f"{rate:.0e}"
    return f"{measure}={short if float(short) == rate else repr(float(rate))}"


def shown_interval(figure: Figure) -> str:
    """The interval of a figure as it is printed, or nothing where there is none.

    Args:
        figure: the `Figure`.

    Returns:
        Text such as "99.31 % to 99.70 %".

    Example:
        >>> shown_interval(Figure("accuracy", 0.5, interval=(0.25, 0.75)))
        '25.00 % to 75.00 %'
    """
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{shown(low, figure.unit)} to {shown(high, figure.unit)}"


def figure_to_dict(figure: Figure) -> dict[str, object]:
    """A figure as a dict for JSON, without what is not set.

    Args:
        figure: the `Figure`.

    Returns:
        A dict of strings, floats and lists.

    Example:
        >>> figure_to_dict(Figure("rank-1", 0.5, threshold=0.25))
        {'name': 'rank-1', 'value': 0.5, 'threshold': 0.25, 'unit': 'share'}
    """
    pairs = ((field.name, getattr(figure, field.name)) for field in fields(figure))
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in pairs
        if value is not None and value != ""
    }


def figure_from_dict(content: object) -> Figure:
    """Read back what `figure_to_dict` made.

    Args:
        content: the dict.

    Returns:
        A `Figure`.

    Raises:
        ValueError: it is no dict, lacks "name" or "value", or holds something that a `Figure` does not admit.

    Example:
        >>> figure_from_dict({"name": "rank-1", "value": 0.5}).value
        0.5
    """
    known = {field.name for field in fields(Figure)}
    if not isinstance(content, dict) or not {"name", "value"} <= set(content) <= known:
        raise ValueError(
            f"a figure must be a dict with name, value and no keys but {sorted(known)}. Received: {content!r}"
        )
    return Figure(**content)


def _check_text(key: str, value: object, optional: bool) -> None:
    if not isinstance(value, str) and not (optional and value is None):
        raise ValueError(f"{key} must be text. Received: {key}={value!r}")
    if key == "name" and not value:
        raise ValueError("name must not be empty. Received: name=''")


def _finite(key: str, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError(f"{key} must be a finite number. Received: {key}={value!r}")
        return float(value)
    except OverflowError:
        raise ValueError(f"{key} must be a finite number. Received: {key} beyond what a float can hold") from None


def _checked_interval(interval: object) -> tuple[float, float]:
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise ValueError(f"interval must be (low, high). Received: interval={interval!r}")
    low, high = (_finite("interval", end) for end in interval)
    if low > high:
        raise ValueError(f"interval must be (low, high) with low <= high. Received: interval={interval!r}")
    return low, high
