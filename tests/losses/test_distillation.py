"""The two distances of a pupil from its teacher: oracle, gradients, by hand, invariants, edges."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.losses import cosine_distillation, relational_distillation
from tests.support import oracle
from tests.support.helpers import central_differences, in_graph, random_units, to_numpy, value_and_gradients

LOSSES = {
    "cosine": (cosine_distillation, oracle.cosine_distillation_losses),
    "relational": (relational_distillation, oracle.relational_distillation_losses),
}


def pair(seed=0, rows=5, dim=4, own=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, dim)), 3 * rng.normal(size=(rows, own))


def rotation(seed, dim):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients(name):
    function, expected = LOSSES[name]
    teacher, pupil = pair()
    value, slopes = value_and_gradients(function, teacher, pupil)
    np.testing.assert_allclose(value, expected(teacher, pupil), atol=1e-6)
    for slope, numeric in zip(slopes, central_differences(expected, teacher, pupil), strict=True):
        np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-5)
    for jit_compile in (False, True):
        graph = in_graph(function, teacher.astype("float32"), pupil.astype("float32"), jit_compile=jit_compile)
        np.testing.assert_allclose(graph, value, rtol=1e-5, atol=1e-6)


def test_relations_do_not_need_one_dimension():
    teacher, pupil = pair(own=7)
    value, (_, slope) = value_and_gradients(relational_distillation, teacher, pupil)
    np.testing.assert_allclose(value, oracle.relational_distillation_losses(teacher, pupil), atol=1e-6)
    numeric = central_differences(lambda x: oracle.relational_distillation_losses(teacher, x), pupil)[0]
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-5)


def test_by_hand():
    # cosines of the teacher: 12: 0, 13: 0.6, 23: 0.8; of the pupil: 12: 1, 13: 0, 23: 0
    teacher = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    pupil = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(to_numpy(cosine_distillation(teacher, pupil)), [0.0, 1.0, 0.2], atol=1e-6)
    expected = [(1 + 0.36) / 2, (1 + 0.64) / 2, (0.36 + 0.64) / 2]
    np.testing.assert_allclose(to_numpy(relational_distillation(teacher, pupil)), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_invariants(seed, rows, dim):
    rng = np.random.default_rng(seed)
    teacher, pupil = random_units(rng, rows, dim), random_units(rng, rows, dim)
    turn, other = rotation(seed, dim), rotation(seed + 1, dim)
    cosine, relational = (to_numpy(f(teacher, pupil)) for f, _ in LOSSES.values())
    close = {"rtol": 1e-4, "atol": 5e-6}
    # Nothing changes where both are turned alike, or stretched; relations, where each is turned by itself.
    sizes = rng.uniform(0.1, 10.0, size=(rows, 1))
    np.testing.assert_allclose(to_numpy(cosine_distillation(teacher @ turn, sizes * (pupil @ turn))), cosine, **close)
    np.testing.assert_allclose(
        to_numpy(relational_distillation(sizes * (teacher @ turn), pupil @ other)), relational, **close
    )
    for function, _ in LOSSES.values():
        np.testing.assert_allclose(to_numpy(function(teacher, 3 * teacher)), 0.0, atol=2e-6)
    np.testing.assert_allclose(to_numpy(relational_distillation(teacher, teacher @ turn)), 0.0, atol=1e-6)
    assert (cosine >= -1e-6).all()
    assert (cosine <= 2 + 1e-6).all()
    assert (relational >= 0).all()
    assert (relational <= 4 + 1e-5).all()
    # The order of the samples does not matter.
    order = rng.permutation(rows)
    np.testing.assert_allclose(
        to_numpy(relational_distillation(teacher[order], pupil[order])), relational[order], **close
    )


def test_one_sample_has_no_relations():
    teacher, pupil = pair(rows=1)
    value, (_, slope) = value_and_gradients(relational_distillation, teacher, pupil)
    assert value.tolist() == [0.0]
    assert not slope.any()


@pytest.mark.parametrize("name", LOSSES)
def test_zero_vectors(name):
    function, expected = LOSSES[name]
    teacher, pupil = pair()
    teacher[0], pupil[1] = 0.0, 0.0
    value, (_, slope) = value_and_gradients(function, teacher, pupil)
    np.testing.assert_allclose(value, expected(teacher, pupil), atol=1e-6)
    assert np.isfinite(slope).all()
    if name == "cosine":
        assert value[:2].tolist() == [1.0, 1.0]
        assert not slope[0].any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(name, dtype):
    function, _ = LOSSES[name]
    teacher, pupil = (keras.ops.cast(array, dtype) for array in pair())
    value = function(teacher, pupil)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    rounded = (to_numpy(keras.ops.cast(array, "float32")).astype("float32") for array in (teacher, pupil))
    np.testing.assert_array_equal(to_numpy(value), to_numpy(function(*rounded)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_nan_is_not_hidden(name):
    teacher, pupil = pair()
    pupil[2] = np.nan
    assert np.isnan(to_numpy(LOSSES[name][0](teacher, pupil))[2])


@pytest.mark.parametrize(
    ("function", "teacher", "pupil"),
    [
        (cosine_distillation, np.ones((3, 4)), np.ones((3, 5))),
        (cosine_distillation, np.ones((3, 4)), np.ones((2, 4))),
        (relational_distillation, np.ones((3, 4)), np.ones((1, 4))),
        (relational_distillation, np.ones(3), np.ones((3, 4))),
    ],
)
def test_what_does_not_fit_is_named(function, teacher, pupil):
    with pytest.raises(ValueError, match=r"`teacher` and `embeddings`.*Received: shapes"):
        function(teacher, pupil)
