"""One number of an evaluation, with all that is needed to print it honestly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields

import numpy as np

from keras_normface import _validation
from keras_normface._io import JsonFormat, read_bounded, write_text
from keras_normface.metrics.bootstrap import CONFIDENCE, Resamples
from keras_normface.metrics.verification import RocCurve


@dataclass(frozen=True)
class MetricValue:
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
        >>> print(MetricValue("accuracy", 0.9953, spread=0.0011, spread_of="standard error of ten folds"))
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
        object.__setattr__(self, "value", _validation.number("value", self.value))
        for key in ("spread", "threshold"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, _validation.number(key, getattr(self, key)))
        if self.spread is not None and (self.spread < 0.0 or not self.spread_of):
            raise ValueError(
                "`spread` must not be negative and spread_of must say what it is. "
                f"Received: spread={self.spread}, spread_of={self.spread_of!r}"
            )
        if self.interval is not None:
            object.__setattr__(self, "interval", _checked_interval(self.interval))

    def __str__(self):
        text = f"{self.name} {shown(self.value, self.unit)}"
        if self.spread is not None:
            text += f" +- {shown(self.spread, self.unit)} ({self.spread_of})"
        if self.interval is not None:
            text += f", {CONFIDENCE:.0%} interval {_shown_interval(self)}"
        return text + (f"; {' '.join(self.note.split())}" if self.note else "")


def shown(value, unit):
    """A number as it is printed: a share as a percentage with two decimals.

    Args:
        value: the number.
        unit: that of its `MetricValue`.

    Returns:
        Text with the unit.

    Example:
        >>> shown(0.12345, "share"), shown(0.12345, "cosine")
        ('12.35 %', '0.1235 cosine')
    """
    return f"{100 * value:.2f} %" if unit == "share" else f"{value:.4g} {unit}"


def _shown_interval(figure):
    """Interval of a `MetricValue` as it is printed, or nothing where there is none."""
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{shown(low, figure.unit)} to {shown(high, figure.unit)}"


def _value_to_dict(figure):
    """`MetricValue` → dict for JSON, without what is not set."""
    pairs = ((field.name, getattr(figure, field.name)) for field in fields(figure))
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in pairs
        if value is not None and value != ""
    }


def _value_from_dict(content):
    """What `_value_to_dict` made → `MetricValue`; otherwise a ValueError."""
    known = {field.name for field in fields(MetricValue)}
    if not isinstance(content, dict) or not {"name", "value"} <= set(content) <= known:
        raise ValueError(
            f"a figure must be a dict with name, value and no keys but {sorted(known)}. Received: {content!r}"
        )
    return MetricValue(**content)


def _check_text(key, value, optional):
    if not isinstance(value, str) and not (optional and value is None):
        raise ValueError(f"`{key}` must be text. Received: {key}={value!r}")
    if key == "name" and not value:
        raise ValueError("`name` must not be empty. Received: name=''")


def _checked_interval(interval):
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise ValueError(f"`interval` must be (low, high). Received: interval={interval!r}")
    low, high = (_validation.number("interval", end) for end in interval)
    if low > high:
        raise ValueError(f"`interval` must be (low, high) with low <= high. Received: interval={interval!r}")
    return low, high


def _curve_to_dict(curve):
    """`RocCurve` → dict for JSON; a threshold of infinity, where nothing is accepted, is None."""
    return {
        "far": np.asarray(curve.far, np.float64).tolist(),
        "tar": np.asarray(curve.tar, np.float64).tolist(),
        "thresholds": [float(value) if np.isfinite(value) else None for value in curve.thresholds],
        "num_genuine": int(curve.num_genuine),
        "num_impostor": int(curve.num_impostor),
        "downsampled": curve.downsampled,
    }


def _curve_from_dict(content):
    """What `_curve_to_dict` made → `RocCurve`; otherwise a ValueError."""
    try:
        arrays = {key: np.array(content[key], np.float64) for key in ("far", "tar")}
        arrays["thresholds"] = np.array([np.inf if value is None else value for value in content["thresholds"]], float)
        counts = {key: _validation.integer(key, content[key], 1) for key in ("num_genuine", "num_impostor")}
        downsampled, rates = content["downsampled"], np.stack([arrays["far"], arrays["tar"]])
        sound = rates.ndim == 2 and rates.size and arrays["thresholds"].shape == rates.shape[1:]
        sound = sound and rates.min() >= 0.0 and rates.max() <= 1.0
        sound = sound and bool((np.diff(rates) >= 0.0).all()) and not np.isnan(arrays["thresholds"]).any()
        sound = sound and isinstance(downsampled, bool)
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(
            "a curve must hold far and tar, rising shares, thresholds of the same length, num_genuine and num_impostor "
            f"of at least 1, and downsampled, true or false. Received: {str(content)[:80]}"
        )
    return RocCurve(**arrays, **counts, downsampled=downsampled)


FORMAT = JsonFormat("keras_normface evaluation result", 2, indent=1)


def _checked_figures(figures):
    """`figures` as a tuple of `MetricValue`, each name once; otherwise a ValueError."""
    figures = tuple(figures)
    for figure in figures:
        if not isinstance(figure, MetricValue):
            raise ValueError(f"`figures` must hold MetricValue values. Received: {figure!r}")
    names = [figure.name for figure in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"`figures` must have each name once. Received: figures with {twice} more than once")
    return figures


def _checked_counts(counts):
    """`counts` as a dict of ints; otherwise a ValueError."""
    if not isinstance(counts, dict):
        raise ValueError(f"`counts` must be a dictionary of integers. Received: counts={counts!r}")
    return {str(name): _validation.integer(f"counts[{name!r}]", count) for name, count in counts.items()}


def _plain_settings(settings):
    """`settings` as what comes back from JSON, NumPy values made plain; otherwise a ValueError."""

    def plain(value):
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        raise TypeError(f"{value!r} is of type {type(value).__name__}")

    if not isinstance(settings, dict):
        raise ValueError(f"`settings` must be a dict. Received: settings={settings!r}")
    try:
        return json.loads(json.dumps(settings, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`settings` must hold what JSON can, finite numbers. Received: {error}") from None


def _checked_content(text):
    """JSON text of a result as a dict with all its keys, each of its type; otherwise a ValueError."""
    content = FORMAT.parse(text)
    types = {"protocol": str, "figures": list, "counts": dict, "settings": dict, "curves": dict}
    for key, kind in types.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"`{key}` must be of type {kind.__name__}. Received: {key}={str(content.get(key))[:80]}")
    return content


_LARGEST_FILE = 2**26
_COLUMNS = ("protocol", "figure", "value", "spread", "95 % interval", "threshold", "note")


@dataclass(frozen=True, eq=False)
class Result:
    """What a model scored on a protocol.

    Attributes:
        protocol: the protocol's name, printed beside each figure.
        figures: the numbers, `MetricValue`, each name once.
        counts: images, subjects, genuine and impostor pairs, and the like.
        settings: how it was computed; what JSON holds: numbers, text, lists, dicts, None. NumPy values become such.
        curves: `RocCurve` by name; each is downsampled to at most about a thousand of its points.
        resamples: None, or the figures on the bootstrap replicates behind their intervals, for `compare_results`.
            They are not stored: a result that was read from a file has none.

    Raises:
        ValueError: an attribute is of another type, or two figures have one name.

    Example:
        >>> result = Result("toy pairs", (MetricValue("accuracy", 0.5), MetricValue("EER", 0.25)), {"pairs": 4})
        >>> result["EER"].value
        0.25
        >>> print(result)
        toy pairs: accuracy 50.00 %
        toy pairs: EER 25.00 %
        >>> Result.from_json(result.to_json()).counts
        {'pairs': 4}
    """

    protocol: str
    figures: tuple[MetricValue, ...]
    counts: dict[str, int]
    settings: dict[str, object] = field(default_factory=dict)
    curves: dict[str, RocCurve] = field(default_factory=dict)
    resamples: Resamples | None = field(default=None, repr=False)

    def __post_init__(self):
        if not isinstance(self.protocol, str) or not self.protocol:
            raise ValueError(f"`protocol` must be the protocol's name. Received: protocol={self.protocol!r}")
        object.__setattr__(self, "figures", _checked_figures(self.figures))
        object.__setattr__(self, "counts", _checked_counts(self.counts))
        object.__setattr__(self, "settings", _plain_settings(self.settings))
        for name, curve in self.curves.items():
            if not isinstance(curve, RocCurve):
                raise ValueError(f"`curves` must hold RocCurve values. Received: curves[{name!r}]={curve!r}")
        if not isinstance(self.resamples, (Resamples, type(None))):
            raise ValueError(f"`resamples` must be Resamples or None. Received: resamples={self.resamples!r}")
        thin = {str(name): curve.downsample() for name, curve in self.curves.items()}
        object.__setattr__(self, "curves", thin)

    def __getitem__(self, name):
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(f"no figure {name!r} in {self.protocol}; there are {[figure.name for figure in self.figures]}")

    def __str__(self):
        return "\n".join(f"{self.protocol}: {figure}" for figure in self.figures)

    def markdown(self):
        """All figures as a Markdown table, the protocol's name in each row.

        Returns:
            Text of one header, one rule and one line for each figure.
        """
        rows = [_COLUMNS, ["---"] * len(_COLUMNS), *(self._cells(figure) for figure in self.figures)]
        return "\n".join(_markdown_line(row) for row in rows) + "\n"

    def markdown_row(self, names=None):
        """One line of a table of several models or protocols.

        Args:
            names: which figures, in which order; None for all.

        Returns:
            The protocol's name, then each figure with its spread and interval, separated by bars; without a line break.

        Raises:
            KeyError: there is no figure of such a name.
        """
        figures = self.figures if names is None else [self[name] for name in names]
        return _markdown_line([self.protocol, *(_short(figure) for figure in figures)])

    def to_json(self):
        """The whole result as JSON text."""
        content = {
            "protocol": self.protocol,
            "figures": [_value_to_dict(figure) for figure in self.figures],
            "counts": self.counts,
            "settings": self.settings,
            "curves": {name: _curve_to_dict(curve) for name, curve in self.curves.items()},
        }
        return FORMAT.text(content)

    @classmethod
    def from_json(cls, text):
        """Read back what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            A `Result`.

        Raises:
            ValueError: the text is corrupt, of another format, or of another version.
        """
        content = _checked_content(text)
        figures = tuple(_value_from_dict(figure) for figure in content["figures"])
        curves = {name: _curve_from_dict(curve) for name, curve in content["curves"].items()}
        return cls(content["protocol"], figures, content["counts"], content["settings"], curves)

    def save(self, path):
        """Write `to_json` to a file, atomically.

        Args:
            path: a file in an existing directory; replaced.
        """
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path):
        """Read a file that `save` wrote.

        Args:
            path: the file.

        Returns:
            A `Result`.

        Raises:
            ValueError: the file is corrupt or not a result; the message names it.
            OSError: it cannot be read.
        """
        return read_bounded(path, cls.from_json, _LARGEST_FILE)

    def _cells(self, figure):
        spread = "" if figure.spread is None else f"{shown(figure.spread, figure.unit)} ({figure.spread_of})"
        threshold = "" if figure.threshold is None else f"{figure.threshold:.4f}"
        value = shown(figure.value, figure.unit)
        return [self.protocol, figure.name, value, spread, _shown_interval(figure), threshold, figure.note]


def _short(figure):
    text = shown(figure.value, figure.unit)
    if figure.spread is not None:
        text += f" +- {shown(figure.spread, figure.unit)}"
    return text if figure.interval is None else f"{text} ({_shown_interval(figure)})"


def _markdown_line(cells):
    # A bar or a line break inside a cell would end it.
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"
