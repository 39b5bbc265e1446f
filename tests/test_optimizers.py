"""The coupled weight decay, held to an oracle in float64, under everything that Keras puts around an optimizer."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface.optimizers import CoupledSGD, multipliers_of
from tests.support.helpers import POLICIES, to_numpy

RULES = (("agents/kernel$", 0.5, 3.0), ("/bias$", 2.0, 0.0))
RATES = {"body/kernel": (1.0, 1.0), "body/bias": (2.0, 0.0), "agents/kernel": (0.5, 3.0)}


def oracle(weight, gradients, rates, *, momentum=0.9, nesterov=False, wd=0.0, rate=1.0, decay=1.0):
    """The weight after each step: the coupled decay in the gradient, the learning rate inside the velocity."""
    weight, velocity, path = np.array(weight, "float64"), 0.0, []
    for gradient, lr in zip(gradients, rates, strict=True):
        step = rate * lr * (gradient + decay * wd * weight)
        velocity = momentum * velocity - step
        weight = weight + (momentum * velocity - step if nesterov else velocity)
        path.append(weight)
    return path


def model():
    """Two layers whose variables have the paths in RATES."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(3, name="body"),
        keras.layers.Dense(2, name="agents", use_bias=False),
    ]
    return keras.Sequential([keras.Input((4,)), *layers])


def variables():
    net = model()
    assert [variable.path.split("/", 1)[-1] for variable in net.trainable_variables] == list(RATES)
    return net.trainable_variables


def random_gradients(shapes, steps, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(steps)]


