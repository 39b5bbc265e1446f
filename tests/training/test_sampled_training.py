"""Sampled agents in `fit`: as the plain head where all are drawn, row by row where not, saved and resumed."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_normface import (
    AgentContrastiveHead,
    CoupledSGD,
    EmbeddingModel,
    LearnableScale,
    MarginSoftmaxHead,
    SampledMarginSoftmaxHead,
    fit_resumable,
)
from keras_normface.data import ArrayBatches
from keras_normface.distribute import _step as replica_steps
from keras_normface.distribute._sampled import check_trainable
from keras_normface.margins import AdditiveCosine
from tests.support import oracle, tiny

CLASSES, FEATURES, DIM, ROWS, BATCH = 20, 6, 4, 30, 4
MOMENTUM, DECAY, SCALE, MARGIN = 0.8, 1e-2, 10.0, 0.2


def arrays(seed=0, rows=ROWS, features=FEATURES):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, features)).astype("float32"), rng.integers(0, CLASSES, rows)


def sampled_head(rate=0.45, **options):
    options = {"minimum_sample": 1, "momentum": MOMENTUM, "weight_decay": DECAY, "scale": SCALE, **options}
    return SampledMarginSoftmaxHead(CLASSES, AdditiveCosine(MARGIN), sample_rate=rate, **options)


def make(heads, body=True, optimizer=None, features=FEATURES, **compile_arguments):
    """A model whose weights depend on the seed alone, and are the same for heads of any kind."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((features,))
    outputs = keras.layers.Dense(DIM)(inputs) if body else keras.layers.Activation("linear")(inputs)
    model = EmbeddingModel(keras.Model(inputs, outputs), heads)
    model.build((None, features))
    rng = np.random.default_rng(2)
    for head in model.heads:
        head.kernel.assign(rng.normal(size=head.kernel.shape))
    optimizer = optimizer or CoupledSGD(0.1, MOMENTUM, coupled_weight_decay=DECAY)
    model.compile(optimizer, **{"jit_compile": False, **compile_arguments})
    return model


def fit(model, epochs=1, rows=ROWS, **options):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **options}
    return model.fit(*arrays(rows=rows, features=model.backbone.input_shape[-1]), epochs=epochs, **options)


def agents_of(model, head=0):
    return model.heads[head].kernel.numpy().copy(), model.heads[head].velocity.numpy().copy()


