"""Softmax losses with a margin: oracle, unification, ends, training at extremes."""

import keras
import numpy as np
import pytest

from keras_normface import AMSoftmaxLoss, ArcFaceLoss, CosineDense, L2Constraint, NormFaceLoss, SphereFaceRLoss
from keras_normface.losses import MarginSoftmaxLoss, SphereFaceLoss
from keras_normface.margins import AdditiveAngular, AdditiveCosine, CombinedMargin, MultiplicativeAngular, NoMargin
from tests.support import oracle
from tests.support.helpers import COMPILED, central_differences, check_loss, random_units, to_numpy, value_and_gradients

IDS = np.array([0, 2, 1, 2, 4, 3])
CASES = {
    "none": (lambda **kw: MarginSoftmaxLoss(scale=20.0, **kw), {"m": 0.0}, 20.0),
    "additive_cosine": (lambda **kw: AMSoftmaxLoss(**kw), {"m": 0.35}, 30.0),
    "additive_angular": (lambda **kw: ArcFaceLoss(scale=20.0, gradient="exact", **kw), {"m": 0.5}, 20.0),
    "linear_tail": (lambda **kw: ArcFaceLoss(0.5, scale=20.0, tail="linear", gradient="exact", **kw), {"m": 0.5}, 20.0),
    "v0": (lambda **kw: SphereFaceLoss(gradient="exact", **kw), {"m": 1.5}, 30.0),
    "v1": (lambda **kw: SphereFaceRLoss(gradient="exact", **kw), {"m": 1.5}, 30.0),
    "v2": (lambda **kw: SphereFaceRLoss(1.4, scale=30.0, variant="v2", gradient="exact", **kw), {"m": 1.4}, 30.0),
    "combined": (
        lambda **kw: MarginSoftmaxLoss(CombinedMargin(m1=1.1, m2=0.2, m3=0.1, gradient="exact"), scale=30.0, **kw),
        {"m": 1.1, "m2": 0.2, "m3": 0.1},
        30.0,
    ),
}
DETACHED = {
    "additive_angular": lambda **kw: ArcFaceLoss(scale=20.0, **kw),
    "v0": lambda **kw: SphereFaceLoss(**kw),
    "v1": lambda **kw: SphereFaceRLoss(**kw),
    "v2": lambda **kw: SphereFaceRLoss(1.4, scale=30.0, variant="v2", **kw),
}


def some_cosines(seed=0, samples=6, classes=5, dim=4):
    rng = np.random.default_rng(seed)
    return random_units(rng, samples, dim) @ random_units(rng, classes, dim).T


def expected_losses(name, cosines, ids, label_smoothing=0.0):
    _, numbers, scale = CASES[name]
    matrix = oracle.margin_matrix(name, cosines, ids, reach=1 - 1e-6, **numbers)
    return oracle.softmax_losses(scale * matrix, ids, label_smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_against_the_oracle(name, smoothing):
    cosines = some_cosines()
    loss = CASES[name][0](reduction=None, label_smoothing=smoothing)
    value, (gradient,) = value_and_gradients(lambda c: loss(IDS, c), cosines)
    np.testing.assert_allclose(value, expected_losses(name, cosines, IDS, smoothing), rtol=1e-5, atol=2e-5)
    (numeric,) = central_differences(lambda c: expected_losses(name, c, IDS, smoothing), cosines)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", DETACHED)
def test_detached_gradient_is_s_times_p_minus_one_hot(name):
    cosines, (_, numbers, scale) = some_cosines(), CASES[name]
    loss = DETACHED[name](reduction=None)
    value, (gradient,) = value_and_gradients(lambda c: loss(IDS, c), cosines)
    logits = scale * oracle.margin_matrix(name, cosines, IDS, **numbers)
    np.testing.assert_allclose(value, oracle.softmax_losses(logits, IDS), rtol=1e-5, atol=2e-5)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, scale * (p - np.eye(5)[IDS]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["additive_cosine", "additive_angular", "v0", "v2"])
def test_generic(name):
    check_loss(DETACHED.get(name, CASES[name][0]), IDS, some_cosines(), num_classes=5)


@pytest.mark.parametrize(
    ("named", "general"),
    [
        (NormFaceLoss(scale=20.0), MarginSoftmaxLoss(NoMargin(), scale=20.0)),
        (AMSoftmaxLoss(), MarginSoftmaxLoss(AdditiveCosine(0.35), scale=30.0)),
        (ArcFaceLoss(), MarginSoftmaxLoss(AdditiveAngular(0.5), scale=64.0)),
        (SphereFaceLoss(), MarginSoftmaxLoss(MultiplicativeAngular(1.5, variant="v0"), scale=30.0)),
        (SphereFaceRLoss(), MarginSoftmaxLoss(MultiplicativeAngular(1.5, variant="v1"), scale=30.0)),
        (SphereFaceRLoss(variant="v2"), MarginSoftmaxLoss(MultiplicativeAngular(1.5, variant="v2"), scale=30.0)),
    ],
)
def test_each_name_is_the_general_loss_with_its_parts(named, general):
    cosines = some_cosines()
    one, (a,) = value_and_gradients(lambda c: named(IDS, c), cosines)
    other, (b,) = value_and_gradients(lambda c: general(IDS, c), cosines)
    assert one == other
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "neutral",
    [
        AMSoftmaxLoss(margin=0.0, scale=20.0),
        ArcFaceLoss(0.0, scale=20.0),
        SphereFaceLoss(1.0, scale=20.0),
        SphereFaceRLoss(1.0, scale=20.0, variant="v1"),
        SphereFaceRLoss(1.0, scale=20.0, variant="v2"),
        MarginSoftmaxLoss(CombinedMargin(), scale=20.0),
    ],
)
def test_the_neutral_margin_gives_normface(neutral):
    cosines = some_cosines()
    one, (a,) = value_and_gradients(lambda c: neutral(IDS, c), cosines)
    other, (b,) = value_and_gradients(lambda c: NormFaceLoss(scale=20.0)(IDS, c), cosines)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_one_class_equal_labels_and_the_ends(name):
    make = DETACHED.get(name, CASES[name][0])
    assert to_numpy(make()(np.array([0]), np.array([[0.3]], dtype="float32"))) == pytest.approx(0.0, abs=1e-6)
    ends = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    for loss in (make(reduction=None), CASES[name][0](reduction=None)):
        value, (gradient,) = value_and_gradients(lambda c, f=loss: f(np.zeros(4, int), c), ends)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_two_hundred_steps_at_scale_64_and_extreme_margins_stay_finite(name):
    extreme = {
        "none": MarginSoftmaxLoss(scale=64.0),
        "additive_cosine": AMSoftmaxLoss(1.5, scale=64.0),
        "additive_angular": ArcFaceLoss(1.5, scale=64.0, gradient="exact"),
        "linear_tail": ArcFaceLoss(1.5, scale=64.0, tail="linear", gradient="exact"),
        "v0": SphereFaceLoss(4.0, scale=64.0, gradient="exact"),
        "v1": SphereFaceRLoss(4.0, scale=64.0, variant="v1", gradient="exact"),
        "v2": SphereFaceRLoss(4.0, scale=64.0, variant="v2", gradient="exact"),
        "combined": MarginSoftmaxLoss(CombinedMargin(m1=2.0, m2=1.0, m3=1.0, gradient="exact"), scale=64.0),
    }[name]
    x, y = blobs()
    assert np.isfinite(train(x, y, extreme, epochs=50)["loss"])


