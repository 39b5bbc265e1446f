"""Our metric losses against tensorflow-addons' own values and gradients; see `make parity`."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_normface import losses as metric
from tests.support.helpers import to_numpy, value_and_gradients

sys.path.insert(0, str(Path(__file__).parent))
from cases import DUPLICATES, all_cases

TOLERANCE = 1e-5
HALF = 2.0**-11
"""Addons rounds a float16 batch's loss (and gradient) to float16; ours stay in float32."""
CASES = {case[0]: case[1:] for case in all_cases()}
WORST = {}


@pytest.fixture(scope="module")
def reference():
    with np.load(os.environ["ADDONS_REFERENCE"]) as arrays:
        yield {key: arrays[key] for key in arrays.files}
    print("\nworst difference from addons, relative to the largest entry: value, gradient")
    for (name, dtype), worst in sorted(WORST.items()):
        print(f"  {name:22} {dtype:8} {worst[0]:.1e}  {worst[1]:.1e}")


def addons_is_wrong(name, y_true):
    """Where addons divides 0 by 0 or takes the logarithm of 0, and what we return instead is 0."""
    if name == "NpairsMultilabelLoss":
        return bool((y_true.sum(axis=1) == 0).any())
    classes = len(np.unique(y_true))
    nothing_to_pair = classes == len(y_true) and name in ("TripletSemiHardLoss", "LiftedStructLoss")
    return nothing_to_pair or (name == "LiftedStructLoss" and classes == 1)


def with_copies_added(gradient, key):
    """Of equal distances we let one have the gradient, addons all: add up the rows of equal embeddings."""
    gradient = gradient.astype("float64")
    if "duplicates" in key:
        for copy, original in DUPLICATES.items():
            gradient[original] += gradient[copy]
            gradient[copy] = 0
    return gradient


def relative_difference(ours, theirs):
    scale = np.max(np.abs(theirs))
    return float(np.max(np.abs(ours - theirs)) / scale) if scale else float(np.max(np.abs(ours)))


@pytest.mark.parametrize("key", CASES)
def test_value_and_gradient_are_addons(key, reference):
    name, options, y_true, y_pred = CASES[key]
    loss = getattr(metric, name)(**options)
    value, (gradient,) = value_and_gradients(lambda p: loss(y_true, p), y_pred, dtype=y_pred.dtype)
    expected, slope = reference[f"{key}/value"], reference[f"{key}/gradient"]
    if addons_is_wrong(name, y_true):
        assert np.isnan(expected)
        assert np.isfinite(gradient).all()
        if name == "NpairsMultilabelLoss":
            rows = to_numpy(getattr(metric, name)(reduction=None)(y_true, y_pred))
            np.testing.assert_array_equal(rows == 0, y_true.sum(axis=1) == 0)
        else:
            assert value == 0
            assert not gradient.any()
        return
    assert np.isfinite(expected)
    assert np.isfinite(slope).all()
    half = y_pred.dtype == np.float16
    differences = (
        relative_difference(value, float(expected)),
        relative_difference(with_copies_added(gradient, key), with_copies_added(slope, key)),
    )
    worst = WORST.get((name, y_pred.dtype.name), (0.0, 0.0))
    WORST[name, y_pred.dtype.name] = tuple(map(max, worst, differences))
    assert differences[0] <= (HALF if half else TOLERANCE)
    assert differences[1] <= (4 * HALF if half else TOLERANCE)


def test_the_reference_is_from_the_last_addons(reference):
    assert reference["versions"].tolist() == ["2.15.1", "0.23.0"]
