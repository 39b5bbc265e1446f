"""Checks of what a result is made of, and of JSON that says it is one."""

from __future__ import annotations

import json
import operator

import numpy as np

from keras_normface.evaluation.figure import Figure

FORMAT, VERSION = "keras_normface evaluation result", 1


def checked_figures(figures: object) -> tuple[Figure, ...]:
    """`figures` as a tuple of `Figure`, each name once; otherwise a ValueError."""
    figures = tuple(figures)
    for figure in figures:
        if not isinstance(figure, Figure):
            raise ValueError(f"figures must hold Figure values. Received: {figure!r}")
    names = [figure.name for figure in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"figures must have each name once. Received: figures with {twice} more than once")
    return figures


def checked_counts(counts: object) -> dict[str, int]:
    """`counts` as a dict of ints; otherwise a ValueError."""
    try:
        return {str(name): operator.index(count) for name, count in counts.items()}
    except (AttributeError, TypeError):
        raise ValueError(f"counts must be a dict of whole numbers. Received: counts={counts!r}") from None


def plain_settings(settings: object) -> dict[str, object]:
    """`settings` as what comes back from JSON, NumPy values made plain; otherwise a ValueError."""

    def plain(value):
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        raise TypeError(f"{value!r} is of type {type(value).__name__}")

    if not isinstance(settings, dict):
        raise ValueError(f"settings must be a dict. Received: settings={settings!r}")
    try:
        return json.loads(json.dumps(settings, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings must hold what JSON can, finite numbers. Received: {error}") from None


def checked_content(text: str | bytes) -> dict:
    """JSON text of a result as a dict with all its keys, each of its type; otherwise a ValueError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"text must be JSON. Received: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'text must be a JSON object with "format": "{FORMAT}". Received: {str(content)[:80]}')
    if content.get("version") != VERSION:
        raise ValueError(f"version must be {VERSION}. Received: version={content.get('version')!r}")
    types = {"protocol": str, "figures": list, "counts": dict, "settings": dict, "curves": dict}
    for key, kind in types.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{key} must be of type {kind.__name__}. Received: {key}={str(content.get(key))[:80]}")
    return content
