"""What the pictures share: paths, figures without pyplot, curves as staircases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_normface._io import atomic_write
from keras_normface.metrics._arrays import as_float64, checked_labels
from keras_normface.metrics.results import Result
from keras_normface.metrics.verification import RocCurve

if TYPE_CHECKING:
    pass

_ROC_SAMPLES = 2000


def checked_png_path(path):
    """`path` of a `.png` file in a directory that exists; otherwise an error that names it."""
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"`path` must end in .png. Received: path={str(path)!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"`path` must lie in an existing directory. Received: path={str(path)!r}")
    return target


def new_figure(*, width, height):
    """An empty figure, inches wide and high, drawn without pyplot and its global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "keras-normface[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_picture(figure, path, title):
    """Write a figure as PNG, whole or not at all, with a title over its first axes."""
    if title is not None:
        figure.axes[0].set_title(title)
    with atomic_write(path) as beside:
        figure.savefig(Path(beside), format="png")


def checked_curves(curves):
    """Refuse what is no dict with at least one `RocCurve`."""
    if not isinstance(curves, Mapping) or not curves:
        raise ValueError(f"`curves` must be a dict with at least one RocCurve. Received: curves={curves!r}")
    for name, curve in curves.items():
        if not isinstance(curve, RocCurve):
            raise ValueError(f"`curves` must hold RocCurve values. Received: curves[{name!r}]={curve!r}")


def staircase(curve):
    """(S,) FAR spaced evenly on the logarithmic axis and the largest TAR that keeps to each."""
    far = np.geomspace(1 / curve.num_impostor, 1.0, _ROC_SAMPLES)
    return far, curve.tar[np.searchsorted(curve.far, far, side="right") - 1]


def draw_roc(axes, curves):
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


def draw_det(axes, curves):
    """Draw the miss rate against FAR on logarithmic axes, from the smallest rates that the pairs resolve to 1."""
    for name, curve in curves.items():
        far, tar = staircase(curve)
        label = f"{name} ({curve.num_genuine:,} genuine pairs)"
        axes.step(far, 1.0 - tar, where="post", linewidth=1.8, label=label)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min(0.5, *(1 / curve.num_genuine for curve in curves.values())), 1.0)
    axes.set_ylabel("Miss rate (1 - TAR)")
    _finish(axes, curves, "lower left")


def _finish(axes, curves, corner):
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *(1 / curve.num_impostor for curve in curves.values())), 1.0)
    axes.set_xlabel("False accept rate (FAR)")
    axes.grid(True, which="major", color="0.85", linewidth=0.8)
    axes.legend(loc=corner, framealpha=0.9)


_MAX_LEGEND_PEOPLE = 12


def plot_roc(curves, path, *, title=None):
    """Draw ROC curves: TAR against FAR on a logarithmic axis.

    Each curve starts at its own smallest resolvable FAR, `1 / num_impostor`, and is a staircase: at
    each FAR it shows the largest TAR that keeps to it. The vertical axis ends just below the curves.

    Args:
        curves: `RocCurve` by name; at least one.
        path: a `.png` file in an existing directory; replaced atomically.
        title: heading of the picture, or None.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, something that is not a `RocCurve`, or a path that is not `.png`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_roc({"toy": curve}, pathlib.Path(folder, "roc.png"))
        ...     pathlib.Path(folder, "roc.png").exists()
        True
    """
    checked_curves(curves)
    path = checked_png_path(path)
    figure = new_figure(width=6.4, height=4.8)
    draw_roc(figure.add_subplot(), curves)
    write_picture(figure, path, title)


