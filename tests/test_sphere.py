"""The geometry: normalisation, cosines, bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface import sphere as sphere
from tests.support import oracle
from tests.support.helpers import central_differences, to_numpy, value_and_gradients

rows = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def test_normalize_by_hand():
    # ‖(3, 4)‖ = 5
    np.testing.assert_allclose(to_numpy(sphere.normalize(ops.array([[3.0, 4.0]]))), [[0.6, 0.8]], rtol=1e-6)


def test_normalize_gradient_by_hand():
    # g = (1, 0) at x = (3, 4): (g − x̃⟨g, x̃⟩)/‖x‖ = ((1, 0) − 0.6·(0.6, 0.8))/5 = (0.128, −0.096)
    _, (gradient,) = value_and_gradients(lambda x: sphere.normalize(x)[:, 0], [[3.0, 4.0]])
    np.testing.assert_allclose(gradient, [[0.128, -0.096]], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_zero_vector_is_finite(dtype):
    zero = ops.zeros((1, 8), dtype=dtype)
    assert np.array_equal(to_numpy(ops.cast(sphere.normalize(zero), "float32")), np.zeros((1, 8)))
    if dtype == "float32":
        _, (gradient,) = value_and_gradients(sphere.normalize, np.zeros((1, 8)))
        assert np.isfinite(gradient).all()


def test_float16_norm_does_not_overflow():
    x = ops.full((1, 4), 300.0, dtype="float16")  # 4 · 300² is past the largest float16
    np.testing.assert_allclose(to_numpy(ops.cast(sphere.normalize(x), "float32")), 0.5, rtol=1e-3)


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(2, 9), seeds)
def test_normalised_gradient_is_orthogonal_to_its_input(batch, dim, seed):
    rng = np.random.default_rng(seed)
    x, direction = rng.normal(size=(2, batch, dim))
    _, (gradient,) = value_and_gradients(lambda t: sphere.normalize(t) * np.asarray(direction, dtype="float32"), x)
    size = np.linalg.norm(gradient, axis=1) * np.linalg.norm(x, axis=1)
    assert (np.abs((gradient * x).sum(axis=1)) <= 1e-5 * (1 + size)).all()


@settings(max_examples=40, deadline=None)
@given(rows, rows, st.integers(2, 9), st.floats(0.01, 1e4), seeds)
def test_cosines_ignore_length_and_rotation(batch, agents, dim, factor, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(batch, dim)), rng.normal(size=(agents, dim))
    rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    expected = oracle.cosine_matrix(x, w)
    for a, b in ((x, w), (factor * x, w), (x, factor * w), (x @ rotation, w @ rotation)):
        ours = to_numpy(sphere.cosines(ops.array(a, dtype="float32"), ops.array(b, dtype="float32")))
        np.testing.assert_allclose(ours, expected, atol=5e-6)


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("agents", [True, False])
def test_cosines_and_gradients_against_the_oracle(inputs, agents):
    rng = np.random.default_rng(1)
    x, w, weights = rng.normal(size=(3, 5)), rng.normal(size=(4, 5)), rng.normal(size=(3, 4))
    flags = {"normalize_inputs": inputs, "normalize_kernel": agents}
    value, gradients = value_and_gradients(lambda a, b: sphere.cosines(a, b, **flags) * weights.astype("float32"), x, w)
    np.testing.assert_allclose(value, oracle.cosine_matrix(x, w, inputs, agents) * weights, rtol=1e-5, atol=1e-6)
    expected = central_differences(lambda a, b: oracle.cosine_matrix(a, b, inputs, agents) * weights, x, w)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_million_agents():
    rng = np.random.default_rng(0)
    agents = rng.normal(size=(10**6, 4)).astype("float32")
    cosine = to_numpy(sphere.cosines(ops.array(agents[[7, 999_999]]), ops.array(agents)))
    assert cosine.shape == (2, 10**6)
    np.testing.assert_allclose(cosine[[0, 1], [7, 999_999]], 1.0, atol=1e-6)


def test_squared_distance_of_equal_opposite_and_orthogonal():
    assert [sphere.squared_distance(c) for c in (1.0, 0.0, -1.0)] == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 8.266), (10.0, 0.392), (16.0, 0.0012)])
def test_bound_has_the_papers_numbers(scale, expected):
    assert sphere.softmax_loss_lower_bound(10575, scale) == pytest.approx(expected, abs=6e-4)


def test_bound_edges():
    assert sphere.softmax_loss_lower_bound(1, 30.0) == 0.0
    assert sphere.softmax_loss_lower_bound(5, 0.0) == pytest.approx(math.log(5))
    # two opposite agents: log(1 + e^{−2s})
    assert sphere.softmax_loss_lower_bound(2, 3.0) == pytest.approx(math.log1p(math.exp(-6.0)))
    assert sphere.softmax_loss_lower_bound(10**6, 1e6) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(1, 3), st.integers(2, 6), st.floats(0.1, 40), seeds)
def test_no_balanced_batch_lies_under_the_bound(classes, each, dim, scale, seed):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(classes), each)
    logits = scale * oracle.cosine_matrix(rng.normal(size=(len(ids), dim)), rng.normal(size=(classes, dim)))
    mean_loss = oracle.softmax_losses(logits, ids).mean()
    assert mean_loss >= sphere.softmax_loss_lower_bound(classes, scale) - 1e-12


def test_the_simplex_meets_the_bound():
    # the corners of a centred simplex: cos = −1/(n−1) between any two
    corners = np.eye(4) - 0.25
    logits = 5.0 * oracle.cosine_matrix(corners, corners)
    expected = oracle.softmax_losses(logits, range(4)).mean()
    assert sphere.softmax_loss_lower_bound(4, 5.0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("classes", "expected"), [(10_572, 11.46), (13_403, 11.70), (58_207, 13.17)])
def test_l2_softmax_alpha_has_the_papers_numbers(classes, expected):
    alpha = sphere.scale_for_probability(classes, 0.9, geometry="orthogonal")
    assert alpha == pytest.approx(expected, abs=6e-3)


@given(st.integers(2, 10**6), st.floats(0.01, 0.99))
def test_scale_and_bound_are_inverse(classes, share):
    probability = 1 / classes + share * (1 - 1 / classes)
    scale = sphere.scale_for_probability(classes, probability)
    assert sphere.softmax_loss_lower_bound(classes, scale) == pytest.approx(-math.log(probability), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sphere.softmax_loss_lower_bound(0, 1.0), "`num_classes`.*Received: num_classes=0"),
        (lambda: sphere.softmax_loss_lower_bound(2.5, 1.0), "`num_classes`"),
        (lambda: sphere.softmax_loss_lower_bound(3, -1.0), "`scale`.*Received: scale=-1.0"),
        (lambda: sphere.softmax_loss_lower_bound(3, float("nan")), "`scale`"),
        (lambda: sphere.scale_for_probability(1, 0.9), "at least 2"),
        (lambda: sphere.scale_for_probability(2, 0.9, geometry="orthogonal"), "at least 3"),
        (lambda: sphere.scale_for_probability(10, 0.1), "`probability`.*Received: probability=0.1"),
        (lambda: sphere.scale_for_probability(10, 1.0), "`probability`"),
        (lambda: sphere.scale_for_probability(10, 0.9, geometry="cube"), "`geometry`"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
