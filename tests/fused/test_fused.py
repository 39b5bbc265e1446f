"""The fused head: the float64 oracle, the plain head, both modes, edges, labels, graphs, training."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface import EmbeddingModel, LearnableScale, MarginSoftmaxHead
from keras_normface import sphere as sphere
from keras_normface.fused import choose_mode, fused_margin_softmax, supports
from keras_normface.losses import margin_cosines, softmax_loss
from keras_normface.margins import (
    AdditiveAngular,
    AdditiveCosine,
    CombinedMargin,
    Margin,
    MultiplicativeAngular,
    NoMargin,
)
from tests.support import oracle
from tests.support.helpers import COMPILED, central_differences, in_graph, random_units, to_numpy, value_and_gradients

IDS = np.array([0, 10, 4, 4, 8, 4], dtype="int32")
MODES = ("stream", "buffer")


def data(seed=0, classes=11, dim=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, dim)), rng.normal(size=(classes, dim)), rng.uniform(5.0, 20.0, size=6)


def fused(margin, mode, **options):
    return lambda x, w, rho: fused_margin_softmax(x, w, IDS, margin, rho, mode=mode, **options).loss


def plain(margin, label_smoothing=0.0):
    def losses(x, w, rho):
        logits = ops.expand_dims(rho, -1) * margin_cosines(sphere.cosines(x, w), IDS, margin)
        return softmax_loss(logits, IDS, label_smoothing=label_smoothing)

    return losses


ORACLES = {
    "none": (NoMargin(), {"m": 0.0}),
    "additive_cosine": (AdditiveCosine(0.35), {"m": 0.35}),
    "additive_angular": (AdditiveAngular(0.5, gradient="exact"), {"m": 0.5}),
    "v0": (MultiplicativeAngular(2.0, variant="v0", gradient="exact"), {"m": 2.0}),
    "v2": (MultiplicativeAngular(1.5, variant="v2", gradient="exact"), {"m": 1.5}),
    "combined": (CombinedMargin(m1=1.1, m2=0.2, m3=0.1, gradient="exact"), {"m": 1.1, "m2": 0.2, "m3": 0.1}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ORACLES)
def test_losses_and_all_gradients_are_the_oracles(name, mode):
    margin, numbers = ORACLES[name]
    smoothing = 0.1 if mode == "stream" else 0.0

    def truth(x, w, rho):
        matrix = oracle.margin_matrix(name, oracle.cosine_matrix(x, w), IDS, **numbers)
        return oracle.softmax_losses(np.asarray(rho)[:, None] * matrix, IDS, smoothing)

    arrays = data()
    value, gradients = value_and_gradients(fused(margin, mode, block=4, label_smoothing=smoothing), *arrays)
    np.testing.assert_allclose(value, truth(*arrays), rtol=1e-5, atol=1e-5)
    for ours, numeric in zip(gradients, central_differences(truth, *arrays), strict=True):
        np.testing.assert_allclose(ours, numeric, rtol=1e-3, atol=1e-3)


DETACHED = [AdditiveAngular(0.5), MultiplicativeAngular(1.5, variant="v2"), AdditiveCosine(0.3, only_above_margin=True)]


@pytest.mark.parametrize("margin", DETACHED, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(("mode", "smoothing"), [("stream", 0.0), ("buffer", 0.1)])
def test_detached_gradients_are_the_plain_ones(margin, mode, smoothing):
    arrays = data(1)
    one, slopes = value_and_gradients(fused(margin, mode, block=3, label_smoothing=smoothing), *arrays)
    other, plain_slopes = value_and_gradients(plain(margin, smoothing), *arrays)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(slopes, plain_slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("scale", [20.0, 60.0], ids=["below the fixed shift's bound", "above it"])
@pytest.mark.parametrize("mode", MODES)
def test_log_weights_move_the_other_classes_or_leave_them_out(mode, scale):
    x, agents, _ = data(2)
    weights = np.array([0.0, 2.0, -1e30, 1.0, 0.5, 3.0, -1.0, -1e30, 2.0, 0.0, 1.5])
    counted = [j for j in range(11) if weights[j] > -1e30]
    ids = np.array([0, 10, 4, 4, 8, 9], dtype="int32")

    def truth(x, agents):
        losses = []
        for cosines, own in zip(oracle.cosine_matrix(x, agents), ids, strict=True):
            others = sum(np.exp(scale * cosines[j] + weights[j]) for j in counted if j != own)
            target = np.exp(scale * (cosines[own] - 0.2))
            losses.append(-np.log(target / (target + others)))
        return np.array(losses)

    def ours(x, agents):
        options = {"class_log_weights": weights, "mode": mode, "block": 4}
        return fused_margin_softmax(x, agents, ids, AdditiveCosine(0.2), scale, **options).loss

    value, gradients = value_and_gradients(ours, x, agents)
    np.testing.assert_allclose(value, truth(x, agents), rtol=1e-5, atol=1e-5)
    for ours_gradient, numeric in zip(gradients, central_differences(truth, x, agents), strict=True):
        np.testing.assert_allclose(ours_gradient, numeric, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(gradients[1][[2, 7]], 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_negative_log_weights_do_not_underflow_at_opposite_agents(mode):
    x, agents = np.array([[1.0, 0.0]], "float32"), np.array([[-1.0, 0.0], [-2.0, 0.0]], "float32")
    ids, weights = np.zeros(1, "int32"), np.array([0.0, -20.0])
    terms = fused_margin_softmax(x, agents, ids, NoMargin(), 43.0, class_log_weights=weights, mode=mode)
    np.testing.assert_allclose(to_numpy(terms.loss), [np.log1p(np.exp(-20.0))], rtol=1e-5)  # exp(−43 − 20 − 43) is 0


@settings(deadline=None, max_examples=3)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 99))
def test_blocks_of_any_size_give_the_same(classes, block, seed):
    x, agents, rho = data(seed, classes)
    ids = np.random.default_rng(seed).integers(0, classes, 6).astype("int32")
    results = []
    for options in ({"mode": "stream", "block": block}, {"mode": "buffer"}):
        loss = lambda x, w, rho, o=options: fused_margin_softmax(x, w, ids, AdditiveCosine(0.2), rho, **o).loss  # noqa: E731
        results.append(value_and_gradients(loss, x, agents, rho))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=3e-5)


def fixed(mode, scale, ids, block=64):
    return lambda x, w: fused_margin_softmax(x, w, ids, NoMargin(), scale, mode=mode, block=block).loss


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1.0, 43.0, 128.0])
def test_no_scale_underflows_or_overflows(mode, scale):
    rng = np.random.default_rng(0)
    x, agents = rng.normal(size=(6, 64)), rng.normal(size=(200, 64))
    value, gradients = value_and_gradients(fixed(mode, scale, IDS), x, agents)
    truth = oracle.softmax_losses(scale * oracle.cosine_matrix(x, agents), IDS)
    np.testing.assert_allclose(value, truth, rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradients[0]).all()
    assert np.isfinite(gradients[1]).all()


@pytest.mark.parametrize("mode", MODES)
def test_zero_vectors_and_cosines_of_one_and_minus_one(mode):
    agents = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    x = np.array([[3.0, 0.0], [0.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    ids = np.array([0, 1, 1, 2], dtype="int32")  # cos = 1, 0, −1, and an agent that is zero
    value, gradients = value_and_gradients(fixed(mode, 64.0, ids), x, agents)
    expected = [np.exp(-64.0) * 2, np.log(4.0), 128.0, 64.0]
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(gradients[0]).all()
    assert np.isfinite(gradients[1]).all()
    far, _ = value_and_gradients(fixed(mode, 64.0, np.zeros(1, "int32")), -agents[:1], agents[:1])
    assert far.tolist() == [0.0]  # one class: nothing to be wrong about


@pytest.mark.parametrize("mode", MODES)
def test_long_embeddings_without_feature_norm(mode):
    rng = np.random.default_rng(3)
    x, agents = 300.0 * random_units(rng, 6, 8), rng.normal(size=(11, 8))
    head = MarginSoftmaxHead(11, AdditiveCosine(0.2), feature_norm="none", fused=mode)
    head.build((None, 8))
    head.kernel.assign(agents)
    value, (gradient,) = value_and_gradients(lambda e: head.loss(IDS, e), x)
    matrix = oracle.margin_matrix("additive_cosine", oracle.cosine_matrix(x, agents), IDS, m=0.2)
    np.testing.assert_allclose(value, oracle.softmax_losses(300.0 * matrix, IDS), rtol=1e-5, atol=1e-3)
    assert np.isfinite(gradient).all()


SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [1.0, 1.25, 1.5])
HEADS = {
    "learnable": lambda fused: MarginSoftmaxHead(11, AdditiveCosine(0.2), LearnableScale(15.0), fused=fused),
    "soft": lambda fused: MarginSoftmaxHead(11, scale=3.0, feature_norm="soft", loss_weight=2.0, fused=fused),
    "scheduled": lambda fused: MarginSoftmaxHead(
        11, MultiplicativeAngular(1.5, variant="v2"), margin_schedule=SCHEDULE, fused=fused
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", HEADS)
def test_heads_in_every_form_are_the_plain_head(name, mode):
    x, agents, _ = data(5)
    x = x.astype("float32")
    heads = []
    for fused_mode in (False, mode):
        head = HEADS[name](fused_mode)
        head.build((None, 4))
        head.kernel.assign(agents)
        heads.append(head)
    one, other = (head.statistics(IDS, x) for head in heads)
    for expected, received in zip(one, other, strict=True):
        np.testing.assert_allclose(to_numpy(received), to_numpy(expected), rtol=1e-5, atol=1e-5)
    losses = to_numpy(one.loss)
    bad = IDS.copy()
    bad[2] = 11
    for compiled in (False, True):
        graph = in_graph(lambda y, e: heads[1].loss(y, e), bad, x, jit_compile=compiled)
        assert np.isnan(graph).tolist() == [False, False, True, False, False, False]
        np.testing.assert_allclose(np.delete(graph, 2), np.delete(losses, 2), rtol=1e-5, atol=1e-5)
    half = ops.cast(x, "bfloat16")
    expected, received = (to_numpy(head.loss(IDS, half)) for head in heads)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"y_true\[2\]=11"):
        heads[1].loss(bad, x)
    config = heads[1].get_config()
    assert config["fused"] == mode
    assert MarginSoftmaxHead.from_config(config).get_config() == config


def test_fifty_steps_track_the_plain_head():
    plain_losses, *others = (losses_of_training(fused_mode) for fused_mode in (False, *MODES))
    assert len(plain_losses) == 50
    assert plain_losses[-1] < 0.5 * plain_losses[0]
    for losses in others:
        np.testing.assert_allclose(losses, plain_losses, rtol=2e-4, atol=2e-4)


def losses_of_training(fused_mode, steps=50):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 11, 32 * steps)
    x = (3 * np.eye(11)[y] + 0.3 * rng.normal(size=(len(y), 11))).astype("float32")
    backbone = keras.Sequential([keras.Input((11,)), keras.layers.Dense(4)])
    model = EmbeddingModel(backbone, MarginSoftmaxHead(11, AdditiveCosine(0.2), LearnableScale(10.0), fused=fused_mode))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=COMPILED)
    losses = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0, callbacks=[record])
    return losses


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_products_round_the_gradients_and_not_the_loss(mode):
    arrays = data(6, classes=40, dim=16)
    exact, slopes = value_and_gradients(fused(AdditiveCosine(0.2), mode), *arrays)
    value, rounded = value_and_gradients(fused(AdditiveCosine(0.2), mode, half_gradients=True), *arrays)
    np.testing.assert_array_equal(value, exact)
    for ours, truth in zip(rounded[:2], slopes[:2], strict=True):
        error = np.abs(ours - truth).max() / np.abs(truth).max()
        assert 0.0 < error < 0.01


class Curved(Margin):
    """A margin with an η of its own, and nothing that says how it is differentiated."""

    changes_others = True

    def __init__(self):
        super().__init__(1.0, "exact")

    def _eta(self, cosine, value):
        return 0.5 * (cosine + ops.square(cosine))


def test_what_cannot_be_fused_is_not():
    assert not supports(Curved())
    assert supports(AdditiveCosine(0.2))
    head = MarginSoftmaxHead(9000, Curved())
    x = np.ones((2, 3), dtype="float32")
    plain_head = MarginSoftmaxHead(9000, Curved(), fused=False)
    head.build((None, 3))
    plain_head.build((None, 3))
    plain_head.kernel.assign(head.kernel)
    ids = np.array([0, 1])
    np.testing.assert_array_equal(to_numpy(head.loss(ids, x)), to_numpy(plain_head.loss(ids, x)))
    with pytest.raises(NotImplementedError, match="non_target_slope"):
        Curved().non_target_slope(ops.zeros(1))


@pytest.mark.parametrize(
    ("batch", "classes", "mode"),
    [
        (256, 8191, False),
        (256, 8192, "buffer"),
        (256, 2**18, "buffer"),
        (257, 2**18, "stream"),
        (None, 2**20, "stream"),
    ],
)
def test_the_mode_follows_the_memory(batch, classes, mode):
    assert choose_mode(batch, classes) == mode


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarginSoftmaxHead(3, fused="all"), "`fused`.*Received: fused='all'"),
        (lambda: MarginSoftmaxHead(3, fused=True), "`fused`"),
        (lambda: MarginSoftmaxHead(3, Curved(), fused="stream"), "`margin`"),
        (lambda: fused(Curved(), "stream")(*data()), "`margin`"),
        (lambda: fused(NoMargin(), "auto")(*data()), "`mode`"),
        (lambda: fused(NoMargin(), "stream", block=0)(*data()), "`block`"),
        (
            lambda: fused(NoMargin(), "stream", label_smoothing=0.1, class_log_weights=np.zeros(11))(*data()),
            "`label_sm",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
