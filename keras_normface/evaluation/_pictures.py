"""What the pictures share: paths, figures without pyplot, curves as staircases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_normface.evaluation.verification import RocCurve
from keras_normface.written_beside import written_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROC_SAMPLES = 2000


def checked_png_path(path: str | os.PathLike[str]) -> Path:
    """`path` of a `.png` file in a directory that exists; otherwise an error that names it."""
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png. Received: path={str(path)!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing directory. Received: path={str(path)!r}")
    return target


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure, inches wide and high, drawn without pyplot and its global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "keras-normface[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_picture(figure: Figure, path: Path, title: str | None) -> None:
    """Write a figure as PNG, whole or not at all, with a title over its first axes."""
    if title is not None:
        figure.axes[0].set_title(title)
    with written_beside(path) as beside:
        figure.savefig(Path(beside), format="png")


def checked_curves(curves: Mapping[str, RocCurve]) -> None:
    """Refuse what is no dict with at least one `RocCurve`."""
    if not isinstance(curves, Mapping) or not curves:
        raise ValueError(f"curves must be a dict with at least one RocCurve. Received: curves={curves!r}")
    for name, curve in curves.items():
        if not isinstance(curve, RocCurve):
            raise ValueError(f"curves must hold RocCurve values. Received: curves[{name!r}]={curve!r}")


def staircase(curve: RocCurve) -> tuple[np.ndarray, np.ndarray]:
    """(S,) FAR spaced evenly on the logarithmic axis and the largest TAR that keeps to each."""
    far = np.geomspace(1 / curve.num_impostor, 1.0, _ROC_SAMPLES)
    return far, curve.tar[np.searchsorted(curve.far, far, side="right") - 1]


def draw_roc(axes: Axes, curves: Mapping[str, RocCurve]) -> None:
    """Draw TAR against FAR on a logarithmic axis, from just below the curves to 1."""
    lowest = 1.0
    for name, curve in curves.items():
        far, tar = staircase(curve)
        label = f"{name} ({curve.num_impostor:,} impostor pairs)"
        axes.step(far, tar, where="post", linewidth=1.8, label=label)
        lowest = min(lowest, tar[0])
    bottom = max(0.0, np.floor(10 * lowest - 0.5) / 10)
    axes.set_ylim(bottom, 1.0 + 0.02 * (1.0 - bottom))
    axes.set_ylabel("True accept rate (TAR)")
    _finish(axes, curves, "lower right")


def draw_det(axes: Axes, curves: Mapping[str, RocCurve]) -> None:
    """Draw the miss rate against FAR on logarithmic axes, from the smallest rates that the pairs resolve to 1."""
    for name, curve in curves.items():
        far, tar = staircase(curve)
        label = f"{name} ({curve.num_genuine:,} genuine pairs)"
        axes.step(far, 1.0 - tar, where="post", linewidth=1.8, label=label)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min(0.5, *(1 / curve.num_genuine for curve in curves.values())), 1.0)
    axes.set_ylabel("Miss rate (1 - TAR)")
    _finish(axes, curves, "lower left")


def _finish(axes: Axes, curves: Mapping[str, RocCurve], corner: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *(1 / curve.num_impostor for curve in curves.values())), 1.0)
    axes.set_xlabel("False accept rate (FAR)")
    axes.grid(True, which="major", color="0.85", linewidth=0.8)
    axes.legend(loc=corner, framealpha=0.9)
