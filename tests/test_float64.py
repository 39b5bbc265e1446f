"""Every loss, margin and head in float64: values and gradients against the oracles, which a float32 step would miss."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface import layers, losses
from keras_normface.heads import (
    AgentContrastiveHead,
    AgentTripletHead,
    MarginSoftmaxHead,
    SampledMarginSoftmaxHead,
    SoftmaxHead,
)
from keras_normface.layers import CosineDense, L2Constraint, LearnableScale, UnitSphere
from keras_normface.losses import pairwise_distance
from keras_normface.margins import AdditiveAngular, AdditiveCosine, CombinedMargin, MultiplicativeAngular, NoMargin
from tests.support import metric_oracle, oracle
from tests.support.helpers import BACKEND, random_units, to_numpy, value_and_gradients

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX turns float64 into float32 unless told otherwise")
IDS = np.array([0, 2, 1, 2, 4, 3])
PAIR_IDS = np.array([0, 1, 1, 0, 2, 2])


def derivative(function, array, step=2e-4):
    """Gradient of a float64 function whose values are summed, by differences of five points: exact to about 1e-9."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        sums = []
        for shift in (-2, -1, 1, 2):
            moved = array.copy()
            moved[index] += shift * step
            sums.append(np.sum(function(moved)))
        gradient[index] = (sums[0] - 8 * sums[1] + 8 * sums[2] - sums[3]) / (12 * step)
    return gradient


def compare(function, expected, array, with_gradient=True):
    """Values to 1e-10 and gradients to 1e-7 of the float64 ones; float32 is 1e-6 away."""
    value, (gradient,) = value_and_gradients(function, array, dtype="float64")
    assert keras.backend.standardize_dtype(function(ops.convert_to_tensor(array)).dtype) == "float64"
    np.testing.assert_allclose(value, expected(array), rtol=1e-10, atol=1e-10)
    if with_gradient:
        np.testing.assert_allclose(gradient, derivative(expected, array), rtol=1e-7, atol=1e-7)
    assert np.isfinite(gradient).all()


def cosines(seed=0):
    rng = np.random.default_rng(seed)
    return random_units(rng, 6, 4) @ random_units(rng, 5, 4).T


def margin_losses(name, matrix, scale, smoothing=0.0, **numbers):
    return oracle.softmax_losses(scale * oracle.margin_matrix(name, matrix, IDS, **numbers), IDS, smoothing)


# Name of the oracle's formula, its numbers, and the margin; a detached gradient is not the value's derivative.
MARGINS = {
    "none": ("none", {"m": 0.0}, NoMargin()),
    "additive_cosine": ("additive_cosine", {"m": 0.35}, AdditiveCosine(0.35)),
    "clamp": ("additive_angular", {"m": 0.5}, AdditiveAngular(0.5, gradient="exact")),
    "clamp_detached": ("additive_angular", {"m": 0.5}, AdditiveAngular(0.5)),
    "linear": ("linear_tail", {"m": 1.1}, AdditiveAngular(1.1, tail="linear", gradient="exact")),
    "linear_detached": ("linear_tail", {"m": 1.1}, AdditiveAngular(1.1, tail="linear")),
    "v0": ("v0", {"m": 1.7}, MultiplicativeAngular(1.7, variant="v0", gradient="exact")),
    "v1": ("v1", {"m": 1.4}, MultiplicativeAngular(1.4, gradient="exact")),
    "v2": ("v2", {"m": 1.4}, MultiplicativeAngular(1.4, variant="v2", gradient="exact")),
    "v2_detached": ("v2", {"m": 1.4}, MultiplicativeAngular(1.4, variant="v2")),
    "combined": (
        "combined",
        {"m": 1.1, "m2": 0.2, "m3": 0.1},
        CombinedMargin(m1=1.1, m2=0.2, m3=0.1, gradient="exact"),
    ),
}


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_margin_losses(name, smoothing):
    formula, numbers, margin = MARGINS[name]
    loss = losses.MarginSoftmaxLoss(margin, scale=9.3, label_smoothing=smoothing, reduction=None, dtype="float64")
    expected = lambda c: margin_losses(formula, c, 9.3, smoothing, **numbers)  # noqa: E731
    compare(lambda c: loss(IDS, c), expected, cosines(), margin.gradient == "exact")


