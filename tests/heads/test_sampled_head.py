"""Sampled agents, the mathematics: what is drawn, that it stands for all, loss and gradients, the update."""

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface import EmbeddingModel, LearnableScale, MarginSoftmaxHead, SampledMarginSoftmaxHead
from keras_normface.fused._compiled import compiled
from keras_normface.heads import _sampled as sampling
from keras_normface.heads._sampled import Sample, sample_classes
from keras_normface.margins import AdditiveCosine, MultiplicativeAngular
from tests.support import oracle
from tests.support.helpers import BACKEND, central_differences, to_numpy, value_and_gradients

LABELS = np.array([7, 7, 3, 19])


def drawn(labels, step, **options):
    return Sample(*map(to_numpy, sample_classes(keras.ops.array(labels), step, **options)))


def live(sample):
    """Slots that stand for their class."""
    return sample.log_weights > -1e29


SIZES = [(2, 2, 1), (7, 4, 3), (23, 22, 4), (60, 9, 4), (60, 60, 70)]  # few, since JAX compiles for each


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_sample_holds_the_batch_once_and_one_of_each_stratum(data):
    classes, size, batch = data.draw(st.sampled_from(SIZES))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch))
    step, seed = data.draw(st.integers(0, 2**24)), data.draw(st.integers(0, 2**31 - 1))
    sample = drawn(labels, step, classes=classes, size=size, seed=seed)
    assert sample.ids.shape == sample.log_weights.shape == (size,)
    assert ((sample.ids >= 0) & (sample.ids < classes)).all()
    kept = sample.ids[live(sample)]
    assert len(set(kept)) == len(kept)
    assert set(kept) == set(sample.ids)
    np.testing.assert_array_equal(sample.ids[sample.local_ids], labels)
    assert live(sample)[sample.local_ids].all()
    if size < classes:
        strata = size - len(labels)
        widths = [classes // strata + (k < classes % strata) for k in range(strata)]
        expected = np.concatenate([np.zeros(len(labels)), np.log(widths)])
        np.testing.assert_allclose(sample.log_weights[live(sample)], expected[live(sample)], rtol=1e-6)
        uncorrected = drawn(labels, step, classes=classes, size=size, seed=seed, corrected=False)
        np.testing.assert_array_equal(uncorrected.log_weights, np.where(live(sample), 0, np.float32(-1e30)))
    else:
        np.testing.assert_array_equal(sample.ids, np.arange(classes))
        assert not sample.log_weights.any()


def test_what_is_drawn_follows_from_seed_and_step_on_every_backend():
    options = {"classes": 20, "size": 9}
    known = [7, 7, 3, 19, 4, 6, 10, 12, 16]
    assert drawn([7, 7, 3], 0, **options).ids.tolist() == known
    traced = compiled(lambda labels, step: sample_classes(labels, step, **options))
    assert to_numpy(traced(keras.ops.array([7, 7, 3]), keras.ops.array(0.0)).ids).tolist() == known
    others = [drawn([7, 7, 3], step, seed=seed, **options).ids.tolist() for step, seed in ((1, 0), (2**24, 0), (0, 1))]
    assert known not in others
    assert len(set(map(tuple, others))) == 3
    assert drawn([7, 7, 3], 2**24, **options).ids.tolist() == others[1]


def test_every_class_is_drawn_as_often_as_its_weight_says():
    classes, size, steps = 23, 9, 3000
    draw = compiled(lambda step: sample_classes(keras.ops.array(LABELS), step, classes=classes, size=size, seed=3))
    often, weight = np.zeros(classes), np.zeros(classes)
    for step in range(steps):
        sample = Sample(*(keras.ops.convert_to_numpy(part) for part in draw(keras.ops.array(float(step)))))
        kept = live(sample)
        often[sample.ids[kept]] += 1
        weight[sample.ids[kept]] += np.exp(sample.log_weights[kept])
    of_batch = np.isin(np.arange(classes), LABELS)
    assert (often[of_batch] == steps).all()
    share = (size - len(LABELS)) / classes
    sigma = math.sqrt(share * (1 - share) / steps)
    assert np.abs(often[~of_batch] / steps - share).max() < 4 * sigma
    assert np.abs(weight / steps - 1).max() < 4 * sigma / share


@pytest.mark.parametrize("labels", [[4, 4], [1, 3], [0, 4]])
def test_over_all_draws_the_sum_is_that_of_all_classes(labels, monkeypatch):
    classes, strata = 5, 2  # of 3 and 2 classes
    logits = np.random.default_rng(0).normal(size=classes)
    sums = []
    for offset, *draws in itertools.product(range(classes), range(3), range(2)):
        bits = keras.ops.array([9, 9, *draws, offset], dtype="int32")
        monkeypatch.setattr(sampling, "random_bits", lambda seed, step, count, bits=bits: bits)
        sample = drawn(labels, 0, classes=classes, size=len(labels) + strata)
        kept = live(sample)
        terms = np.exp(logits[sample.ids] + sample.log_weights) * kept
        sums.append([terms[sample.ids != label].sum() for label in labels])
    whole = [np.exp(logits).sum() - np.exp(logits[label]) for label in labels]
    np.testing.assert_allclose(np.mean(sums, axis=0), whole, rtol=1e-6)


MARGINS = {"additive_cosine": AdditiveCosine(0.2), "v2": MultiplicativeAngular(1.5, variant="v2", gradient="exact")}
CASES = {
    "hard": ("additive_cosine", {"scale": 12.0}),
    "others too": ("v2", {"scale": 12.0}),
    "not corrected": ("additive_cosine", {"scale": 12.0, "corrected": False}),
    "large scale": ("additive_cosine", {"scale": 64.0}),
    "learnable": ("additive_cosine", {"scale": LearnableScale(9.0)}),
    "norm": ("additive_cosine", {"feature_norm": "none"}),
    "soft": ("additive_cosine", {"feature_norm": "soft", "scale": 3.0, "norm_weight": 0.1, "loss_weight": 2.0}),
}


def make(margin="additive_cosine", units=20, **options):
    head = SampledMarginSoftmaxHead(units, MARGINS[margin], sample_rate=0.45, minimum_sample=1, **options)
    head.build((None, 4))
    return head


def tensors(seed=0, units=20):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(LABELS), 4)), rng.normal(size=(units, 4))


