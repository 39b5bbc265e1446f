"""Heads and EmbeddingModel: oracle, agreement with the losses, feature norms, schedules, training, saving."""

import keras
import numpy as np
import pytest

from keras_normface import (
    AgentContrastiveHead,
    AgentContrastiveLoss,
    AgentTripletHead,
    AgentTripletLoss,
    AMSoftmaxLoss,
    ArcFaceLoss,
    CosineDense,
    EmbeddingModel,
    LearnableScale,
    MarginSoftmaxHead,
    NormFaceLoss,
    embedding_model,
)
from keras_normface.heads import SoftmaxHead
from keras_normface.margins import AdditiveAngular, AdditiveCosine, MultiplicativeAngular
from tests.support import oracle
from tests.support.helpers import COMPILED, central_differences, check_layer, in_graph, to_numpy, value_and_gradients

IDS = np.array([0, 2, 1, 2, 4, 3])
SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [1.0, 1.25, 1.5])
HEADS = {
    "normface": lambda: MarginSoftmaxHead(5, scale=20.0),
    "learnable": lambda: MarginSoftmaxHead(5, AdditiveCosine(0.2), scale=LearnableScale(15.0)),
    "none": lambda: MarginSoftmaxHead(5, AdditiveCosine(0.2), feature_norm="none"),
    "soft": lambda: MarginSoftmaxHead(5, AdditiveCosine(0.2), scale=3.0, feature_norm="soft", norm_weight=0.1),
    "scheduled": lambda: MarginSoftmaxHead(5, MultiplicativeAngular(1.5, variant="v2"), margin_schedule=SCHEDULE),
    "contrastive": lambda: AgentContrastiveHead(5, negative_margin=2.5),
    "triplet": lambda: AgentTripletHead(5, positive_pull=True, hardest_negative_only=True),
}


def data(seed=0, samples=6, classes=5, dim=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, dim)), rng.normal(size=(classes, dim))


def built(head, agents):
    head.build((None, agents.shape[1]))
    head.kernel.assign(agents)
    return head


def margin_losses(x, agents, rho, m=0.2):
    matrix = oracle.margin_matrix("additive_cosine", oracle.cosine_matrix(x, agents), IDS, m=m)
    return oracle.softmax_losses(rho(x) * matrix, IDS)


def norms(x):
    return np.sqrt((np.asarray(x) ** 2).sum(axis=1, keepdims=True) + 1e-12)


ORACLES = {
    "normface": lambda x, w: oracle.softmax_losses(20.0 * oracle.cosine_matrix(x, w), IDS),
    "learnable": lambda x, w: margin_losses(x, w, lambda x: 15.0),
    "none": lambda x, w: margin_losses(x, w, norms),
    "soft": lambda x, w: margin_losses(x, w, norms) + 0.1 * np.abs(norms(x)[:, 0] - 3.0),
    "contrastive": lambda x, w: oracle.agent_contrastive_losses(oracle.cosine_matrix(x, w), IDS, m_neg=2.5),
    "triplet": lambda x, w: oracle.agent_triplet_losses(oracle.cosine_matrix(x, w), IDS, hardest=True, pull=True),
}


@pytest.mark.parametrize("name", ORACLES)
def test_values_and_gradients_of_embeddings_and_agents(name):
    x, agents = data()
    head = built(HEADS[name](), agents)
    value, (slope,) = value_and_gradients(lambda e: head.loss(IDS, e), x)
    np.testing.assert_allclose(value, ORACLES[name](x, agents), rtol=1e-5, atol=1e-5)
    numeric, numeric_agents = central_differences(ORACLES[name], x, agents)
    np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-3)
    _, (slope_agents,) = value_and_gradients(lambda w: loss_with_agents(head, w, x), agents)
    np.testing.assert_allclose(slope_agents, numeric_agents, rtol=1e-3, atol=1e-3)