NAMED = {
    "normface": (losses.NormFaceLoss, {"scale": 9.3}, "none", {"m": 0.0}),
    "am_softmax": (losses.AMSoftmaxLoss, {}, "additive_cosine", {"m": 0.35}),
    "arcface": (losses.ArcFaceLoss, {"scale": 9.3}, "additive_angular", {"m": 0.5}),
    "arcface_linear": (losses.ArcFaceLoss, {"scale": 9.3, "tail": "linear"}, "linear_tail", {"m": 0.5}),
    "sphereface": (losses.SphereFaceLoss, {}, "v0", {"m": 1.5}),
    "sphereface_r_v1": (losses.SphereFaceRLoss, {}, "v1", {"m": 1.5}),
    "sphereface_r_v2": (losses.SphereFaceRLoss, {"variant": "v2"}, "v2", {"m": 1.5}),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_losses(name):
    make, options, formula, numbers = NAMED[name]
    loss = make(**options, reduction=None, dtype="float64")
    exact = name in ("normface", "am_softmax")
    compare(lambda c: loss(IDS, c), lambda c: margin_losses(formula, c, loss.scale, **numbers), cosines(), exact)


AGENT = [
    (
        losses.AgentContrastiveLoss,
        {"positive_margin": 0.1, "negative_margin": 2.3, "negative_weight": 0.7},
        oracle.agent_contrastive_losses,
        {"m_pos": 0.1, "m_neg": 2.3, "w_neg": 0.7},
    ),
    (
        losses.AgentContrastiveLoss,
        {"negative_margin": 2.3, "exponential_negatives": True},
        oracle.agent_contrastive_losses,
        {"m_neg": 2.3, "exponential": True},
    ),
    (
        losses.AgentContrastiveLoss,
        {"negative_margin": 2.3, "hardest_negative_only": True},
        oracle.agent_contrastive_losses,
        {"m_neg": 2.3, "hardest": True},
    ),
    (losses.AgentTripletLoss, {"margin": 0.7}, oracle.agent_triplet_losses, {"margin": 0.7}),
    (
        losses.AgentTripletLoss,
        {"hardest_negative_only": True, "positive_pull": True},
        oracle.agent_triplet_losses,
        {"hardest": True, "pull": True},
    ),
]


@pytest.mark.parametrize(("make", "options", "expected", "numbers"), AGENT)
def test_agent_losses(make, options, expected, numbers):
    loss = make(**options, reduction=None, dtype="float64")
    compare(lambda c: loss(IDS, c), lambda c: expected(c, IDS, **numbers), cosines())


PAIRS = {
    "hard": (losses.TripletHardLoss, metric_oracle.hard_losses, {}),
    "soft": (losses.TripletHardLoss, metric_oracle.hard_losses, {"soft": True}),
    "semi_hard": (losses.TripletSemiHardLoss, metric_oracle.semi_hard_losses, {"margin": 0.7}),
    "lifted": (losses.LiftedStructLoss, metric_oracle.lifted_losses, {"margin": 0.7}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_metric_losses(name):
    make, expected, options = PAIRS[name]
    loss, ids = make(**options, reduction=None, dtype="float64"), np.array([0, 1, 1, 0, 2, 2, 1])
    x = np.random.default_rng(3).normal(size=(7, 4))
    compare(lambda e: loss(ids, e), lambda e: expected(e, ids, **options), x)


def test_losses_on_pairs_and_similarities():
    rng = np.random.default_rng(0)
    similarities, rows = rng.normal(size=(6, 6)), rng.integers(0, 2, size=(6, 4))
    options = {"reduction": None, "dtype": "float64"}
    npairs, multilabel = losses.NpairsLoss(**options), losses.NpairsMultilabelLoss(**options)
    compare(lambda s: npairs(PAIR_IDS, s), lambda s: metric_oracle.npairs_losses(s, PAIR_IDS), similarities)
    compare(lambda s: multilabel(rows, s), lambda s: metric_oracle.npairs_multilabel_losses(s, rows), similarities)
    contrastive, pairs = losses.ContrastiveLoss(0.9, **options), PAIR_IDS % 2
    distances = np.abs(rng.normal(size=6))
    compare(lambda d: contrastive(pairs, d), lambda d: metric_oracle.contrastive_losses(d, pairs, 0.9), distances)
    x = rng.normal(size=(5, 3))
    np.testing.assert_allclose(to_numpy(pairwise_distance(x)), metric_oracle.distance_matrix(x), rtol=0, atol=1e-10)


SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [1.25, 1.5, 1.75])  # exact in float32


def margin_head(name, scale, **options):
    formula, numbers, margin = MARGINS[name]
    expected = lambda c, x: margin_losses(formula, c, scale, options.get("label_smoothing", 0.0), **numbers)  # noqa: E731
    return (lambda **kw: MarginSoftmaxHead(5, margin, scale, **options, **kw)), expected, margin.gradient == "exact"


def norms(x):
    return np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-12)


def softmax_head_losses(c, x, agents):
    return oracle.softmax_losses(c * norms(agents)[:, 0] * 7.3, IDS)


HEADS = {name: margin_head(name, 9.3) for name in MARGINS} | {
    "large scale": margin_head("additive_cosine", 64.3),
    "smoothing": margin_head("additive_cosine", 9.3, label_smoothing=0.1),
    "learnable": (
        lambda **kw: MarginSoftmaxHead(5, AdditiveCosine(0.35), LearnableScale(9.25), **kw),
        lambda c, x: margin_losses("additive_cosine", c, 9.25, m=0.35),
        True,
    ),
    "no norm": (
        lambda **kw: MarginSoftmaxHead(5, AdditiveCosine(0.35), feature_norm="none", **kw),
        lambda c, x: margin_losses("additive_cosine", c, norms(x), m=0.35),
        True,
    ),
    "soft norm": (
        lambda **kw: MarginSoftmaxHead(5, AdditiveCosine(0.35), LearnableScale(3.25), "soft", norm_weight=0.1, **kw),
        lambda c, x: margin_losses("additive_cosine", c, norms(x), m=0.35) + 0.1 * np.abs(norms(x)[:, 0] - 3.25),
        True,
    ),
    "schedule": (
        lambda **kw: MarginSoftmaxHead(
            5, MultiplicativeAngular(9.0, gradient="exact"), 9.3, margin_schedule=SCHEDULE, **kw
        ),
        lambda c, x: margin_losses("v1", c, 9.3, m=1.25),
        True,
    ),
    "schedule of others": (
        lambda **kw: MarginSoftmaxHead(
            5, MultiplicativeAngular(9.0, variant="v2", gradient="exact"), 9.3, margin_schedule=SCHEDULE, **kw
        ),
        lambda c, x: margin_losses("v2", c, 9.3, m=1.25),
        True,
    ),
    "schedule, linear tail": (
        lambda **kw: MarginSoftmaxHead(
            5, AdditiveAngular(0.1, tail="linear", gradient="exact"), 9.3, margin_schedule=SCHEDULE, **kw
        ),
        lambda c, x: margin_losses("linear_tail", c, 9.3, m=1.25),
        True,
    ),
    "contrastive": (
        lambda **kw: AgentContrastiveHead(5, negative_margin=2.3, **kw),
        lambda c, x: oracle.agent_contrastive_losses(c, IDS, m_neg=2.3),
        True,
    ),
    "triplet": (
        lambda **kw: AgentTripletHead(5, margin=0.7, hardest_negative_only=True, **kw),
        lambda c, x: oracle.agent_triplet_losses(c, IDS, margin=0.7, hardest=True),
        True,
    ),
}


@pytest.mark.parametrize(
    ("name", "fused"),
    [(name, False) for name in HEADS] + [(name, ("buffer", "stream")[i % 2]) for i, name in enumerate(HEADS)],
)
def test_heads(name, fused):
    make, expected, exact = HEADS[name]
    rng = np.random.default_rng(1)
    x, agents = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    head = make(fused=fused, dtype="float64")
    head.build((None, 4))
    assert keras.backend.standardize_dtype(head.kernel.dtype) == "float64"
    head.kernel.assign(agents)
    compare(lambda e: head.loss(IDS, e), lambda e: expected(oracle.cosine_matrix(e, agents), e), x, exact)

    def by_agents(w):
        with keras.StatelessScope(state_mapping=[(head.kernel, w)]):
            return head.loss(IDS, x)

    compare(by_agents, lambda w: expected(oracle.cosine_matrix(x, w), x), agents, exact)


@pytest.mark.parametrize("scale", [7.3, "learnable"])
def test_softmax_head(scale):
    rng = np.random.default_rng(1)
    x, agents = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    head = SoftmaxHead(5, LearnableScale(7.25) if scale == "learnable" else scale, dtype="float64")
    head.build((None, 4))
    head.kernel.assign(agents)
    factor = norms(agents)[:, 0] * (7.25 if scale == "learnable" else scale)
    compare(
        lambda e: head.loss(IDS, e),
        lambda e: oracle.softmax_losses(oracle.cosine_matrix(e, agents) * factor, IDS),
        x,
    )


@pytest.mark.parametrize("schedule", [None, SCHEDULE])
@pytest.mark.parametrize("fused", [False, "buffer", "stream"])
def test_sampled_head(fused, schedule):
    labels, rng = np.array([7, 7, 3, 19]), np.random.default_rng(1)
    margin = MultiplicativeAngular(1.25, gradient="exact")
    options = {"sample_rate": 0.45, "minimum_sample": 1, "fused": fused, "margin_schedule": schedule}
    head = SampledMarginSoftmaxHead(20, margin, scale=9.3, dtype="float64", **options)
    head.build((None, 4))
    x, agents = rng.normal(size=(4, 4)), rng.normal(size=(20, 4))
    sample = head.sample(labels, 4)
    ids, log_weights = to_numpy(sample.ids), to_numpy(sample.log_weights)
    live = log_weights > -1e29
    # Five classes are drawn of the 20, one of each four in a row.
    np.testing.assert_allclose(log_weights[4:][live[4:]], np.log(4.0), rtol=1e-15)
    kept, weights = ids[live], log_weights[live]
    own = [int(np.flatnonzero(kept == label)[0]) for label in labels]

    def expected(e):
        c = oracle.cosine_matrix(e, agents[kept])
        logits = 9.3 * oracle.margin_matrix("v1", c, own, m=1.25) + weights
        logits[np.arange(4), own] -= weights[own]
        return oracle.softmax_losses(logits, own)

    compare(lambda e: head.statistics(labels, e, sample=(sample, ops.convert_to_tensor(agents[ids]))).loss, expected, x)


def test_layers_of_float64_are_exact():
    x = np.random.default_rng(1).normal(size=(6, 4))
    kernel = to_numpy(UnitSphere(seed=0)((500, 7), dtype="float64"))
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=1), 1.0, rtol=0, atol=1e-11)
    np.testing.assert_allclose(kernel, to_numpy(UnitSphere(seed=0)((500, 7))), atol=1e-6)
    dense = CosineDense(3, dtype="float64")
    np.testing.assert_allclose(to_numpy(dense(x)), oracle.cosine_matrix(x, to_numpy(dense.kernel)), rtol=0, atol=1e-12)
    scale, constraint = LearnableScale(0.3, minimum=0.1, dtype="float64"), layers.Minimum(0.1)
    np.testing.assert_allclose(to_numpy(scale(x)), 0.3 * x, rtol=1e-15)
    assert to_numpy(constraint(ops.zeros((1,), "float64"))).tolist() == [0.1]
    for learnable in (False, True):
        projected = to_numpy(L2Constraint(10.1, learnable=learnable, dtype="float64")(x))
        np.testing.assert_allclose(projected, 10.1 * oracle.unit(x), rtol=1e-14)