def expected_losses(head, margin, sample, x, agents):
    """Sample by sample and class by class, in float64."""
    weights = {int(c): w for c, w, kept in zip(sample.ids, sample.log_weights, live(sample), strict=True) if kept}
    classes, losses = list(weights), []
    cosines = oracle.cosine_matrix(x, agents)
    scale = 9.0 if isinstance(head.scale, LearnableScale) else head.scale
    for row, label, embedding in zip(cosines, LABELS, x, strict=True):
        norm = math.sqrt((embedding**2).sum() + 1e-12)
        rho = scale if head.feature_norm == "hard" else norm
        logits = []
        for c in classes:
            theta = math.acos(min(1, max(-1, row[c])))
            m = head.margin.value
            own = c == label
            logits.append(rho * (oracle.psi if own else oracle.eta)(margin, theta, m) + (0 if own else weights[c]))
        loss = head.loss_weight * oracle.softmax_losses([logits], [classes.index(label)])[0]
        losses.append(loss + (head.norm_weight * abs(norm - scale) if head.feature_norm == "soft" else 0))
    return np.array(losses)


@pytest.mark.parametrize(
    ("name", "fused"),
    [(name, False) for name in CASES]
    + [(name, "buffer") for name in ("hard", "learnable", "large scale")]
    + [(name, "stream") for name in ("others too", "norm")],
)
def test_loss_and_gradients_of_a_sample(name, fused):
    margin, options = CASES[name]
    head = make(margin, fused=fused, **options)
    x, agents = tensors()
    sample = drawn(LABELS, 4, classes=20, size=9, corrected=head.corrected)
    slots = Sample(*map(keras.ops.convert_to_tensor, head.sample(keras.ops.array(LABELS), 4)))
    rows = agents[sample.ids]
    value, (by_x, by_rows) = value_and_gradients(lambda e, r: head.sampled_statistics(e, r, slots).loss, x, rows)
    np.testing.assert_allclose(value, expected_losses(head, margin, sample, x, agents), rtol=1e-5, atol=1e-5)
    numeric_x, numeric_agents = central_differences(lambda e, w: expected_losses(head, margin, sample, e, w), x, agents)
    np.testing.assert_allclose(by_x, numeric_x, rtol=1e-3, atol=1e-3)
    assert not by_rows[~live(sample)].any()
    by_agents = np.zeros_like(agents)
    np.add.at(by_agents, sample.ids, by_rows)
    np.testing.assert_allclose(by_agents, numeric_agents, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fused", [False, "buffer"])
def test_what_is_watched_is_that_of_the_sample(fused):
    head = make(fused=fused)
    x, agents = tensors(1)
    x[0], x[2] = agents[7], agents[3]  # two right ones, of which one has its class in two slots
    x[1] = -agents[7]
    slots = head.sample(keras.ops.array(LABELS), 2)
    rows = keras.ops.array(agents[to_numpy(slots.ids)], dtype="float32")
    statistics = head.sampled_statistics(keras.ops.array(x, dtype="float32"), rows, slots)
    cosines = oracle.cosine_matrix(x, agents)
    np.testing.assert_allclose(to_numpy(statistics.target_cosine), cosines[np.arange(4), LABELS], atol=1e-5)
    among = cosines[:, to_numpy(slots.ids)].max(axis=1)
    right = cosines[np.arange(4), LABELS] >= among
    assert right.tolist()[:3] == [True, False, True]
    np.testing.assert_array_equal(to_numpy(statistics.correct), right)


def test_the_sample_is_an_argument_and_only_training_counts_the_step():
    head = make()
    x, agents = tensors(1)
    x = keras.ops.array(x, dtype="float32")
    slots = head.sample(keras.ops.array(LABELS), 2)
    rows = keras.ops.array(agents[to_numpy(slots.ids)], dtype="float32")
    expected = head.sampled_statistics(x, rows, slots)
    for training in (False, True):
        statistics = head.statistics(LABELS, x, training=training, sample=(slots, rows))
        for ours, theirs in zip(statistics, expected, strict=True):
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
        assert float(head.step) == float(training)
    with pytest.raises(ValueError, match=r"`y_true` must hold .*20"):
        head.statistics(np.array([7, 7, 3, 20]), x, sample=(slots, rows))
    with pytest.raises(ValueError, match=r"`sample` must be None for MarginSoftmaxHead.*Received: a tuple"):
        MarginSoftmaxHead(20).statistics(LABELS, x, sample=(slots, rows))


def test_the_correction_brings_the_mean_loss_near_that_of_all_classes():
    x, agents = tensors(2, units=400)
    x, agents, ids = (keras.ops.array(a, dtype=t) for a, t in ((x, "float32"), (agents, "float32"), (LABELS, "int32")))
    means = {}
    for corrected in (True, False):
        head = SampledMarginSoftmaxHead(400, scale=4.0, sample_rate=0.1, minimum_sample=1, corrected=corrected)

        def losses(step, head=head):
            sample = head.sample(ids, step)
            return head.sampled_statistics(x, keras.ops.take(agents, sample.ids, axis=0), sample).loss

        losses = compiled(losses)
        means[corrected] = np.mean([to_numpy(losses(keras.ops.array(float(step)))) for step in range(100)])
    head.build((None, 4))
    head.kernel.assign(agents)
    whole = to_numpy(head.loss(LABELS, x)).mean()
    assert whole - 0.1 < means[True] < whole + 0.01
    assert means[False] < whole - 1.5  # about log 10


def test_a_step_of_momentum_and_decay_by_hand():
    head = SampledMarginSoftmaxHead(3, momentum=0.9, weight_decay=0.1)
    rows, velocity = head.updated_rows(*(keras.ops.array([[v]]) for v in (2.0, 0.5, 1.0)), 0.5)
    assert to_numpy(velocity)[0, 0] == pytest.approx(0.9 * 0.5 - 0.5 * (1.0 + 0.1 * 2.0))
    assert to_numpy(rows)[0, 0] == pytest.approx(2.0 - 0.15)


def test_the_rate_is_the_optimizers_a_number_or_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.5, 0.25])
    cases = [(None, 0, 0.7), (0.2, 9, 0.2), (schedule, 3, 0.5), (schedule, 4, 0.25)]
    for rate, step, expected in cases:
        head = SampledMarginSoftmaxHead(3, learning_rate=rate, rate_multiplier=2.0)
        assert float(head.rate(keras.ops.array(float(step)), 0.7)) == pytest.approx(2 * expected)