def loss_with_agents(head, agents, x):
    with keras.StatelessScope(state_mapping=[(head.kernel, agents)]):
        return head.loss(IDS, x.astype("float32"))


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        (MarginSoftmaxHead(5, scale=20.0), NormFaceLoss(scale=20.0)),
        (MarginSoftmaxHead(5, scale=20.0, label_smoothing=0.1), NormFaceLoss(scale=20.0, label_smoothing=0.1)),
        (MarginSoftmaxHead(5, AdditiveCosine(0.35)), AMSoftmaxLoss()),
        (MarginSoftmaxHead(5, AdditiveAngular(0.5), scale=64.0), ArcFaceLoss()),
        (AgentContrastiveHead(5), AgentContrastiveLoss()),
        (AgentTripletHead(5, gradient="caffe"), AgentTripletLoss(gradient="caffe")),
    ],
)
def test_head_and_loss_on_cosines_give_the_same_numbers(head, loss):
    x, agents = data()
    built(head, agents)
    layer = CosineDense(5)
    layer.build((None, 4))
    layer.set_weights([agents])
    one, (a,) = value_and_gradients(lambda e: head.loss(IDS, e), x)
    other, (b,) = value_and_gradients(lambda e: loss.call(IDS, layer(e)), x)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(a, b)


def test_the_three_norms_agree_where_they_must():
    # at ‖x‖ = s, with λ/s on the hard and the soft one: CE parts equal, tangential gradients equal, radial ones not
    s, weight = 3.0, 50.0 / 3.0
    x, agents = data()
    x = s * oracle.unit(x)
    results = {}
    for norm, loss_weight in (("none", 1.0), ("hard", weight), ("soft", weight)):
        head = MarginSoftmaxHead(5, MultiplicativeAngular(1.4, variant="v2"), s, norm, loss_weight, norm_weight=0.0)
        built(head, agents)
        value, (gradient,) = value_and_gradients(lambda e, h=head: h.loss(IDS, e), x)
        radial = (gradient * oracle.unit(x)).sum(axis=1, keepdims=True) * oracle.unit(x)
        results[norm] = value / loss_weight, (gradient - radial) / loss_weight, radial
    for norm in ("hard", "soft"):
        np.testing.assert_allclose(results[norm][0], results["none"][0], rtol=1e-5)
        np.testing.assert_allclose(results[norm][1], results["none"][1], rtol=1e-4, atol=1e-5)
    assert np.abs(results["hard"][2]).max() < 1e-4
    assert np.abs(results["none"][2]).max() > 1e-2


@pytest.mark.parametrize("name", HEADS)
def test_generic(name, tmp_path):
    check_layer(HEADS[name], (4,), tmp_path)


@pytest.mark.parametrize("name", HEADS)
def test_statistics_labels_halves_and_xla(name):
    x, agents = data()
    x = x.astype("float32")
    head = built(HEADS[name](), agents)
    stats = head.statistics(IDS, x)
    cosines = oracle.cosine_matrix(x, agents)
    np.testing.assert_allclose(to_numpy(stats.target_cosine), cosines[np.arange(6), IDS], atol=1e-6)
    np.testing.assert_array_equal(to_numpy(stats.correct), cosines.argmax(axis=1) == IDS)
    losses = to_numpy(stats.loss)
    for labels in (IDS[:, None], IDS.astype("float32"), np.eye(5)[IDS]):
        np.testing.assert_allclose(to_numpy(head.loss(labels, x)), losses, rtol=1e-6)
    graph = in_graph(lambda y, e: head.loss(y, e), IDS, x, jit_compile=True)
    np.testing.assert_allclose(graph, losses, rtol=1e-5, atol=1e-5)
    half = keras.ops.cast(x, "bfloat16")
    assert keras.backend.standardize_dtype(head.loss(IDS, half).dtype) == "float32"
    bad = IDS.copy()
    bad[3] = 5
    with pytest.raises(ValueError, match=r"y_true\[3\]=5"):
        head.loss(bad, x)
    graph = in_graph(lambda y, e: head.loss(y, e), bad, x, jit_compile=True)
    assert np.isnan(graph).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("name", HEADS)
def test_zero_and_nan_embeddings_and_one_class(name):
    x, agents = data()
    head = built(HEADS[name](), agents)
    x[0], x[1] = 0.0, np.nan
    value, (gradient,) = value_and_gradients(lambda e: head.loss(IDS, e), x)
    assert np.isnan(value).tolist() == [False, True, False, False, False, False]
    assert np.isfinite(gradient[0]).all()
    config = {**HEADS[name]().get_config(), "units": 1}
    one = type(head).from_config(config)
    assert np.isfinite(to_numpy(one.loss(np.array([0]), np.ones((1, 4), dtype="float32")))).all()


