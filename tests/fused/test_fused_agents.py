"""The fused C-contrastive and C-triplet heads: the float64 oracle, the plain heads, options, edges, training."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface import (
    AgentContrastiveHead,
    AgentContrastiveLoss,
    AgentTripletHead,
    AgentTripletLoss,
    EmbeddingModel,
)
from keras_normface import sphere as sphere
from keras_normface.fused import fused_agent_contrastive, fused_agent_triplet
from keras_normface.fused._agents import PushRule, PushUpstream
from keras_normface.fused._streaming import Known
from keras_normface.heads import _sharding as sharding
from tests.support import oracle
from tests.support.helpers import COMPILED, central_differences, in_graph, to_numpy, value_and_gradients

IDS = np.array([0, 10, 4, 4, 8, 4], dtype="int32")
MODES = ("stream", "buffer")
CONTRASTIVE = fused_agent_contrastive, AgentContrastiveLoss
TRIPLET = fused_agent_triplet, AgentTripletLoss
FORMS = {
    "contrastive": (CONTRASTIVE, {}),
    "contrastive with numbers": (
        CONTRASTIVE,
        {
            "positive_margin": 0.6,
            "negative_margin": 2.2,
            "positive_weight": 0.7,
            "negative_weight": 0.3,
            "positive_cap": 1.4,
        },
    ),
    "center": (CONTRASTIVE, {"negative_margin": 0.0}),
    "hardest": (CONTRASTIVE, {"hardest_negative_only": True, "negative_weight": 0.5}),
    "exponential": (CONTRASTIVE, {"exponential_negatives": True, "negative_margin": 1.8}),
    "hardest exponential": (CONTRASTIVE, {"exponential_negatives": True, "hardest_negative_only": True}),
    "triplet": (TRIPLET, {}),
    "triplet pull": (TRIPLET, {"margin": 0.3, "positive_pull": True}),
    "triplet hardest": (TRIPLET, {"margin": 0.1, "hardest_negative_only": True, "positive_pull": True}),
    "caffe": (TRIPLET, {"gradient": "caffe"}),
    "caffe pull": (TRIPLET, {"gradient": "caffe", "positive_pull": True, "margin": 0.0}),
    "caffe hardest": (TRIPLET, {"gradient": "caffe", "hardest_negative_only": True}),
}
BY_TURNS = list(zip(FORMS, reversed(MODES * 6), strict=True))
ORACLE_NAMES = {
    "positive_margin": "m_pos",
    "negative_margin": "m_neg",
    "positive_weight": "w_pos",
    "negative_weight": "w_neg",
    "positive_cap": "cap",
    "hardest_negative_only": "hardest",
    "exponential_negatives": "exponential",
    "positive_pull": "pull",
    "margin": "margin",
}


def data(seed=0, classes=11, dim=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, dim)), rng.normal(size=(classes, dim))


def fused(name, mode="stream", ids=IDS, block=4):
    (function, _), options = FORMS[name]
    return lambda x, w: function(x, w, ids, mode=mode, block=block, **options).loss


def plain(name, ids=IDS):
    (_, loss), options = FORMS[name]
    loss = loss(**options, reduction=None)
    return lambda x, w: loss.loss_of_ids(ops.convert_to_tensor(ids), sphere.cosines(x, w))


def truth(name):
    (function, _), options = FORMS[name]
    oracle_of = {
        fused_agent_contrastive: oracle.agent_contrastive_losses,
        fused_agent_triplet: oracle.agent_triplet_losses,
    }
    options = {ORACLE_NAMES[option]: number for option, number in options.items()}
    return lambda x, w: oracle_of[function](oracle.cosine_matrix(x, w), IDS, **options)


def same(one, other, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, mode in BY_TURNS if "caffe" not in name])
def test_losses_and_all_gradients_are_the_oracles(name, mode):
    x, agents = data()
    ours = value_and_gradients(fused(name, mode), x, agents)
    same(ours, (truth(name)(x, agents), central_differences(truth(name), x, agents)), rtol=1e-3, atol=1e-3)
    radial = (ours[1][1] * agents).sum(axis=1)
    np.testing.assert_allclose(radial, 0.0, atol=2e-5)


@pytest.mark.parametrize(("mode", "name"), list(zip(MODES * 6, FORMS, strict=True)))
def test_losses_and_all_gradients_are_the_plain_ones(name, mode):
    arrays = data(1)
    same(value_and_gradients(fused(name, mode), *arrays), value_and_gradients(plain(name), *arrays))


def test_each_push_and_pull_counts_once():
    # cosines 0.75 | 0.75, 0.5, −1: distances 0.5 | 0.5, 1, 4; unit vectors of the plane, so a slope is −2·sin
    angles = np.arccos([0.75, 0.75, 0.5, -1.0]) * [1, -1, 1, 1]
    agents = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x, ids = np.array([[1.0, 0.0]]), np.array([0], dtype="int32")
    sines = np.sin(angles)
    value, (slope, _) = value_and_gradients(
        lambda x, w: fused_agent_contrastive(x, w, ids, negative_margin=1.25, block=3).loss, x, agents
    )
    np.testing.assert_allclose(value, [0.5 + 0.75 + 0.25], rtol=1e-6)
    np.testing.assert_allclose(slope, [[0.0, 2 * (-sines[0] + sines[1] + sines[2])]], 1e-5, 1e-6)
    value, (slope, _) = value_and_gradients(
        lambda x, w: fused_agent_triplet(x, w, ids, margin=0.75, block=3).loss, x, agents
    )
    np.testing.assert_allclose(value, [0.75 + 0.25], rtol=1e-6)
    np.testing.assert_allclose(slope, [[0.0, 2 * (-2 * sines[0] + sines[1] + sines[2])]], 1e-5, 1e-6)


@settings(deadline=None, max_examples=3)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 99), st.sampled_from(["hardest", "triplet"]))
def test_blocks_of_any_size_give_the_same(classes, block, seed, name):
    arrays = data(seed, classes)
    ids = np.random.default_rng(seed).integers(0, classes, 6).astype("int32")
    expected = value_and_gradients(plain(name, ids), *arrays)
    same(value_and_gradients(fused(name, "stream", ids, block), *arrays), expected, atol=3e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["contrastive with numbers", "hardest", "caffe", "triplet hardest", "triplet pull"])
def test_one_class_has_no_negatives(name, mode):
    x, agents = data(2, classes=1)
    ids = np.zeros(6, dtype="int32")
    ours = value_and_gradients(fused(name, mode, ids), x, agents)
    same(ours, value_and_gradients(plain(name, ids), x, agents))
    assert np.isfinite(ours[0]).all()


@pytest.mark.parametrize("exponential", [False, True])
def test_at_the_margin_slopes_are_those_of_the_plain_loss(exponential):
    cosines = np.array([[1.0, 0.5, 0.25, 0.0, -1.0]])  # distances 0, 1, 1.5, 2, 4: the second is at the margin
    loss = AgentContrastiveLoss(negative_margin=1.0, exponential_negatives=exponential, reduction=None)
    value, (slope,) = value_and_gradients(lambda c: loss.loss_of_ids(np.array([2]), c), cosines)
    column = ops.cast(cosines.T, "float32")
    own, reach = np.arange(5)[:, None] == 2, ops.ones(1)
    rule, known = PushRule(exponential=exponential), Known(ops.zeros(1, dtype="int32") + 2, reach)
    sums = rule.add(rule.start(reach), column, np.logical_not(own), known)
    assert [float(number[0]) for number in sums] == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(value, [1.0 + 1.5])
    upstream = PushUpstream(ops.ones(1), -2.0 * ops.ones(1))
    ours, _ = rule.slopes(column, own, known, upstream)
    np.testing.assert_allclose(to_numpy(ours).T, slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "mode"), [("triplet hardest", "stream"), ("contrastive", "stream"), ("caffe", "buffer")]
)
def test_cosines_of_one_and_minus_one(name, mode):
    axes = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x, ids = axes[[0, 0, 0, 1]], np.array([0, 1, 2, 0], dtype="int32")
    same(value_and_gradients(fused(name, mode, ids, 3), x, axes), value_and_gradients(plain(name, ids), x, axes))


@pytest.mark.parametrize("mode", MODES)
def test_of_equally_near_agents_the_first_pushes(mode):
    agents = np.array([[-1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0]])

    def loss(x, w):
        ids = np.zeros(1, dtype="int32")
        return fused_agent_triplet(x, w, ids, hardest_negative_only=True, mode=mode, block=2).loss

    value, (_, slope) = value_and_gradients(loss, np.array([[1.0, 0.0]]), agents)
    np.testing.assert_allclose(value, [0.8 + 4.0 - 2.0], rtol=1e-6)
    np.testing.assert_allclose(slope, [[0, 0], [2, 0], [0, 0], [0, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("name", ["contrastive with numbers", "triplet", "triplet hardest"])
def test_zero_vectors_are_those_of_the_plain_loss_and_nan_is_seen(name):
    x, agents = data(3)
    x[1], agents[4] = 0.0, 0.0
    for mode in MODES:
        ours = value_and_gradients(fused(name, mode), x, agents)
        theirs = value_and_gradients(plain(name), x, agents)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
        assert np.isfinite(ours[1][0]).all()
        assert np.isfinite(ours[1][1]).all()
        if "hardest" not in name:  # all are equally near to a zero vector
            np.testing.assert_allclose(ours[1][0], theirs[1][0], rtol=1e-3, atol=1.0)
        bad = x.copy()
        bad[2] = np.nan
        nan = np.isnan(value_and_gradients(fused(name, mode), bad, agents)[0])
        assert nan.tolist() == [False, False, True, False, False, False]
        bad = agents.copy()
        bad[9] = np.nan  # nobody's own
        assert np.isnan(value_and_gradients(fused(name, mode), x, bad)[0]).all()


HEADS = {
    "contrastive": lambda **options: AgentContrastiveHead(11, negative_margin=1.7, **options),
    "triplet": lambda **options: AgentTripletHead(11, positive_pull=True, **options),
    "hardest": lambda **options: AgentTripletHead(11, hardest_negative_only=True, gradient="caffe", **options),
}


HEADS_AND_MODES = [("contrastive", "stream"), ("triplet", "buffer"), ("hardest", "stream")]


@pytest.mark.parametrize(("name", "mode"), HEADS_AND_MODES)
def test_heads_in_every_form_are_the_plain_head(name, mode):
    x, agents = data(5)
    x = x.astype("float32")
    heads = []
    for fused_mode in (False, mode):
        head = HEADS[name](fused=fused_mode)
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
    config = heads[1].get_config()
    assert config["fused"] == mode
    assert type(head).from_config(config).get_config() == config


@pytest.mark.parametrize(("name", "mode"), [("contrastive", "stream"), ("hardest", "buffer")])
def test_trainings_track_the_plain_head(name, mode):
    plain_losses, losses = (losses_of_training(name, fused_mode) for fused_mode in (False, mode))
    assert len(plain_losses) == 20
    assert plain_losses[-1] < 0.7 * plain_losses[0]
    np.testing.assert_allclose(losses, plain_losses, rtol=2e-4, atol=2e-4)


def losses_of_training(name, fused_mode, steps=20):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 11, 32 * steps)
    x = (3 * np.eye(11)[y] + 0.3 * rng.normal(size=(len(y), 11))).astype("float32")
    backbone = keras.Sequential([keras.Input((11,)), keras.layers.Dense(4)])
    model = EmbeddingModel(backbone, HEADS[name](fused=fused_mode))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=COMPILED)
    losses = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0, callbacks=[record])
    return losses


def test_the_mode_follows_the_memory():
    for head in (AgentContrastiveHead, AgentTripletHead):
        assert [head(units).mode_for(256) for units in (8191, 8192, 2**20)] == [False, "buffer", "stream"]
        assert [head(2**20, fused=mode).mode_for(None) for mode in (False, "buffer")] == [False, "buffer"]


@pytest.mark.parametrize("hardest", [False, True])
def test_of_classes_on_several_devices_none_are_streamed(monkeypatch, hardest):
    def mode_of(fused_mode):
        head = AgentTripletHead(2**20, fused=fused_mode, hardest_negative_only=hardest)
        head.build((None, 1))
        return head.mode_for(256)

    assert mode_of("auto") == "stream"
    monkeypatch.setattr(sharding, "class_shards", lambda kernel: 8)
    assert [mode_of("auto"), mode_of("buffer")] == ["buffer", "buffer"]
    with pytest.raises(ValueError, match=r"split over devices.*fused='stream'"):
        mode_of("stream")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AgentContrastiveHead(3, fused="all"), "`fused`.*Received: fused='all'"),
        (lambda: AgentTripletHead(3, fused=True), "`fused`"),
        (lambda: fused("contrastive", "auto")(*data()), "`mode`"),
        (lambda: fused("triplet", block=0)(*data()), "`block`"),
        (lambda: fused_agent_triplet(*data(), IDS, gradient="torch"), "`gradient`"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