@pytest.mark.parametrize(
    "make",
    [NormFaceLoss, AMSoftmaxLoss, ArcFaceLoss, SphereFaceLoss, SphereFaceRLoss, lambda: SphereFaceRLoss(variant="v2")],
)
def test_a_separable_problem_is_learned_from_the_defaults(make):
    x, y = blobs()
    loss = NormFaceLoss(scale=20.0) if make is NormFaceLoss else make()
    assert train(x, y, loss, epochs=60)["accuracy"] == 1.0


def blobs(classes=4, each=16, dim=6):
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(dim)[:classes]
    x = np.repeat(centres, each, axis=0) + 0.3 * rng.normal(size=(classes * each, dim))
    return x.astype("float32"), np.repeat(np.arange(classes), each)


def train(x, y, loss, epochs):
    keras.utils.set_random_seed(0)
    layers = [keras.Input(x.shape[1:]), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(5)]
    model = keras.Sequential([*layers, CosineDense(4)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"], jit_compile=COMPILED)
    model.fit(np.tile(x, (epochs, 1)), np.tile(y, epochs), batch_size=16, verbose=0)  # one call costs less than epochs
    return model.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)


def test_l2_constraint_against_its_formula_and_in_training():
    x = np.random.default_rng(0).normal(size=(4, 5))
    weights = np.arange(20).reshape(4, 5)
    layer = L2Constraint(12.0)
    value, (gradient,) = value_and_gradients(lambda t: layer(t) * weights.astype("float32"), x)
    np.testing.assert_allclose(value, 12.0 * oracle.unit(x) * weights, rtol=1e-5)
    (numeric,) = central_differences(lambda t: 12.0 * oracle.unit(t) * weights, x)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)
    images, labels = blobs()
    model = keras.Sequential([keras.layers.Dense(6), L2Constraint(16.0, learnable=True), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.02), NormFaceLoss(), metrics=["accuracy"], jit_compile=True)
    model.fit(np.tile(images, (60, 1)), np.tile(labels, 60), batch_size=16, verbose=0)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] == 1.0
    assert float(model.layers[1].scale.scale) != 16.0


def test_l2_constraint_warns_below_the_papers_bound():
    with pytest.warns(UserWarning, match=r"alpha=8 lies under 11\.46"):
        L2Constraint(8.0, num_classes=10_572)
    with pytest.raises(ValueError, match="`alpha`"):
        L2Constraint(0.0)
    assert L2Constraint.for_classes(10_572, 0.9).alpha == pytest.approx(11.46, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarginSoftmaxLoss(margin=0.3), "`margin` must be a Margin"),
        (lambda: MarginSoftmaxLoss(scale=-1.0), "`scale`"),
        (lambda: SphereFaceRLoss(variant="v0"), "`variant`"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