def test_a_schedule_moves_in_training_only_and_is_saved(tmp_path):
    x, y = blobs()
    model = small_model([HEADS["scheduled"]()])
    model.compile("sgd", jit_compile=True)
    model.evaluate(x, y, verbose=0, batch_size=16)
    assert float(model.heads[0].step) == 0.0
    assert float(model.heads[0].current_margin) == 1.0
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    assert float(model.heads[0].step) == 4.0
    assert float(model.heads[0].current_margin) == 1.5
    model.save(tmp_path / "model.keras")
    assert float(keras.models.load_model(tmp_path / "model.keras").heads[0].step) == 4.0


def test_am_softmax_ramp_of_the_authors_code():
    # m = min(0.4, 5e-5 · iteration) is Keras's own linear schedule: 0 to 0.4 in 8 000 steps
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 8000, 0.4)
    head = MarginSoftmaxHead(5, AdditiveCosine(0.4), feature_norm="none", margin_schedule=ramp)
    head.build((None, 4))
    for step, margin in ((0, 0.0), (2000, 0.1), (8000, 0.4), (20_000, 0.4)):
        head.step.assign(step)
        assert float(head.current_margin) == pytest.approx(margin, abs=1e-7)


def blobs(classes=5, each=13, dim=6):
    rng = np.random.default_rng(0)
    x = np.repeat(3 * np.eye(dim)[:classes], each, axis=0) + 0.3 * rng.normal(size=(classes * each, dim))
    return x.astype("float32")[:64], np.repeat(np.arange(classes), each)[:64]


def small_model(heads, weights=None):
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(4)])
    return EmbeddingModel(backbone, heads, head_weights=weights)


LEARNERS = {**HEADS, "contrastive": lambda: AgentContrastiveHead(5), "triplet": lambda: AgentTripletHead(5)}


@pytest.mark.parametrize(("name", "policy"), [*((n, "float32") for n in LEARNERS), ("none", "mixed_bfloat16")])
def test_every_head_learns_a_separable_problem(name, policy):
    x, y = blobs()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_model([LEARNERS[name]()])
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(0.02), jit_compile=COMPILED)
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    model.fit(np.tile(x, (40, 1)), np.tile(y, 40), batch_size=16, verbose=0)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(after) == {"loss", "accuracy", "target_angle_degrees"}
    assert after["accuracy"] == 1.0
    assert after["target_angle_degrees"] < before["target_angle_degrees"]
    assert model.predict(x, verbose=0).shape == (64, 4)


def test_joint_heads_have_their_own_agents_and_their_weights():
    x, y = blobs()
    model = small_model([HEADS["normface"](), HEADS["contrastive"]()], [1.0, 0.01])
    model.build((None, 6))
    model.compile("sgd")
    one, other = model.heads
    assert one.kernel is not other.kernel
    embeddings = model.predict(x, verbose=0)
    expected = np.mean(to_numpy(one.loss(y, embeddings)) + 0.01 * to_numpy(other.loss(y, embeddings)))
    assert model.evaluate(x, y, batch_size=64, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-5)


def test_sample_and_class_weights_and_regularizers():
    x, y = blobs()
    head = MarginSoftmaxHead(5, scale=20.0, kernel_regularizer=keras.regularizers.L2(0.1))
    model = small_model([head])
    model.build((None, 6))
    model.compile(keras.optimizers.SGD(0.0))
    losses = to_numpy(head.loss(y, model.predict(x, verbose=0)))
    decay = 0.1 * float(np.square(to_numpy(head.kernel.value)).sum())
    weights = np.linspace(0, 2, 64).astype("float32")
    weighted = model.evaluate(x, y, sample_weight=weights, batch_size=64, verbose=0, return_dict=True)["loss"]
    assert weighted == pytest.approx(np.mean(losses * weights) + decay, rel=1e-5)
    by_class = {k: 0.5 + k for k in range(5)}
    history = model.fit(x, y, class_weight=by_class, batch_size=64, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.mean(losses * (0.5 + y)) + decay, rel=1e-5)


