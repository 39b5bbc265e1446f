"""The ordinary softmax as a head: L2-softmax and the plain softmax against float64."""

import keras
import numpy as np
import pytest

from keras_normface import LearnableScale
from keras_normface.heads import SoftmaxHead
from tests.support.helpers import central_differences, to_numpy, value_and_gradients

RNG = np.random.default_rng(0)
X, LABELS = 2.0 * RNG.normal(size=(4, 5)), np.array([0, 2, 1, 1])
KERNEL, BIAS = RNG.normal(size=(3, 5)), RNG.normal(size=3)


def oracle(x, scale):
    features = x if scale is None else scale * x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = features @ KERNEL.T + BIAS
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), LABELS]


def head(scale):
    made = SoftmaxHead(3, scale=scale)
    made.build((None, 5))
    made.kernel.assign(KERNEL)
    made.bias.assign(BIAS)
    return made


@pytest.mark.parametrize("scale", [None, 16.0])
def test_value_and_gradient(scale):
    value, (gradient,) = value_and_gradients(lambda x: head(scale).loss(LABELS, x), X)
    np.testing.assert_allclose(value, oracle(X, scale), rtol=1e-4, atol=1e-5)
    (expected,) = central_differences(lambda x: oracle(x, scale), X)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_a_learnable_scale_is_the_number_that_it_holds():
    learnable = head(LearnableScale(16.0))
    np.testing.assert_allclose(to_numpy(learnable.loss(LABELS, X)), oracle(X, 16.0), rtol=1e-4, atol=1e-5)
    assert len(learnable.trainable_variables) == 3
    assert float(to_numpy(learnable.current_scale)) == 16.0


def test_accuracy_is_of_directions():
    statistics = head(16.0).statistics(LABELS, X)
    cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ (KERNEL / np.linalg.norm(KERNEL, axis=1)[:, None]).T
    np.testing.assert_array_equal(to_numpy(statistics.correct), cosines.argmax(axis=1) == LABELS)
    np.testing.assert_allclose(to_numpy(statistics.target_cosine), cosines[np.arange(4), LABELS], rtol=1e-4)


@pytest.mark.parametrize("scale", [None, 2.0, LearnableScale(3.0)])
def test_config(scale):
    made = SoftmaxHead(3, scale=scale, use_bias=False, name="softmax")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config()
    again.build((None, 5))
    assert [variable.path.split("/")[-1] for variable in again.trainable_variables] == ["kernel"] + ["scale"] * (
        isinstance(scale, LearnableScale)
    )


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"`scale` must be .* > 0. Received: scale=0"):
        SoftmaxHead(3, scale=0)
