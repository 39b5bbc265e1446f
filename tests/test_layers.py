"""CosineDense, LearnableScale, their initializer and constraint."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface import CosineDense, L2Constraint, LearnableScale, NormFaceLoss, scale_for_probability
from keras_normface import layers as initializers
from keras_normface.layers import Minimum, UnitSphere
from tests.support import oracle
from tests.support.helpers import central_differences, check_layer, random_units, to_numpy, value_and_gradients


@pytest.mark.parametrize(
    "make_layer",
    [
        lambda: CosineDense(3),
        lambda: CosineDense(1, normalize_inputs=False),
        lambda: CosineDense(3, normalize_kernel=False, kernel_regularizer="l2"),
        lambda: CosineDense(3, kernel_constraint=keras.constraints.UnitNorm(axis=1), kernel_initializer="ones"),
        lambda: LearnableScale(),
        lambda: LearnableScale(4.0, minimum=4.0, regularizer="l2"),
        lambda: L2Constraint(12.0),
        lambda: L2Constraint(12.0, learnable=True, num_classes=10),
    ],
)
def test_generic(make_layer, tmp_path):
    check_layer(make_layer, (5,), tmp_path)


def test_cosine_dense_takes_sequences(tmp_path):
    check_layer(lambda: CosineDense(4), (6, 5), tmp_path)


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("kernel", [True, False])
def test_cosine_dense_against_the_oracle(inputs, kernel):
    rng = np.random.default_rng(0)
    x, agents, weights = rng.normal(size=(4, 6)), rng.normal(size=(3, 6)), rng.normal(size=(4, 3))
    layer = CosineDense(3, normalize_inputs=inputs, normalize_kernel=kernel)
    layer.build((None, 6))

    def ours(x, agents):
        return layer_call(layer, x, agents) * weights.astype("float32")

    value, gradients = value_and_gradients(ours, x, agents)
    np.testing.assert_allclose(value, oracle.cosine_matrix(x, agents, inputs, kernel) * weights, rtol=1e-5, atol=1e-6)
    expected = central_differences(lambda a, b: oracle.cosine_matrix(a, b, inputs, kernel) * weights, x, agents)
    for mine, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def layer_call(layer, x, weight):
    outputs, _ = layer.stateless_call([weight], [], x)
    return outputs


def test_zero_vectors_and_zero_agents_are_finite():
    layer = CosineDense(2)
    layer.build((None, 3))
    value, gradients = value_and_gradients(
        lambda x, w: layer_call(layer, x, w), np.zeros((1, 3)), np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    )
    assert np.array_equal(value, np.zeros((1, 2)))
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_equal_and_opposite_vectors():
    layer = CosineDense(2, kernel_initializer="zeros")
    layer.build((None, 2))
    layer.set_weights([np.array([[3.0, 4.0], [-3.0, -4.0]])])
    np.testing.assert_allclose(to_numpy(layer(np.array([[0.6, 0.8]]))), [[1.0, -1.0]], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_cosines_and_logits_are_never_rounded(policy):
    keras.config.set_dtype_policy(policy)
    try:
        tensor = keras.Input((2,))
        embedding = keras.layers.Activation("linear")(tensor)
        cosines = CosineDense(1, kernel_initializer="ones")(embedding)
        logits = LearnableScale(64.0)(cosines)
        model = keras.Model(tensor, [embedding, cosines, logits])
    finally:
        keras.config.set_dtype_policy("float32")
    assert embedding.dtype == policy.removeprefix("mixed_")
    assert (cosines.dtype, logits.dtype) == ("float32", "float32")
    assert model.layers[-1].compute_dtype == "float32"
    _, cosine, logit = model(np.array([[1.0, 0.25]]))
    # (1, ¼) is exact in both halves; its cosine with (1, 1) is 1.25 / √(2 · 1.0625), which neither can hold
    exact = 1.25 / np.sqrt(2 * 1.0625)
    assert float(cosine[0, 0]) == pytest.approx(exact, rel=2e-7)
    assert float(logit[0, 0]) == pytest.approx(64 * exact, rel=2e-7)


def test_learnable_scale_keeps_float32_cosines_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        logits = LearnableScale(1.0)(ops.array([[0.123456789]], dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert float(logits[0, 0]) == pytest.approx(0.123456789, rel=1e-7)


def test_unit_norm_constraint_projects_agents():
    layer = CosineDense(3, kernel_constraint=keras.constraints.UnitNorm(axis=1))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(np.ones((8, 4)), np.full((8, 3), -1.0), verbose=0)
    np.testing.assert_allclose(np.linalg.norm(layer.get_weights()[0], axis=1), 1.0, atol=1e-5)


def test_a_step_can_only_grow_the_norm_of_agents():
    layer = CosineDense(3)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    before = np.linalg.norm(layer.get_weights()[0], axis=1)
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 4)), np.full((8, 3), -1.0), verbose=0)
    assert (np.linalg.norm(layer.get_weights()[0], axis=1) > before).all()


def test_scale_cannot_pass_the_floor_and_can_leave_it():
    layer = LearnableScale(0.5, minimum=0.25)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    ones = np.ones((4, 1))
    model.fit(ones, -9 * ones, verbose=0)
    assert float(layer.scale) == 0.25
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(ones, 9 * ones, verbose=0)
    assert float(layer.scale) > 0.25


def test_scale_acts_at_the_floor_with_its_whole_gradient():
    layer = LearnableScale(0.5, minimum=0.25)
    layer.build((None, 1))
    for stored in (0.25, 0.1, -3.0):
        value, (gradient,) = value_and_gradients(
            lambda s: layer_call(layer, np.array([[2.0]], dtype="float32"), s), np.float32(stored)
        )
        assert float(value[0, 0]) == pytest.approx(0.5, rel=1e-6)
        assert float(gradient) == 2.0


def test_scale_for_classes_starts_where_the_theory_asks():
    layer = LearnableScale.for_classes(1000, 0.95, minimum=1.0, name="s")
    assert layer.initial_value == scale_for_probability(1000, 0.95)
    assert (layer.minimum, layer.name) == (1.0, "s")


def test_unit_ball_rows_are_uniform_on_the_sphere():
    agents = to_numpy(UnitSphere(seed=3)((4000, 3)))
    np.testing.assert_allclose(np.linalg.norm(agents, axis=1), 1.0, atol=1e-6)
    # uniform: mean 0 and covariance I/3, each within five standard errors
    assert np.abs(agents.mean(axis=0)).max() < 5 / np.sqrt(3 * 4000)
    np.testing.assert_allclose(agents.T @ agents / 4000, np.eye(3) / 3, atol=5 * 0.3 / np.sqrt(4000))


@pytest.mark.parametrize("seed", [5, None])
def test_unit_ball_in_blocks(monkeypatch, seed):
    monkeypatch.setattr(initializers, "_BLOCK_NUMBERS", 12)
    unit_ball = UnitSphere(seed=seed)
    agents = to_numpy(unit_ball((11, 3)))
    assert agents.shape == (11, 3)
    np.testing.assert_allclose(np.linalg.norm(agents, axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(agents.round(5), axis=0)) == 11
    np.testing.assert_array_equal(agents, to_numpy(unit_ball((11, 3))))
    assert not np.array_equal(agents, to_numpy(UnitSphere(seed=6)((11, 3))))


def test_unit_ball_seed_and_dtype():
    same = [to_numpy(UnitSphere(seed=5)((2, 3))) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], to_numpy(UnitSphere(seed=6)((2, 3))))
    assert not np.array_equal(CosineDense(2).kernel_initializer((2, 3)), CosineDense(2).kernel_initializer((2, 3)))
    assert keras.backend.standardize_dtype(UnitSphere()((2, 3), dtype="bfloat16").dtype) == "bfloat16"
    config = keras.initializers.serialize(UnitSphere(seed=5))
    np.testing.assert_array_equal(to_numpy(keras.initializers.deserialize(config)((2, 3))), same[0])


def test_minimum_round_trips():
    again = keras.constraints.deserialize(keras.constraints.serialize(Minimum(0.5)))
    assert again.minimum == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CosineDense(0), "`units`.*Received: units=0"),
        (lambda: CosineDense(2.0), "`units`.*Received: units=2.0"),
        (lambda: CosineDense(True), "`units`"),
        (lambda: CosineDense(2, epsilon=0.0), "`epsilon`"),
        (lambda: CosineDense(2).build((None, None)), "last axis"),
        (lambda: LearnableScale(minimum=0.0), "`minimum`"),
        (lambda: LearnableScale(1.0, minimum=2.0), "`initial_value`.*Received: initial_value=1.0"),
        (lambda: LearnableScale(float("nan")), "`initial_value`"),
        (lambda: UnitSphere()(()), "`shape`"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def sequences():
    """Padded tokens, labels, the tokens' unit vectors, class centres, and the mean loss without the padding."""
    rng = np.random.default_rng(0)
    tokens, ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]]), np.array([[0, 2, 0, 0], [1, 1, 2, 0]])
    table, centres = random_units(rng, 4, 5).astype("float32"), random_units(rng, 3, 5).astype("float32")
    cosines = oracle.cosine_matrix(table[tokens.reshape(-1)], centres)
    values = oracle.softmax_losses(12.0 * cosines, ids.reshape(-1))
    return tokens, ids, table, centres, values[tokens.reshape(-1) > 0].mean()


@pytest.mark.parametrize("kind", ["Dense", "CosineDense", "LearnableScale", "L2Constraint", "learnable L2Constraint"])
def test_a_mask_reaches_the_loss(kind):
    tokens, ids, table, centres, expected = sequences()
    dense = keras.layers.Dense(3, use_bias=False)
    stack, loss = {
        "Dense": ([dense], NormFaceLoss(scale=12.0)),
        "CosineDense": ([CosineDense(3)], NormFaceLoss(scale=12.0)),
        "LearnableScale": ([dense, LearnableScale(12.0)], NormFaceLoss()),
        "L2Constraint": ([L2Constraint(12.0), dense], NormFaceLoss()),
        "learnable L2Constraint": ([L2Constraint(12.0, learnable=True), dense], NormFaceLoss()),
    }[kind]
    embedding = keras.layers.Embedding(4, 5, mask_zero=True)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), embedding, *stack])
    embedding.set_weights([table])
    for layer in stack:
        if layer is dense or isinstance(layer, CosineDense):
            layer.set_weights([centres.T if layer is dense else centres])
    model.compile("sgd", loss, jit_compile=False)
    np.testing.assert_allclose(model.evaluate(tokens, ids, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(loss(ids, model(tokens))), expected, rtol=1e-5)