def test_saving_and_exporting_the_product(tmp_path):
    x, y = blobs()
    model = small_model([HEADS["learnable"](), HEADS["triplet"]()], [1.0, 0.1])
    model.compile("adam")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_array_equal(to_numpy(again.heads[0].kernel.value), to_numpy(model.heads[0].kernel.value))
    again.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = small_model([HEADS["learnable"](), HEADS["triplet"]()], [1.0, 0.1])
    fresh.build((None, 6))
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.predict(x, verbose=0), model.predict(x, verbose=0))
    units = embedding_model(model).predict(x, verbose=0)
    np.testing.assert_allclose(units, oracle.unit(model.predict(x, verbose=0)), atol=1e-6)


def test_arcface_exact_hurts_at_small_angles_and_detached_does_not():
    """The reason for the default: at small angles the exact gradient grows without limit, the detached one stays."""
    x = np.array([[1.0, 0.002]])
    agents = np.array([[1.0, 0.0], [0.9, np.sqrt(1 - 0.81)]])
    size = {}
    for gradient in ("exact", "detached"):
        head = MarginSoftmaxHead(2, AdditiveAngular(0.5, gradient=gradient), scale=20.0)
        built(head, agents)
        _, (slope,) = value_and_gradients(lambda e, h=head: h.loss(np.array([0]), e), x)
        size[gradient] = np.linalg.norm(slope)
    assert size["exact"] > 1.5 * size["detached"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MarginSoftmaxHead(0), ValueError, "`units`"),
        (lambda: MarginSoftmaxHead(3, scale=0.0), ValueError, "`scale`.*Received: scale=0.0"),
        (lambda: MarginSoftmaxHead(3, scale=float("inf")), ValueError, "`scale`.*Received: scale=inf"),
        (lambda: MarginSoftmaxHead(3, scale="30"), ValueError, "`scale`.*Received: scale='30'"),
        (lambda: MarginSoftmaxHead(3, scale=True), ValueError, "`scale`.*Received: scale=True"),
        (lambda: MarginSoftmaxHead(3, feature_norm="l2"), ValueError, "`feature_norm`"),
        (lambda: MarginSoftmaxHead(3, loss_weight=0), ValueError, "`loss_weight`"),
        (lambda: MarginSoftmaxHead(3, label_smoothing=1), ValueError, "`label_smoothing`"),
        (lambda: MarginSoftmaxHead(3).build((None, None)), ValueError, "dimension"),
        (lambda: small_model([]), ValueError, "`heads`"),
        (lambda: small_model([HEADS["normface"]()], [1.0, 2.0]), ValueError, "`head_weights`"),
        (lambda: small_model([HEADS["normface"]()]).compile("sgd", loss="mse"), TypeError, "`loss` must be None"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("fused", ["auto", "buffer", "stream", False])
def test_how_a_batch_is_computed_where_nothing_is_split(fused):
    head = MarginSoftmaxHead(8192, AdditiveCosine(0.2), fused=fused)
    assert head.mode_for(4) == ("buffer" if fused == "auto" else fused)
    head.build((None, 2))
    assert head.mode_for(None) == ("buffer" if fused == "auto" else fused)
    assert head.mode_for(100_000) == ("stream" if fused == "auto" else fused)


# JAX has float64 only if it is asked for it at the start.
OTHER_FLOAT = "float64" if keras.backend.backend() == "tensorflow" else "float32"


def test_a_scale_from_numpy_does_not_decide_the_type_of_the_loss():
    x, y = np.eye(6, 4, dtype="float32"), np.arange(6) % 5
    scale = np.sqrt(2) * np.log(4.0)
    for head in (MarginSoftmaxHead(5, scale=scale), SoftmaxHead(5, scale=scale)):
        assert keras.backend.standardize_dtype(head.statistics(y, x).loss.dtype) == "float32"
    model = small_model([MarginSoftmaxHead(5, scale=scale), AgentContrastiveHead(5, dtype=OTHER_FLOAT)])
    model.compile("sgd", jit_compile=False)
    x, y = blobs()
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
