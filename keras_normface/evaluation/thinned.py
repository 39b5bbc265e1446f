"""ROC curves small enough to store: a part of their points, each of them exact."""

from __future__ import annotations

import operator

import numpy as np

from keras_normface.evaluation.verification import RocCurve

_STEPS = 500


def thinned_curve(curve: RocCurve, steps: int = _STEPS) -> RocCurve:
    """Keep the points of a curve that a picture on logarithmic axes can show.

    Kept are the first and the last point, and for each of `steps` rates, evenly spaced on a logarithmic axis, the
    last point whose FAR is at most that rate, and the first whose miss rate, 1 - TAR, is at most that rate. No
    point is moved or made up.

    Args:
        curve: a `RocCurve`.
        steps: how many rates on each axis, at least 2.

    Returns:
        A `RocCurve` of at most 2 * `steps` + 2 points; `curve` itself when it has no more than that.

    Raises:
        ValueError: `steps` is no integer of at least 2.

    Example:
        >>> import numpy as np
        >>> from keras_normface.evaluation import roc_curve
        >>> curve = roc_curve(np.arange(4000), np.arange(4000) % 2)
        >>> len(curve.far), len(thinned_curve(curve).far) < 1003
        (4001, True)
    """
    try:
        enough = operator.index(steps) >= 2
    except TypeError:
        enough = False
    if not enough:
        raise ValueError(f"steps must be an integer of at least 2. Received: steps={steps!r}")
    if len(curve.far) <= 2 * steps + 2:
        return curve
    fars = np.geomspace(1.0 / curve.num_impostor, 1.0, steps)
    misses = np.geomspace(1.0 / curve.num_genuine, 1.0, steps)
    kept = np.unique(
        np.concatenate(
            [
                [0, len(curve.far) - 1],
                np.searchsorted(curve.far, fars, side="right") - 1,
                np.minimum(np.searchsorted(curve.tar, 1.0 - misses), len(curve.far) - 1),
            ]
        )
    )
    return RocCurve(curve.far[kept], curve.tar[kept], curve.thresholds[kept], curve.num_genuine, curve.num_impostor)


def curve_to_dict(curve: RocCurve) -> dict[str, object]:
    """A curve as a dict for JSON; a threshold of infinity, where nothing is accepted, is None.

    Args:
        curve: a `RocCurve`.

    Returns:
        A dict of lists and integers.

    Example:
        >>> from keras_normface.evaluation import roc_curve
        >>> curve_to_dict(roc_curve([0.9, 0.1], [1, 0]))["thresholds"]
        [None, 0.9, 0.1]
    """
    return {
        "far": np.asarray(curve.far, np.float64).tolist(),
        "tar": np.asarray(curve.tar, np.float64).tolist(),
        "thresholds": [float(value) if np.isfinite(value) else None for value in curve.thresholds],
        "num_genuine": int(curve.num_genuine),
        "num_impostor": int(curve.num_impostor),
    }


def curve_from_dict(content: object) -> RocCurve:
    """Read back what `curve_to_dict` made.

    Args:
        content: the dict.

    Returns:
        A `RocCurve`.

    Raises:
        ValueError: a key is missing, or what it holds is no curve.

    Example:
        >>> from keras_normface.evaluation import roc_curve
        >>> curve_from_dict(curve_to_dict(roc_curve([0.9, 0.1], [1, 0]))).thresholds.tolist()
        [inf, 0.9, 0.1]
    """
    try:
        arrays = {key: np.array(content[key], np.float64) for key in ("far", "tar")}
        arrays["thresholds"] = np.array([np.inf if value is None else value for value in content["thresholds"]], float)
        counts = {key: operator.index(content[key]) for key in ("num_genuine", "num_impostor")}
        rates = np.stack([arrays["far"], arrays["tar"]])
        sound = rates.ndim == 2 and rates.size and arrays["thresholds"].shape == rates.shape[1:]
        sound = sound and rates.min() >= 0.0 and rates.max() <= 1.0 and min(counts.values()) >= 1
        sound = sound and bool((np.diff(rates) >= 0.0).all()) and not np.isnan(arrays["thresholds"]).any()
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(
            "a curve must hold far and tar, rising shares, thresholds of the same length, and num_genuine and "
            f"num_impostor of at least 1. Received: {str(content)[:80]}"
        )
    return RocCurve(**arrays, **counts)