def test_evaluation_takes_all_agents():
    x, agents = tensors()
    head, plain = make(), MarginSoftmaxHead(20, MARGINS["additive_cosine"])
    plain.build((None, 4))
    for one in (head, plain):
        one.kernel.assign(agents)
    x = x.astype("float32")
    np.testing.assert_array_equal(to_numpy(head.loss(LABELS, x)), to_numpy(plain.loss(LABELS, x)))
    np.testing.assert_array_equal(to_numpy(head(x)), to_numpy(plain(x)))
    with pytest.raises(ValueError, match=r"`y_true` must hold .*20"):
        head.loss(np.array([7, 7, 3, 20]), x)
    with pytest.raises(RuntimeError, match="A SampledMarginSoftmaxHead is trained by"):
        head.loss(LABELS, x, training=True)


def test_no_optimizer_sees_the_agents_and_unfreezing_does_not_change_that():
    head = make(scale=LearnableScale(9.0))
    head.trainable = False
    head.trainable = True
    assert [variable.name for variable in head.trainable_variables] == [head.scale.weights[0].name]
    assert {"kernel", "velocity", "step"} <= {variable.name for variable in head.non_trainable_variables}


def test_it_cannot_be_the_last_layer_of_a_training_that_would_leave_its_agents_as_they_are():
    x, y = tensors()[0].astype("float32"), np.zeros((len(LABELS), 20))

    def fit(trainable):
        inputs, head = keras.Input((4,)), make()
        head.trainable = trainable
        model = keras.Model(inputs, head(keras.layers.Dense(4)(inputs)))
        model.compile("sgd", "mse", jit_compile=False)
        return model.fit(x, y, verbose=0).history["loss"]

    with pytest.raises(RuntimeError, match="A SampledMarginSoftmaxHead is trained by"):
        fit(trainable=True)
    assert np.isfinite(fit(trainable=False)).all()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("fused", [False, "buffer"])
