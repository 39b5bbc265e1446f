"""What every protocol returns: figures, counts, settings and curves, as text, JSON and Markdown."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from keras_normface.evaluation._result_checks import (
    FORMAT,
    VERSION,
    checked_content,
    checked_counts,
    checked_figures,
    plain_settings,
)
from keras_normface.evaluation.figure import (
    Figure,
    figure_from_dict,
    figure_to_dict,
    shown,
    shown_interval,
)
from keras_normface.evaluation.resamples import Resamples
from keras_normface.evaluation.thinned import curve_from_dict, curve_to_dict, thinned_curve
from keras_normface.evaluation.verification import RocCurve
from keras_normface.written_beside import written_beside

_LARGEST_FILE = 2**26
_COLUMNS = ("protocol", "figure", "value", "spread", "95 % interval", "threshold", "note")


@dataclass(frozen=True, eq=False)
class Result:
    """What a model scored on a protocol.

    Attributes:
        protocol: the protocol's name, printed beside each figure.
        figures: the numbers, `Figure`, each name once.
        counts: images, subjects, genuine and impostor pairs, and the like.
        settings: how it was computed; what JSON holds: numbers, text, lists, dicts, None. NumPy values become such.
        curves: `RocCurve` by name; each is thinned to at most about a thousand of its points.
        resamples: None, or the figures on the draws behind their intervals, for `compare_results`. They are not
            stored: a result that was read from a file has none.

    Raises:
        ValueError: an attribute is of another type, or two figures have one name.

    Example:
        >>> result = Result("toy pairs", (Figure("accuracy", 0.5), Figure("EER", 0.25)), {"pairs": 4})
        >>> result["EER"].value
        0.25
        >>> print(result)
        toy pairs: accuracy 50.00 %
        toy pairs: EER 25.00 %
        >>> Result.from_json(result.to_json()).counts
        {'pairs': 4}
    """

    protocol: str
    figures: tuple[Figure, ...]
    counts: dict[str, int]
    settings: dict[str, object] = field(default_factory=dict)
    curves: dict[str, RocCurve] = field(default_factory=dict)
    resamples: Resamples | None = field(default=None, repr=False)

    def __post_init__(self):
        if not isinstance(self.protocol, str) or not self.protocol:
            raise ValueError(f"protocol must be the protocol's name. Received: protocol={self.protocol!r}")
        object.__setattr__(self, "figures", checked_figures(self.figures))
        object.__setattr__(self, "counts", checked_counts(self.counts))
        object.__setattr__(self, "settings", plain_settings(self.settings))
        for name, curve in self.curves.items():
            if not isinstance(curve, RocCurve):
                raise ValueError(f"curves must hold RocCurve values. Received: curves[{name!r}]={curve!r}")
        if not isinstance(self.resamples, (Resamples, type(None))):
            raise ValueError(f"resamples must be Resamples or None. Received: resamples={self.resamples!r}")
        thin = {str(name): thinned_curve(curve) for name, curve in self.curves.items()}
        object.__setattr__(self, "curves", thin)

    def __getitem__(self, name: str) -> Figure:
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(f"no figure {name!r} in {self.protocol}; there are {[figure.name for figure in self.figures]}")

    def __str__(self) -> str:
        return "\n".join(f"{self.protocol}: {figure}" for figure in self.figures)

    def markdown(self) -> str:
        """All figures as a Markdown table, the protocol's name in each row.

        Returns:
            Text of one header, one rule and one line for each figure.
        """
        rows = [_COLUMNS, ["---"] * len(_COLUMNS), *(self._cells(figure) for figure in self.figures)]
        return "\n".join(_markdown_line(row) for row in rows) + "\n"

    def markdown_row(self, names: tuple[str, ...] | None = None) -> str:
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

    def to_json(self) -> str:
        """The whole result as JSON text."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "protocol": self.protocol,
            "figures": [figure_to_dict(figure) for figure in self.figures],
            "counts": self.counts,
            "settings": self.settings,
            "curves": {name: curve_to_dict(curve) for name, curve in self.curves.items()},
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Result:
        """Read back what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            A `Result`.

        Raises:
            ValueError: the text is damaged, of another format, or of a later version.
        """
        content = checked_content(text)
        figures = tuple(figure_from_dict(figure) for figure in content["figures"])
        curves = {name: curve_from_dict(curve) for name, curve in content["curves"].items()}
        return cls(content["protocol"], figures, content["counts"], content["settings"], curves)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, whole or not at all.

        Args:
            path: a file in an existing directory; replaced.
        """
        with written_beside(path) as beside:
            Path(beside).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Read a file that `save` wrote.

        Args:
            path: the file.

        Returns:
            A `Result`.

        Raises:
            ValueError: the file is damaged or not a result; the message names it.
            OSError: it cannot be read.
        """
        with open(path, "rb") as file:
            text = file.read(_LARGEST_FILE + 1)
        try:
            if len(text) > _LARGEST_FILE:
                raise ValueError(f"larger than {_LARGEST_FILE} bytes")
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is no stored result: {error}") from error

    def _cells(self, figure: Figure) -> list[str]:
        spread = "" if figure.spread is None else f"{shown(figure.spread, figure.unit)} ({figure.spread_of})"
        threshold = "" if figure.threshold is None else f"{figure.threshold:.4f}"
        value = shown(figure.value, figure.unit)
        return [self.protocol, figure.name, value, spread, shown_interval(figure), threshold, figure.note]


def _short(figure: Figure) -> str:
    text = shown(figure.value, figure.unit)
    if figure.spread is not None:
        text += f" +- {shown(figure.spread, figure.unit)}"
    return text if figure.interval is None else f"{text} ({shown_interval(figure)})"


def _markdown_line(cells) -> str:
    # A bar or a line break inside a cell would end it.
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"