@pytest.mark.parametrize(
    ("body", "jit_compile"),
    [
        (True, False),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(False, False, marks=pytest.mark.long),
        pytest.param(False, True, marks=pytest.mark.long),
    ],
)
def test_with_all_agents_in_the_sample_training_is_that_of_the_plain_head(body, jit_compile):
    def optimizer():
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([5, 12], [0.1, 0.05, 0.2])
        return CoupledSGD(rate, MOMENTUM, coupled_weight_decay=DECAY)

    plain = MarginSoftmaxHead(CLASSES, AdditiveCosine(MARGIN), scale=LearnableScale(SCALE) if body else SCALE)
    sampled = sampled_head(1.0, scale=LearnableScale(SCALE) if body else SCALE)
    features = FEATURES if body else DIM
    one = make(plain, body, optimizer(), features, jit_compile=jit_compile)
    two = make(sampled, body, optimizer(), features, jit_compile=jit_compile)
    losses, others = (fit(model, epochs=2, rows=40).history for model in (one, two))  # 20 steps
    for name in losses:
        np.testing.assert_allclose(others[name], losses[name], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(sampled.kernel.numpy(), plain.kernel.numpy(), rtol=1e-5, atol=1e-5)
    rest = [variable for variable in one.trainable_variables if variable is not plain.kernel]
    for ours, theirs in zip(two.trainable_variables, rest, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)
    assert int(two.optimizer.iterations) == int(sampled.step) == 20
    assert len(two.optimizer.variables) < len(one.optimizer.variables) or not body
    np.testing.assert_allclose(
        two.evaluate(*arrays(3, features=features), verbose=0),
        one.evaluate(*arrays(3, features=features), verbose=0),
        rtol=1e-4,
    )


def one_step(x, labels, sample, agents, velocity, rate):
    """Loss of a step on a sample, and agents and velocities after it: loops in float64."""
    weights = {int(c): float(w) for c, w in zip(sample.ids, sample.log_weights, strict=True) if w > -1e29}
    classes, units = list(weights), oracle.unit(x)
    gradients, loss = {c: np.zeros(DIM) for c in classes}, 0.0
    for unit, label in zip(units, labels, strict=True):
        cosines = {c: unit @ oracle.unit(agents[[c]])[0] for c in classes}
        logits = [SCALE * (cosines[c] - MARGIN) if c == label else SCALE * cosines[c] + weights[c] for c in classes]
        p = np.exp(logits) / np.exp(logits).sum()
        loss -= np.log(p[classes.index(label)]) / len(labels)
        for c, share in zip(classes, p, strict=True):
            norm = np.linalg.norm(agents[c])
            direction = (unit - cosines[c] * agents[c] / norm) / norm
            gradients[c] += SCALE * (share - (c == label)) * direction / len(labels)
    agents, velocity = agents.copy(), velocity.copy()
    for c in classes:
        velocity[c] = MOMENTUM * velocity[c] - rate * (gradients[c] + DECAY * agents[c])
        agents[c] += velocity[c]
    return loss, agents, velocity


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 3}], ids=str
)
def test_each_step_trains_the_rows_that_were_drawn_and_no_other(options):
    head = sampled_head(learning_rate=0.3, rate_multiplier=0.5)
    model = make(head, body=False, features=DIM, **options)
    x, y = arrays(features=DIM)
    y[1], y[9], y[10] = y[0], y[8], y[8]  # labels that come twice and three times in a batch
    agents, velocity = (part.astype("float64") for part in agents_of(model))
    untouched, losses = np.arange(CLASSES), []
    first, _ = agents_of(model)
    for step in range(6):
        rows = slice(4 * step, 4 * step + 4)
        sample = head.sample(keras.ops.array(y[rows]), step)
        untouched = np.setdiff1d(untouched, sample.ids.numpy())
        loss, agents, velocity = one_step(x[rows], y[rows], sample, agents, velocity, 0.15)
        losses.append(loss)
    history = model.fit(x[:24], y[:24], batch_size=4, shuffle=False, verbose=0)
    kernel, velocities = agents_of(model)
    assert len(untouched) > 0
    np.testing.assert_array_equal(kernel[untouched], first[untouched])
    assert not velocities[untouched].any()
    np.testing.assert_allclose(kernel, agents, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(velocities, velocity, rtol=1e-4, atol=1e-5)
    assert history.history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_rows_that_one_step_does_not_draw_keep_every_bit():
    model = make(sampled_head())
    fit(model)
    before, moving = agents_of(model)
    step, (x, y) = int(model.heads[0].step), arrays()
    drawn = model.heads[0].sample(keras.ops.array(y[:BATCH]), step).ids.numpy()
    model.train_on_batch(x[:BATCH], y[:BATCH])
    after, moved = agents_of(model)
    others = np.setdiff1d(np.arange(CLASSES), drawn)
    assert moving[others].any()  # momentum would have moved them
    np.testing.assert_array_equal(after[others], before[others])
    np.testing.assert_array_equal(moved[others], moving[others])
    assert (after[drawn] != before[drawn]).all(axis=1).all()
    assert (moved[drawn] != moving[drawn]).all(axis=1).all()


def test_a_step_never_reads_all_agents():
    model = make([sampled_head(), AgentContrastiveHead(CLASSES)])
    read = {id(variable) for variable in replica_steps.state_variables(model, kernels=False)}
    evaluated = {id(variable) for variable in replica_steps.state_variables(model)}
    head = model.heads[0]
    assert {id(head.kernel), id(head.velocity)} == {id(v) for v in model.weights} - read
    assert {id(head.velocity)} == {id(v) for v in model.weights} - evaluated
    assert not any(v.shape == head.kernel.shape for v in model.optimizer.variables if "contrastive" not in v.path)


@pytest.mark.slow
def test_several_heads_each_with_its_own_sample():
    heads = [sampled_head(seed=1), AgentContrastiveHead(CLASSES), sampled_head(0.6, seed=2), sampled_head()]
    heads[3].trainable = False
    model = make(heads)
    kernels = [head.kernel.numpy().copy() for head in heads]
    history = fit(model, validation_data=arrays(5, 9), class_weight=dict.fromkeys(range(CLASSES), 1.0))
    assert np.isfinite([history.history[name] for name in ("loss", "val_loss")]).all()
    moved = [(head.kernel.numpy() != kernel).any() for head, kernel in zip(heads, kernels, strict=True)]
    assert moved == [True, True, True, False]
    assert [int(heads[k].step) for k in (0, 2, 3)] == [8, 8, 8]


@pytest.mark.parametrize("bad", [-1, CLASSES])
def test_a_label_out_of_range_is_nan_and_writes_nothing_elsewhere(bad):
    model = make(sampled_head())
    x, y = arrays(rows=BATCH)
    y[2] = bad
    first, _ = agents_of(model)
    losses = model.train_on_batch(x, y, return_dict=True)
    assert np.isnan(losses["loss"])
    drawn = model.heads[0].sample(keras.ops.array(np.where(y == bad, 0, y)), 0).ids.numpy()
    others = np.setdiff1d(np.arange(CLASSES), drawn)
    after, _ = agents_of(model)
    np.testing.assert_array_equal(after[others], first[others])
    eager = make(sampled_head(), run_eagerly=True)
    with pytest.raises(ValueError, match=rf"`y_true` must hold .*Received: y_true\[2\]={bad}"):
        eager.fit(x, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(agents_of(eager)[0], first)


def test_a_batch_as_large_as_the_sample_is_refused():
    model = make(sampled_head(minimum_sample=BATCH, rate=0.01))
    x, y = arrays()
    before, _ = agents_of(model)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)  # of unknown size in the graph
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the sample"):
        model.fit(batches, verbose=0)
    np.testing.assert_array_equal(agents_of(model)[0], before)
    model = make(sampled_head(minimum_sample=BATCH, rate=0.01))
    with pytest.raises(ValueError, match=r"raise `sample_rate`.*a batch of 4 samples, 4 of 20"):
        model.fit(tf.data.Dataset.from_tensors((x[:4], y[:4])), verbose=0)
    np.testing.assert_array_equal(agents_of(model)[0], before)


def test_one_class_and_one_sample():
    model = EmbeddingModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), SampledMarginSoftmaxHead(1))
    model.compile("sgd")
    history = model.fit(np.ones((1, 3)), np.zeros(1, int), verbose=0, epochs=2)
    assert history.history["loss"] == [0.0, 0.0]
    assert history.history["accuracy"] == [1.0, 1.0]