def run(optimizer, variables, gradients):
    for one in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in one], variables)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_several_steps_with_a_changing_rate(momentum, nesterov):
    weights = variables()
    start = [to_numpy(weight) for weight in weights]
    gradients = random_gradients([w.shape for w in start], 6)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [0.1, 0.02, 0.5])
    run(
        CoupledSGD(schedule, momentum, nesterov=nesterov, coupled_weight_decay=0.05, multipliers=RULES),
        weights,
        gradients,
    )
    rates = [0.1, 0.1, 0.02, 0.02, 0.5, 0.5]
    for index, (rate, decay) in enumerate(RATES.values()):
        own = [one[index] for one in gradients]
        options = {"momentum": momentum, "nesterov": nesterov, "wd": 0.05, "rate": rate, "decay": decay}
        expected = oracle(start[index], own, rates, **options)[-1]
        np.testing.assert_allclose(to_numpy(weights[index]), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(
    lr=st.floats(1e-3, 1.0),
    momentum=st.floats(0.0, 0.95),
    wd=st.floats(0.0, 0.1),
    start=st.floats(-3.0, 3.0),
    seed=st.integers(0, 99),
)
def test_any_numbers(lr, momentum, wd, start, seed):
    weight = keras.Variable([start])
    gradients = random_gradients([(1,)], 4, seed)
    run(CoupledSGD(lr, momentum, coupled_weight_decay=wd), [weight], gradients)
    expected = oracle([start], [one[0] for one in gradients], [lr] * 4, momentum=momentum, wd=wd)[-1]
    np.testing.assert_allclose(to_numpy(weight), expected, rtol=1e-4, atol=1e-4)


def test_what_is_left_of_a_weight_without_a_gradient():
    # Momentum 0.9 makes the decay ten times as strong: (1 − 0.1 · 5e-4 / 0.1)^1000 = 0.606, and a little more for
    # the first steps, in which the velocity is not there yet. Decoupled: (1 − 0.1 · 5e-4)^1000 = 0.951.
    left = {}
    for name, optimizer in {
        "coupled": CoupledSGD(0.1, 0.9, coupled_weight_decay=5e-4),
        "decoupled": keras.optimizers.SGD(0.1, 0.9, weight_decay=5e-4),
    }.items():
        net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        net.compile(optimizer, "mse", steps_per_execution=100)
        net.fit(np.zeros((1000, 1)), np.zeros((1000, 1)), batch_size=1, verbose=0)
        left[name] = round(float(net.get_weights()[0][0, 0]), 3)
    assert left == {"coupled": 0.608, "decoupled": 0.951}


def test_a_hand_worked_step():
    weight = keras.Variable([2.0])
    optimizer = CoupledSGD(0.5, momentum=0.5, coupled_weight_decay=0.1)
    gradient = [[np.array([1.0], "float32")]]
    run(optimizer, [weight], gradient)  # v = −0.5 · (1 + 0.2) = −0.6
    assert to_numpy(weight) == pytest.approx([1.4])
    run(optimizer, [weight], gradient)  # v = −0.3 − 0.5 · (1 + 0.14) = −0.87
    assert to_numpy(weight) == pytest.approx([0.53])


def test_clipping_comes_before_the_decay():
    weight = keras.Variable([3.0, 4.0])
    optimizer = CoupledSGD(1.0, momentum=0.0, coupled_weight_decay=0.1, global_clipnorm=1.0)
    run(optimizer, [weight], [[np.array([30.0, 40.0], "float32")]])  # clipped to (0.6, 0.8); decay (0.3, 0.4)
    assert to_numpy(weight) == pytest.approx([2.1, 2.8])


def test_gradient_accumulation_decays_once_an_update():
    weight = keras.Variable([2.0])
    optimizer = CoupledSGD(0.5, momentum=0.0, coupled_weight_decay=0.1, gradient_accumulation_steps=2)
    run(optimizer, [weight], [[np.array([1.0], "float32")]])
    assert to_numpy(weight) == pytest.approx([2.0])
    run(optimizer, [weight], [[np.array([3.0], "float32")]])  # 2 − 0.5 · (2 + 0.2)
    assert to_numpy(weight) == pytest.approx([0.9])


def test_moving_average_of_the_weights():
    weight = keras.Variable([2.0])
    optimizer = CoupledSGD(0.1, 0.9, coupled_weight_decay=0.1, use_ema=True, ema_momentum=0.5)
    gradients = random_gradients([(1,)], 3)
    run(optimizer, [weight], gradients)
    first, *others = oracle([2.0], [one[0] for one in gradients], [0.1] * 3, wd=0.1)
    average = first
    for one in others:
        average = 0.5 * average + 0.5 * one
    optimizer.finalize_variable_values([weight])
    assert to_numpy(weight) == pytest.approx(average, rel=1e-5)


@pytest.mark.parametrize(("policy", "jit_compile"), list(zip(POLICIES, (True, False, False), strict=True)))
def test_fit(policy, jit_compile):
    # On images that are zero, the kernel of the first layer has no gradient: it decays, and nothing else.
    keras.config.set_dtype_policy(policy)
    try:
        net = model()
        # Keras wraps it for loss scaling under mixed_float16.
        net.compile(CoupledSGD(0.1, 0.9, coupled_weight_decay=0.5, multipliers=RULES), "mse", jit_compile=jit_compile)
        start = to_numpy(net.trainable_variables[0])
        net.fit(np.zeros((8, 4)), np.zeros((8, 2)), batch_size=4, epochs=2, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    expected = oracle(start, [0.0] * 4, [0.1] * 4, wd=0.5)[-1]
    np.testing.assert_allclose(to_numpy(net.trainable_variables[0]), expected, rtol=1e-5)


def test_config_and_file(tmp_path):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [0.1, 0.02, 0.5])
    optimizer = CoupledSGD(
        schedule, 0.8, nesterov=True, coupled_weight_decay=0.01, multipliers=RULES, global_clipnorm=2.0
    )
    config = optimizer.get_config()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, CoupledSGD)
    assert again.multipliers == RULES
    assert again.get_config()["coupled_weight_decay"] == 0.01
    assert {k: v for k, v in again.get_config().items() if k != "learning_rate"} == {
        k: v for k, v in config.items() if k != "learning_rate"
    }

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
    net = model()
    net.compile(optimizer, "mse")
    net.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    for one in (net, loaded):
        one.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(net.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(loaded.optimizer.iterations) == 8


def test_the_first_rule_that_is_found_counts():
    rules = CoupledSGD(multipliers=[["agents", 1, 0], ("kernel", 3, 4)]).multipliers
    assert multipliers_of("net/agents/kernel", rules) == (1.0, 0.0)
    assert multipliers_of("net/body/kernel", rules) == (3.0, 4.0)
    assert multipliers_of("net/body/bias", rules) == (1.0, 1.0)


def test_keras_own_decay_is_refused():
    with pytest.raises(ValueError, match=r"`coupled_weight_decay`.*Received: weight_decay=0.1"):
        CoupledSGD(weight_decay=0.1)


def test_keras_own_exclusion_would_do_nothing_and_is_refused():
    with pytest.raises(ValueError, match="give `multipliers`"):
        CoupledSGD().exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_a_decay_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="`coupled_weight_decay` must be a finite number >= 0"):
        CoupledSGD(coupled_weight_decay=value)


@pytest.mark.parametrize("rule", [("(", 1, 1), ("a", 1), ("a", -1, 1), ("a", 1, float("inf")), (3, 1, 1), "abc", 5])
def test_a_bad_rule_is_refused(rule):
    with pytest.raises(ValueError, match="`multipliers` must hold triples"):
        CoupledSGD(multipliers=[rule])
