"""Plots of curves and of embeddings: on axes of the caller's, or written to a file; without pyplot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_normface._io import atomic_write
from keras_normface.metrics._arrays import as_float64, checked_labels
from keras_normface.metrics.results import Result
from keras_normface.metrics.verification import RocCurve

_ROC_SAMPLES = 2000
_MOST_IN_LEGEND = 12


def plot_roc(curves, path=None, *, ax=None, title=None):
    """Draw ROC curves: TAR against FAR on a logarithmic axis.

    Each curve starts at its own smallest resolvable FAR, `1 / num_impostor`, and is a staircase: at
    each FAR it shows the largest TAR that keeps to it. The vertical axis ends just below the curves.

    Args:
        curves: `RocCurve` by name; at least one.
        path: a `.png` file in an existing directory, replaced atomically; None where `ax` is given.
        ax: matplotlib axes to draw on, or None where `path` is given.
        title: heading of the axes, or None. Names and titles are shown as they are, `$` included.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, something that is not a `RocCurve`, a path that is not `.png`, or both or neither of
            `path` and `ax`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ax = plot_roc({"toy": curve}, pathlib.Path(folder, "roc.png"))
        ...     pathlib.Path(folder, "roc.png").exists()
        True
    """
    _check_curves(curves)
    return _plot([lambda ax: _draw_roc(ax, curves)], path, ax, title)


def plot_det(curves, path=None, *, ax=None, title=None):
    """Draw detection error trade-off curves: miss rate, 1 - TAR, against FAR, both axes logarithmic.

    Each curve is that of `plot_roc`, upside down. The axes start at the smallest rates that the pairs resolve; where
    no genuine pair is missed, a curve leaves the plot at the bottom. (The axes are not normal deviates.)

    Args:
        curves: see `plot_roc`.
        path: see `plot_roc`.
        ax: see `plot_roc`.
        title: see `plot_roc`.

    Returns:
        The axes.

    Raises:
        ImportError: see `plot_roc`, as for the others.
        ValueError: see `plot_roc`.
        FileNotFoundError: see `plot_roc`.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> plot_det({"toy": curve}, ax=Figure().add_subplot()).get_yscale()
        'log'
    """
    _check_curves(curves)
    return _plot([lambda ax: _draw_det(ax, curves)], path, ax, title)


def plot_result(result, path=None, *, axes=None):
    """Draw the curves of a result, ROC and DET side by side, under the protocol's name.

    Args:
        result: a `Result` with at least one curve.
        path: a `.png` file in an existing directory, replaced atomically; None where `axes` are given.
        axes: two matplotlib axes to draw on, or None where `path` is given.

    Returns:
        The two axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: not a `Result`, one without curves, a path that is not `.png`, or both or neither of `path` and
            `axes`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from keras_normface.metrics.results import MetricValue
        >>> from keras_normface.metrics.verification import roc_curve
        >>> curve = roc_curve([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0])
        >>> result = Result("toy", (MetricValue("EER", 0.5),), {}, {}, {"all pairs": curve})
        >>> roc, det = plot_result(result, axes=Figure().subplots(1, 2))
        >>> roc.get_title()
        'toy'
    """
    if not isinstance(result, Result):
        raise ValueError(f"`result` must be a Result. Received: result={result!r}")
    if not result.curves:
        raise ValueError(f"`result` must hold a curve. Received: {result.protocol!r} without curves")
    draws = [lambda ax: _draw_roc(ax, result.curves), lambda ax: _draw_det(ax, result.curves)]
    return _plot(draws, path, axes, result.protocol, "axes")


def plot_embeddings(points, labels, path=None, *, ax=None, title=None):
    """Draw embeddings in the plane, one colour per identity.

    A legend is drawn for at most twelve identities.

    Args:
        points: (N, 2) finite coordinates; the axes have equal scales.
        labels: (N,) integers or strings, one identity per point.
        path: see `plot_roc`.
        ax: see `plot_roc`.
        title: see `plot_roc`.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: wrong shapes, a point that is not finite, a path that is not `.png`, or both or neither of `path`
            and `ax`.
        FileNotFoundError: the directory of `path` does not exist.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_embeddings([[1, 0], [0, 1]], ["ann", "bob"], ax=Figure().add_subplot())
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['ann', 'bob']
    """
    points = _checked_points(points)
    identities, codes = np.unique(checked_labels(labels, "labels", len(points)), return_inverse=True)
    return _plot([lambda ax: _draw_points(ax, points, identities, codes)], path, ax, title, height=5.6)


def _plot(draws, path, axes, title, name="ax", height=4.8):
    """Draw on `axes`, or on a new figure that is written to `path`; one draw for each of the axes."""
    if (path is None) == (axes is None):
        given = "neither" if path is None else "both"
        raise ValueError(f"`path` or `{name}` must be given, one of the two. Received: {given}")
    figure, alone = None, name == "ax"
    if axes is None:
        path = _checked_png_path(path)
        figure = _new_figure(6.4 if alone else 12.0, height)
        axes = figure.add_subplot() if alone else figure.subplots(1, len(draws))
    several = [axes] if alone else list(axes)
    if len(several) != len(draws):
        raise ValueError(f"`{name}` must be {len(draws)} axes. Received: {len(several)}")
    for ax, draw in zip(several, draws, strict=True):
        draw(ax)
    if title is not None:
        several[0].set_title(_plain(title))
    if figure is not None:
        _write(figure, path)
    return axes


def _plain(text):
    """Text that matplotlib shows as it is: a dollar sign would start mathematical text."""
    return str(text).replace("$", r"\$")


def _checked_png_path(path):
    """`path` of a `.png` file in a directory that exists; otherwise an error that names it."""
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"`path` must end in .png. Received: path={str(path)!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"`path` must lie in an existing directory. Received: path={str(path)!r}")
    return target


def _new_figure(width, height):
    """An empty figure, inches wide and high, drawn without pyplot and its global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "keras-normface[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure, path):
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as beside:
        figure.savefig(Path(beside), format="png")