def test_the_fused_head_trains_a_sample_as_the_plain_ops_do():
    kernels = []
    for fused in (False, "buffer", "stream"):
        model = make(sampled_head(fused=fused), body=False, features=DIM)
        fit(model)
        kernels.append(agents_of(model)[0])
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kernels[2], kernels[0], rtol=1e-4, atol=1e-5)


def state(model):
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(tmp_path, suffix):
    model = make(sampled_head(learning_rate=0.1), optimizer=keras.optimizers.SGD(0.1))
    fit(model)
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        again = keras.models.load_model(path)
    else:
        model.save_weights(path)
        again = make(sampled_head(learning_rate=0.1), optimizer=keras.optimizers.SGD(0.1))
        again.load_weights(path)
    assert int(again.heads[0].step) == 8
    assert again.heads[0].velocity.numpy().any()
    assert fit(again).history == fit(model).history
    for ours, theirs in zip(agents_of(again), agents_of(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def run(directory, cut_at=None, jit_compile=False):
    model = make(sampled_head(), jit_compile=jit_compile)
    cut = [tiny.CutAt(cut_at)] if cut_at else []
    data = ArrayBatches(*arrays(), BATCH, seed=3)
    return model, fit_resumable(model, data, 2, directory, save_every=3, callbacks=cut, verbose=0).history


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_cut_training_ends_bit_for_bit_like_a_whole_one(tmp_path, jit_compile):
    whole, history = run(tmp_path / "whole", jit_compile=jit_compile)
    for cut in (5, 6):
        with pytest.raises(tiny.Cut):
            run(tmp_path / "cut", cut, jit_compile)
    resumed, resumed_history = run(tmp_path / "cut", jit_compile=jit_compile)
    assert resumed_history == history
    for ours, theirs in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(resumed.heads[0].step) == int(whole.heads[0].step) > 12


def test_a_strategy_of_one_device():
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        one = make(sampled_head())
    two = make(sampled_head())
    np.testing.assert_allclose(fit(one).history["loss"], fit(two).history["loss"], rtol=1e-5)
    np.testing.assert_allclose(agents_of(one)[0], agents_of(two)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "accumulates"),
        (lambda: keras.optimizers.SGD(0.1, use_ema=True), "averages"),
        (lambda: keras.optimizers.SGD(0.1, loss_scale_factor=8.0), "scales the loss"),
        (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), "scales the loss"),
    ],
)
def test_optimizers_that_the_agents_could_not_follow_are_refused(optimizer, reason):
    model = make(sampled_head(), optimizer=optimizer())
    with pytest.raises(ValueError, match=f"with sampled class centres: .*{reason}"):
        fit(model)


def test_a_head_that_is_there_twice_is_refused():
    head = sampled_head()
    with pytest.raises(ValueError, match=r"`heads` must not hold .* twice.*Received: \['sampled"):
        fit(make([head, head]))


def test_several_replicas_are_refused():
    model = SimpleNamespace(heads=[sampled_head()], distribute_strategy=SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(ValueError, match=r"on one replica.*Received: 2 replicas"):
        check_trainable(model)
