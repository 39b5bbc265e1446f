"""What `keras-normface evaluate` writes: the result as JSON and Markdown, and its curves."""

import contextlib
import importlib.util
import json
import os

import typer

from keras_normface.evaluation.plots import plot_det, plot_roc
from keras_normface.written_beside import written_beside


def write_outputs(out, result, comparison=None):
    """Write `result.json`, `result.md`, and `roc.png` and `det.png` if there are curves; each is whole or not there.

    Pictures of an earlier run are removed where there are none now.

    Args:
        out: A directory that exists.
        result: A `Result`.
        comparison: `None`, or a `Comparison`, for `comparison.json` and `result.md`.

    Raises:
        OSError: If a file cannot be written.
    """
    result.save(out / "result.json")
    text = result.markdown()
    if comparison is not None:
        _write(out / "comparison.json", json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n")
        head, *items = str(comparison).splitlines()
        text += "\n".join(["", head, "", *(f"- {item}" for item in items), ""])
    _write(out / "result.md", text)
    drawn = bool(result.curves) and importlib.util.find_spec("matplotlib") is not None
    if result.curves and not drawn:
        typer.echo('No curves drawn: they need matplotlib, pip install "keras-normface[evaluate]"', err=True)
    for name, plot in (("roc.png", plot_roc), ("det.png", plot_det)):
        if drawn:
            plot(result.curves, out / name, title=result.protocol)
        else:
            _remove(out / name)
    if comparison is None:
        _remove(out / "comparison.json")


def _write(path, text):
    with written_beside(path) as beside, open(beside, "w", encoding="utf-8") as file:
        file.write(text)


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