def _check_curves(curves):
    """Refuse what is not a dict with at least one `RocCurve`."""
    if not isinstance(curves, Mapping) or not curves:
        raise ValueError(f"`curves` must be a dict with at least one RocCurve. Received: curves={curves!r}")
    for name, curve in curves.items():
        if not isinstance(curve, RocCurve):
            raise ValueError(f"`curves` must hold RocCurve values. Received: curves[{name!r}]={curve!r}")


def _staircase(curve):
    """(S,) FAR spaced evenly on the logarithmic axis and the largest TAR that keeps to each."""
    far = np.geomspace(1 / curve.num_impostor, 1.0, _ROC_SAMPLES)
    return far, curve.tar[np.searchsorted(curve.far, far, side="right") - 1]


def _draw_roc(ax, curves):
    """Draw TAR against FAR on a logarithmic axis, from just below the curves to 1."""
    lowest = 1.0
    for name, curve in curves.items():
        far, tar = _staircase(curve)
        ax.step(far, tar, where="post", linewidth=1.8, label=f"{_plain(name)} ({curve.num_impostor:,} impostor pairs)")
        lowest = min(lowest, tar[0])
    bottom = max(0.0, np.floor(10 * lowest - 0.5) / 10)
    ax.set_ylim(bottom, 1.0 + 0.02 * (1.0 - bottom))
    ax.set_ylabel("True accept rate (TAR)")
    _finish(ax, curves, "lower right")


def _draw_det(ax, curves):
    """Draw the miss rate against FAR on logarithmic axes, from the smallest rates that the pairs resolve to 1."""
    # Before the curves: where no pair is missed, matplotlib would warn that there is nothing to scale by.
    ax.set_yscale("log", nonpositive="clip")
    ax.set_ylim(min(0.5, *(1 / curve.num_genuine for curve in curves.values())), 1.0)
    for name, curve in curves.items():
        far, tar = _staircase(curve)
        label = f"{_plain(name)} ({curve.num_genuine:,} genuine pairs)"
        ax.step(far, 1.0 - tar, where="post", linewidth=1.8, label=label)
    ax.set_ylabel("Miss rate (1 - TAR)")
    _finish(ax, curves, "lower left")


def _finish(ax, curves, corner):
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, *(1 / curve.num_impostor for curve in curves.values())), 1.0)
    ax.set_xlabel("False accept rate (FAR)")
    ax.grid(True, which="major", color="0.85", linewidth=0.8)
    # matplotlib leaves names that begin with an underscore out of a legend, unless it is given the lines.
    lines = [line for line in ax.lines if not re.fullmatch(r"_child\d+", str(line.get_label()))]
    ax.legend(handles=lines, loc=corner, framealpha=0.9)


def _draw_points(ax, points, identities, codes):
    """(N, 2) points, (C,) names, (N,) codes 0..C-1 → a point each, small where there are many, and a legend."""
    colours = _colours(identities.size)
    # Small points for many, so that clusters keep their shape.
    size = float(np.clip(6000 / len(points), 4, 36))
    ax.scatter(points[:, 0], points[:, 1], s=size, c=colours[codes], alpha=0.8, linewidths=0)
    ax.set_aspect("equal", adjustable="box")
    ax.grid(True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    if identities.size <= _MOST_IN_LEGEND:
        _add_legend(ax, identities, colours)


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


def _add_legend(ax, identities, colours):
    from matplotlib.lines import Line2D

    names = [_plain(identity) for identity in identities.tolist()]
    handles = [Line2D([], [], linestyle="", marker="o", color=colour) for colour in colours]
    ax.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _checked_points(points):
    points = as_float64(points, "points", ndim=2)
    if points.shape[1] != 2 or not len(points):
        raise ValueError(f"`points` must have shape (N, 2), N >= 1. Received: points.shape={points.shape}")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        raise ValueError(f"`points` must be finite. Received: points[{bad[0]}]={points[bad[0]].tolist()}")
    return points