def test_other_types_see_what_float32_sees(dtype, fused):
    x, agents = tensors()
    losses = []
    for one in (make(fused=fused), make(fused=fused, dtype=dtype)):
        slots = one.sample(keras.ops.array(LABELS), 4)
        rows = keras.ops.array(agents[to_numpy(slots.ids)], dtype=one.variable_dtype)
        losses.append(to_numpy(one.sampled_statistics(keras.ops.array(x, dtype=one.compute_dtype), rows, slots).loss))
    np.testing.assert_allclose(losses[1].astype("float64"), losses[0], rtol=1e-5 if dtype == "float64" else 0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_count_of_steps_is_exact_whatever_the_agents_are(dtype):
    head = make(dtype=dtype)
    head.step.assign(2049.0)
    head.step.assign(head.step + 1.0)
    assert float(head.step) == 2050.0


def test_one_class_and_one_sample():
    head = SampledMarginSoftmaxHead(1, MARGINS["additive_cosine"])
    sample = head.sample(keras.ops.array([0]), 0)
    value, slopes = value_and_gradients(
        lambda e, r: head.sampled_statistics(e, r, sample).loss, np.ones((1, 3)), np.ones((1, 3))
    )
    assert value.tolist() == [0.0]
    assert not np.any(slopes[0])
    assert not np.any(slopes[1])


def test_sizes():
    def size(units, **options):
        return SampledMarginSoftmaxHead(units, **options).sample_size

    assert size(1_048_576, sample_rate=0.1) == 104_858
    assert size(98_304, sample_rate=0.001) == 1024
    assert size(98_304, sample_rate=0.001, minimum_sample=10) == 99
    assert size(500) == 500
    assert size(5000, sample_rate=1) == 5000
    with pytest.raises(ValueError, match=r"raise `sample_rate`.*batch of 4 samples, 4 of 20 classes"):
        SampledMarginSoftmaxHead(20, minimum_sample=4).sample(keras.ops.array(LABELS), 0)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    options = {"sample_rate": 0.2, "minimum_sample": 7, "seed": 5, "momentum": 0.8, "weight_decay": 1e-3}
    options |= {"learning_rate": schedule, "rate_multiplier": 3.0, "corrected": False}
    for one in (SampledMarginSoftmaxHead(30, AdditiveCosine(0.1), **options), SampledMarginSoftmaxHead(30)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
        assert type(again) is SampledMarginSoftmaxHead
        assert again.get_config() == one.get_config()
    again = SampledMarginSoftmaxHead.from_config(SampledMarginSoftmaxHead(30, **options).get_config())
    assert {name: getattr(again, name) for name in options if name != "learning_rate"} == {
        name: value for name, value in options.items() if name != "learning_rate"
    }
    assert float(again.learning_rate(10)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", 0.0),
        ("sample_rate", 1.1),
        ("minimum_sample", 0),
        ("minimum_sample", 1.5),
        ("seed", -1),
        ("seed", 2**31),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("weight_decay", math.inf),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("learning_rate", "fast"),
        ("sample_rate", None),
        ("rate_multiplier", 0.0),
        ("label_smoothing", 0.1),
        ("kernel_regularizer", keras.regularizers.L2(1e-4)),
        ("kernel_constraint", keras.constraints.UnitNorm()),
    ],
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: {name}="):
        SampledMarginSoftmaxHead(30, **{name: value})


def test_fit_is_for_tensorflow():
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model = EmbeddingModel(backbone, make())
    model.compile("sgd", jit_compile=False)
    x = tensors()[0].astype("float32")
    if BACKEND == "tensorflow":
        assert np.isfinite(model.fit(x, LABELS, verbose=0).history["loss"]).all()
    else:
        with pytest.raises(ValueError, match=f"TensorFlow backend only.*'{BACKEND}'"):
            model.fit(x, LABELS, verbose=0)
    assert np.isfinite(model.evaluate(x, LABELS, verbose=0, return_dict=True)["loss"])