def plot_det(curves, path, *, title=None):
    """Draw detection error trade-off curves: miss rate, 1 - TAR, against FAR, both axes logarithmic.

    Each curve is that of `plot_roc`, upside down. The axes start at the smallest rates that the pairs resolve; where
    no genuine pair is missed, a curve leaves the picture at the bottom. (The axes are not normal deviates.)

    Args:
        curves: `RocCurve` by name; at least one.
        path: a `.png` file in an existing directory; replaced atomically.
        title: heading of the picture, or None.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, something that is not a `RocCurve`, or a path that is not `.png`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_det({"toy": curve}, pathlib.Path(folder, "det.png"))
        ...     pathlib.Path(folder, "det.png").exists()
        True
    """
    checked_curves(curves)
    path = checked_png_path(path)
    figure = new_figure(width=6.4, height=4.8)
    draw_det(figure.add_subplot(), curves)
    write_picture(figure, path, title)


def plot_result(result, path):
    """Draw the curves of a result, ROC and DET side by side, under the protocol's name.

    Args:
        result: a `Result` with at least one curve.
        path: a `.png` file in an existing directory; replaced atomically.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no `Result`, one without curves, or a path that is not `.png`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_normface.metrics.results import MetricValue
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> result = Result("toy", (MetricValue("EER", 0.5),), {}, {}, {"all pairs": curve})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_result(result, pathlib.Path(folder, "curves.png"))
        ...     pathlib.Path(folder, "curves.png").exists()
        True
    """
    if not isinstance(result, Result):
        raise ValueError(f"`result` must be a Result. Received: result={result!r}")
    if not result.curves:
        raise ValueError(f"`result` must hold a curve. Received: {result.protocol!r} without curves")
    path = checked_png_path(path)
    figure = new_figure(width=12.0, height=4.8)
    left, right = figure.subplots(1, 2)
    draw_roc(left, result.curves)
    draw_det(right, result.curves)
    write_picture(figure, path, result.protocol)


def plot_embeddings(points, labels, path, *, title=None):
    """Draw embeddings in the plane, one colour per person.

    A legend is drawn for at most twelve people.

    Args:
        points: (N, 2) finite coordinates; the axes have equal scales.
        labels: (N,) integers or strings, one identity per point.
        path: a `.png` file in an existing directory; replaced atomically.
        title: heading of the picture, or None.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: wrong shapes, a point that is not finite, or a path that is not `.png`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_embeddings([[1, 0], [0, 1]], ["ann", "bob"], pathlib.Path(folder, "people.png"))
        ...     pathlib.Path(folder, "people.png").exists()
        True
    """
    points = _checked_points(points)
    people, codes = np.unique(checked_labels(labels, "labels", len(points)), return_inverse=True)
    path = checked_png_path(path)
    figure = new_figure(width=6.4, height=5.6)
    axes = figure.add_subplot()
    colours = _colours(people.size)
    # Small points for many, so that clusters keep their shape.
    size = float(np.clip(6000 / len(points), 4, 36))
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colours[codes], alpha=0.8, linewidths=0)
    axes.set_aspect("equal", adjustable="box")
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    if people.size <= _MAX_LEGEND_PEOPLE:
        _add_legend(axes, people, colours)
    write_picture(figure, path, title)


def _colours(count):
    """(count, 3) distinct RGB colours in [0, 1]."""
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb

    if count <= 20:
        # tab20 alternates dark and light: all the dark ones first.
        palette = np.asarray(colormaps["tab20"].colors)
        return np.concatenate([palette[::2], palette[1::2]])[:count]
    steps = np.arange(count)
    return hsv_to_rgb(np.stack([steps / count, np.full(count, 0.85), np.where(steps % 2, 0.6, 0.9)], axis=1))


def _add_legend(axes, people, colours):
    from matplotlib.lines import Line2D

    # A dollar sign would start mathematical text.
    names = [str(person).replace("$", r"\$") for person in people.tolist()]
    handles = [Line2D([], [], linestyle="", marker="o", color=colour) for colour in colours]
    axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _checked_points(points):
    points = as_float64(points, "points", ndim=2)
    if points.shape[1] != 2 or not len(points):
        raise ValueError(f"`points` must have shape (N, 2), N >= 1. Received: points.shape={points.shape}")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        raise ValueError(f"`points` must be finite. Received: points[{bad[0]}]={points[bad[0]].tolist()}")
    return points
