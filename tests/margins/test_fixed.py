"""ψ and η of every margin: values, gradients, order, ends, schedules, round trips."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface import margins as margins
from keras_normface.margins import AdditiveAngular, AdditiveCosine, CombinedMargin, MultiplicativeAngular, NoMargin
from tests.support import oracle
from tests.support.helpers import central_differences, to_numpy, value_and_gradients

ROWS = {
    "none": (lambda gradient: NoMargin(), {"m": 0.0}),
    "additive_cosine": (lambda gradient: AdditiveCosine(0.35), {"m": 0.35}),
    "additive_angular": (lambda gradient: AdditiveAngular(0.5, gradient=gradient), {"m": 0.5}),
    "linear_tail": (lambda gradient: AdditiveAngular(0.5, tail="linear", gradient=gradient), {"m": 0.5}),
    "v0": (lambda gradient: MultiplicativeAngular(2.5, variant="v0", gradient=gradient), {"m": 2.5}),
    "v1": (lambda gradient: MultiplicativeAngular(1.5, variant="v1", gradient=gradient), {"m": 1.5}),
    "v2": (lambda gradient: MultiplicativeAngular(1.4, variant="v2", gradient=gradient), {"m": 1.4}),
    "combined": (
        lambda gradient: CombinedMargin(m1=1.1, m2=0.2, m3=0.1, gradient=gradient),
        {"m": 1.1, "m2": 0.2, "m3": 0.1},
    ),
}
# away from the kinks, where the derivative jumps
ANGLES = np.array([0.05, 0.4, 0.9, 1.2, 1.6, 2.0, 2.4, 2.55, 2.75, 3.1])
GRID = np.linspace(0, np.pi, 2001)


def sides(name, gradient="exact"):
    margin, numbers = ROWS[name][0](gradient), ROWS[name][1]
    return (
        (margin.target, lambda theta: oracle.psi(name, theta, **numbers)),
        (margin.non_target, lambda theta: oracle.eta(name, theta, numbers["m"])),
    )


@pytest.mark.parametrize("gradient", ["exact", "detached"])
@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients(name, gradient):
    cosines = np.cos(ANGLES)
    for ours, theirs in sides(name, gradient):
        value, (slope,) = value_and_gradients(ours, cosines)
        np.testing.assert_allclose(value, [theirs(t) for t in ANGLES], rtol=1e-4, atol=2e-6)
        exact = gradient == "exact" or name in ("none", "additive_cosine")
        (expected,) = central_differences(lambda c, f=theirs: np.array([f(t) for t in np.arccos(c)]), cosines)
        np.testing.assert_allclose(slope, expected if exact else np.ones_like(slope), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", ["exact", "detached"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ROWS)
def test_finite_over_the_whole_range(name, dtype, gradient):
    cosines = np.concatenate([np.linspace(-1, 1, 401), [1 - 1e-7, -1 + 1e-7, 1.0000001, -1.0000001]])
    for ours, _ in sides(name, gradient):
        value, (slope,) = value_and_gradients(lambda c, f=ours: ops.cast(f(ops.cast(c, dtype)), "float32"), cosines)
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ROWS)
def test_target_never_rises_with_the_angle_and_lies_under_the_others(name):
    (target, _), (non_target, _) = sides(name, "detached")
    cosines = ops.cast(np.cos(GRID), "float32")
    psi, eta = to_numpy(target(cosines)), to_numpy(non_target(cosines))
    assert (np.diff(psi) <= 2e-6).all()
    assert (eta - psi >= -2e-6).all()


@pytest.mark.parametrize(
    "margin",
    [
        AdditiveCosine(0.0),
        AdditiveAngular(0.0),
        AdditiveAngular(0.0, tail="linear"),
        MultiplicativeAngular(1.0, variant="v0"),
        MultiplicativeAngular(1.0, variant="v1"),
        MultiplicativeAngular(1.0, variant="v2"),
        CombinedMargin(),
    ],
)
def test_the_neutral_margin_is_normface(margin):
    # not at θ = π itself, where v0's k of m = 1 is already 1: cos π = −1 and −cos π − 2 = −1 all the same
    cosines = ops.cast(np.cos(GRID), "float32")
    np.testing.assert_allclose(to_numpy(margin.target(cosines)), to_numpy(cosines), atol=5e-7)
    np.testing.assert_allclose(to_numpy(margin.non_target(cosines)), to_numpy(cosines), atol=5e-7)


def test_only_above_margin():
    margin = AdditiveCosine(0.25, only_above_margin=True)
    np.testing.assert_allclose(to_numpy(margin.target(ops.array([0.5, 0.25, 0.0, -0.5]))), [0.25, 0.25, 0.0, -0.5])


def test_a_value_replaces_the_margin():
    cosines = ops.cast(np.cos(ANGLES), "float32")
    for make in (AdditiveCosine, AdditiveAngular):
        replaced = make(0.1).target(cosines, ops.array(0.3))
        np.testing.assert_allclose(to_numpy(replaced), to_numpy(make(0.3).target(cosines)), atol=1e-6)
    replaced = MultiplicativeAngular(1.5, variant="v2").non_target(cosines, ops.array(1.2))
    expected = MultiplicativeAngular(1.2, variant="v2").non_target(cosines)
    np.testing.assert_allclose(to_numpy(replaced), to_numpy(expected), atol=1e-6)


def test_the_detached_gradient_is_the_default_where_an_angle_is_involved():
    assert AdditiveCosine().gradient == "exact"
    assert {m.gradient for m in (AdditiveAngular(), MultiplicativeAngular(), CombinedMargin())} == {"detached"}


def test_the_exact_gradient_of_arcface_has_no_limit_at_small_angles():
    # sin(θ + m)/sin θ: 0.5 rad off, it is 48 at θ = 0.01 and stays 1 when detached
    _, (exact,) = value_and_gradients(AdditiveAngular(0.5, gradient="exact").target, np.cos([0.01]))
    _, (detached,) = value_and_gradients(AdditiveAngular(0.5).target, np.cos([0.01]))
    assert exact[0] == pytest.approx(np.sin(0.51) / np.sin(0.01), rel=0.02)
    assert detached[0] == 1.0


@pytest.mark.parametrize("name", ROWS)
def test_round_trip(name):
    margin = ROWS[name][0]("exact")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(margin))
    assert type(again) is type(margin)
    assert again.get_config() == margin.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdditiveCosine(-0.1), "`margin`.*Received: margin=-0.1"),
        (lambda: AdditiveCosine(math.nan), "`margin`"),
        (lambda: AdditiveAngular(4.0), "`margin`.*Received: margin=4.0"),
        (lambda: AdditiveAngular(2.0, tail="linear"), "`margin`"),
        (lambda: AdditiveAngular(tail="straight"), "`tail`.*Received: tail='straight'"),
        (lambda: MultiplicativeAngular(0.9), "`margin`"),
        (lambda: MultiplicativeAngular(math.inf), "`margin`"),
        (lambda: MultiplicativeAngular(variant="v3"), "`variant`.*Received: variant='v3'"),
        (lambda: CombinedMargin(m2=-1), "`m2`"),
        (lambda: AdditiveAngular(gradient="none"), "`gradient`"),
        (lambda: margins.get("arcface"), "`margin` must be a Margin"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
