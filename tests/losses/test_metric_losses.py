"""The metric losses that tensorflow-addons had: values, gradients, edges, invariants, memory."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface.losses import (
    ContrastiveLoss,
    LiftedStructLoss,
    NpairsLoss,
    NpairsMultilabelLoss,
    TripletHardLoss,
    TripletSemiHardLoss,
    pairwise_angular_distance,
    pairwise_distance,
    pairwise_squared_distance,
    resolve_distance,
)
from keras_normface.losses import _pairwise as distances
from keras_normface.losses import _pairwise as mining
from tests.support import metric_oracle as oracle
from tests.support.helpers import BACKEND, central_differences, check_loss, in_graph, to_numpy, value_and_gradients

IDS = np.array([3, 5, 3, 7, 5, 3, 9, 7])
METRICS = ("L2", "squared-L2", "angular")


def embedding_cases():
    """Each loss on embeddings, with its oracle."""
    for metric in METRICS:
        margin = 0.3 if metric == "angular" else 1.0
        options = {"margin": margin, "metric": metric}
        yield TripletSemiHardLoss(margin, distance_metric=metric, reduction=None), oracle.semi_hard_losses, options
        yield TripletHardLoss(margin, soft=False, distance_metric=metric, reduction=None), oracle.hard_losses, options
        options = {"metric": metric, "soft": True}
        yield TripletHardLoss(1.0, soft=True, distance_metric=metric, reduction=None), oracle.hard_losses, options
    yield LiftedStructLoss(reduction=None), oracle.lifted_losses, {}
    yield LiftedStructLoss(margin=-0.5, reduction=None), oracle.lifted_losses, {"margin": -0.5}


EMBEDDING = list(embedding_cases())
DEFAULTS = [TripletSemiHardLoss, TripletHardLoss, LiftedStructLoss]


def embeddings(seed=0, rows=8, dim=4):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype("float32")


@pytest.mark.parametrize(("loss", "expected", "options"), EMBEDDING)
def test_values_and_gradients_are_the_oracles(loss, expected, options):
    for seed in range(3):
        x = embeddings(seed)
        values, (gradient,) = value_and_gradients(lambda e: loss(IDS, e), x)
        np.testing.assert_allclose(values, expected(x, IDS, **options), rtol=2e-5, atol=2e-5)
        (numeric,) = central_differences(lambda e: expected(e, IDS, **options), x)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)
        assert np.abs(numeric).max() > 0.01


def test_npairs_values_and_gradients_are_the_oracles():
    similarities = embeddings(4, 8, 8) * 3
    rows = np.random.default_rng(1).integers(0, 2, size=(8, 5))
    rows[2] = 0
    for loss, y_true, expected in (
        (NpairsLoss(reduction=None), IDS, oracle.npairs_losses),
        (NpairsMultilabelLoss(reduction=None), rows, oracle.npairs_multilabel_losses),
    ):
        values, (gradient,) = value_and_gradients(lambda s, f=loss, y=y_true: f(y, s), similarities)
        np.testing.assert_allclose(values, expected(similarities, y_true), rtol=1e-5, atol=1e-6)
        (numeric,) = central_differences(lambda s, f=expected, y=y_true: f(s, y), similarities)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)
    assert values[2] == 0
    assert not gradient[2].any()


def test_contrastive_values_and_gradients_are_the_oracles():
    d, y = np.array([0.2, 0.7, 1.6, 0.4, 2.0]), np.array([1, 0, 0, 0, 1])
    for margin in (0.5, 1.0, 1.8):
        loss = ContrastiveLoss(margin, reduction=None)
        values, (gradient,) = value_and_gradients(lambda p, f=loss: f(y, p), d)
        np.testing.assert_allclose(values, oracle.contrastive_losses(d, y, margin), rtol=1e-6)
        (numeric,) = central_differences(lambda p, m=margin: oracle.contrastive_losses(p, y, m), d)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)


def test_hand_worked_values():
    line = np.array([[0.0], [1.0], [1.5], [4.0]], dtype="float32")
    ids = np.array([0, 0, 1, 1])
    # Anchor 0: p = 1 at 1, negatives at 1.5 and 4: 1 + 1 − 1.5. Anchor 1: p at 1, negatives at 0.5 and 3:
    # 1 + 1 − 3 < 0. Anchor 2: p at 2.5, negatives at 1.5 and 0.5, none farther: 1 + 2.5 − 1.5.
    # Anchor 3: p at 2.5, negatives at 4 and 3: 1 + 2.5 − 3. Four pairs, four anchors: the factor is 1.
    semi_hard = to_numpy(TripletSemiHardLoss(reduction=None)(ids, line))
    np.testing.assert_allclose(semi_hard, [0.5, 0.0, 2.0, 0.5], atol=1e-6)
    # Nearest negatives: 1.5, 0.5, 0.5, 3.
    hard = to_numpy(TripletHardLoss(reduction=None)(ids, line))
    np.testing.assert_allclose(hard, [0.5, 1.5, 3.0, 0.5], atol=1e-6)
    soft = to_numpy(TripletHardLoss(soft=True, reduction=None)(ids, line))
    np.testing.assert_allclose(soft, np.log1p(np.exp([-0.5, 0.5, 2.0, -0.5])), rtol=1e-6)
    squared = to_numpy(TripletSemiHardLoss(distance_metric="squared-L2", reduction=None)(ids, line))
    np.testing.assert_allclose(squared, [0.0, 0.0, 1 + 6.25 - 2.25, 0.0], atol=1e-5)


def test_a_negative_as_far_as_the_positive_is_not_semi_hard():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], dtype="float32")
    losses = to_numpy(TripletSemiHardLoss(reduction=None)(np.array([0, 0, 1, 2]), square))
    # Anchor 0: p at 1, a negative at 1 as well, which is not farther; the one at 2 is taken: 1 + 1 − 2 = 0.
    # Anchor 1: p at 1, negatives at √2 and 1. Two pairs, four anchors: the factor is 2.
    np.testing.assert_allclose(losses, [0.0, 2 * (2 - np.sqrt(2)), 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("make", DEFAULTS)
def test_generic_checks_on_embeddings(make):
    check_loss(make, IDS, embeddings())


def test_generic_checks_on_pairs_and_similarities():
    check_loss(ContrastiveLoss, np.array([0, 1, 1, 0]), np.array([[0.25], [1.5], [0.75], [0.5]]))
    # `fit` shuffles the rows of a similarity matrix and not its columns: one class for all, so that it may.
    check_loss(NpairsLoss, np.zeros(8, dtype="int64"), embeddings(2, 8, 8))
    check_loss(NpairsMultilabelLoss, np.ones((8, 3)), embeddings(2, 8, 8))


@pytest.mark.parametrize(("loss", "expected", "options"), EMBEDDING)
@pytest.mark.parametrize("kind", ["one class", "all distinct", "duplicates", "one sample", "zero vectors"])
def test_edges_are_finite_and_the_oracles(loss, expected, options, kind):
    x, ids = np.round(embeddings(7) * 64) / 64, IDS
    if kind == "one class":
        ids = np.zeros_like(IDS)
    elif kind == "all distinct":
        ids = np.arange(len(IDS))
    elif kind == "duplicates":
        x[2], x[4], x[6] = x[0], x[1], x[1]
    elif kind == "one sample":
        x, ids = x[:1], IDS[:1]
    elif options.get("metric") != "angular":  # where a zero vector has an undefined direction
        x[:3] = 0.0
    values, (gradient,) = value_and_gradients(lambda e: loss(ids, e), x)
    np.testing.assert_allclose(values, expected(x, ids, **options), rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradient).all()
    compiled = in_graph(lambda y, e: loss(y, e), ids, x, jit_compile=True)
    np.testing.assert_allclose(compiled, values, rtol=1e-5, atol=1e-5)


def test_nothing_to_mine_is_zero_with_a_zero_gradient():
    x = embeddings()
    for make, ids in (
        (TripletSemiHardLoss, np.arange(8)),
        (LiftedStructLoss, np.arange(8)),
        (LiftedStructLoss, np.zeros(8)),
        (TripletSemiHardLoss, np.zeros(1)),
    ):
        values, (gradient,) = value_and_gradients(lambda e, f=make, y=ids: f()(y, e), x[: len(ids)])
        assert values == 0
        assert not gradient.any()


def test_zero_vectors_under_the_angular_distance():
    x = embeddings()
    x[:3] = 0.0
    for loss in (TripletSemiHardLoss(distance_metric="angular"), TripletHardLoss(distance_metric="angular")):
        value, (gradient,) = value_and_gradients(lambda e, f=loss: f(IDS, e), x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nan_is_not_hidden(jit_compile):
    x = embeddings()
    x[3, 1] = np.nan
    for loss in (*(make(reduction=None) for make in DEFAULTS), EMBEDDING[-4][0]):
        assert np.isnan(in_graph(lambda y, e, f=loss: f(y, e), IDS, x, jit_compile=jit_compile)).all()
        _, (gradient,) = value_and_gradients(lambda e, f=loss: f(IDS, e), x)
        assert np.isnan(gradient).any()
    similarities = embeddings(1, 8, 8)
    similarities[2, 3] = np.nan
    rows = np.eye(8)[IDS - 2]
    rows[2] = 0
    for loss, y in ((NpairsLoss(reduction=None), IDS), (NpairsMultilabelLoss(reduction=None), rows)):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(to_numpy(loss(y, similarities)))), [2])
    contrastive = ContrastiveLoss(reduction=None)
    pairs = to_numpy(contrastive(np.array([0, 1, 0, 2]), np.array([0.5, np.nan, np.nan, 1.0])))
    np.testing.assert_array_equal(np.isnan(pairs), [False, True, True, True])


def test_a_soft_margin_does_not_overflow():
    x = np.array([[0.0], [1000.0], [1.0]], dtype="float32")
    values, (gradient,) = value_and_gradients(
        lambda e: TripletHardLoss(soft=True, reduction=None)(np.array([0, 0, 1]), e), x
    )
    np.testing.assert_allclose(values, [999.0, np.log1p(np.e), np.log1p(1 / np.e)], rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_float_ids_and_a_column_of_ids_are_compared_as_they_are():
    x = embeddings()
    for make in DEFAULTS:
        expected = to_numpy(make(reduction=None)(IDS, x))
        for ids in (IDS[:, None], IDS * 1000.25 - 3, IDS.astype("uint8")):
            np.testing.assert_array_equal(to_numpy(make(reduction=None)(ids, x)), expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), case=st.sampled_from(range(len(EMBEDDING))))
def test_a_permuted_batch_has_permuted_losses(seed, case):
    rng = np.random.default_rng(seed)
    x, order, loss = embeddings(seed), rng.permutation(len(IDS)), EMBEDDING[case][0]
    np.testing.assert_allclose(
        to_numpy(loss(IDS[order], x[order])), to_numpy(loss(IDS, x))[order], rtol=1e-4, atol=1e-4
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), case=st.sampled_from(range(len(EMBEDDING))))
def test_a_rotated_batch_has_the_same_losses(seed, case):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    x, loss = embeddings(seed), EMBEDDING[case][0]
    rotated = (x.astype("float64") @ rotation).astype("float32")
    np.testing.assert_allclose(to_numpy(loss(IDS, rotated)), to_numpy(loss(IDS, x)), rtol=1e-3, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 17))
def test_the_search_is_numpys(seed, size):
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(0, 6, size=(3, size)).astype("float32"), axis=1)
    queries = rng.integers(-1, 7, size=(3, 5)).astype("float32")
    expected = [np.searchsorted(row, query, side="right") for row, query in zip(rows, queries, strict=True)]
    counts = mining.count_not_greater(ops.convert_to_tensor(rows), ops.convert_to_tensor(queries))
    np.testing.assert_array_equal(to_numpy(counts), expected)


def test_distances_are_the_oracles_with_exact_zeros():
    x = embeddings()
    for metric in METRICS:
        values = to_numpy(resolve_distance(metric)(ops.convert_to_tensor(x)))
        np.testing.assert_allclose(values, oracle.distance_matrix(x, metric), rtol=1e-5, atol=1e-5)
    for function in (pairwise_distance, pairwise_squared_distance, pairwise_angular_distance):
        far = np.repeat(np.array([[0.1, 77.7, -3.0]], dtype="float32"), 4, axis=0)
        values, (gradient,) = value_and_gradients(function, far)
        assert (values >= 0).all()
        assert np.isfinite(gradient).all()
        half = function(ops.ones((2, 3), dtype="bfloat16"))
        assert keras.backend.standardize_dtype(half.dtype) == "float32"
    assert not np.diag(to_numpy(pairwise_distance(ops.convert_to_tensor(x)))).any()


@keras.saving.register_keras_serializable(package="tests")
def city_block(x):
    return ops.sum(ops.abs(ops.expand_dims(x, 0) - ops.expand_dims(x, 1)), axis=-1)


@pytest.mark.parametrize("make", [TripletSemiHardLoss, TripletHardLoss])
def test_a_callable_distance_survives_its_config(make):
    loss = make(margin=0.25, distance_metric=city_block, reduction=None)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.distance_metric is city_block
    x = embeddings()
    np.testing.assert_array_equal(to_numpy(again(IDS, x)), to_numpy(loss(IDS, x)))
    lines = embeddings(0, 8, 1)
    expected = to_numpy(make(margin=0.25, reduction=None)(IDS, lines))
    np.testing.assert_allclose(to_numpy(loss(IDS, lines)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [*DEFAULTS, NpairsLoss])
def test_a_saved_model_keeps_its_loss_and_trains_with_it(make, tmp_path):
    keras.utils.set_random_seed(1)
    units = 4 if make is not NpairsLoss else 8
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.SGD(0.05), make(), jit_compile=True)
    x, y = np.tile(embeddings(), (4, 1)), np.tile(IDS, 4)
    history = model.fit(x, y, batch_size=8, epochs=8, verbose=0, shuffle=False).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    before = model.evaluate(x, y, batch_size=8, verbose=0)
    np.testing.assert_allclose(loaded.evaluate(x, y, batch_size=8, verbose=0), before, rtol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has graphs of unknown shape")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_unknown_batch_size(jit_compile):
    import tensorflow as tf

    for loss, expected, options in (EMBEDDING[0], EMBEDDING[7], EMBEDDING[-1]):
        signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 4], tf.float32)]
        graph = tf.function(lambda y, e, f=loss: f(y, e), signature, jit_compile=jit_compile)
        for rows in (8, 5):
            x, ids = embeddings(rows=rows), IDS[:rows]
            values = to_numpy(graph(tf.constant(ids), tf.constant(x)))
            np.testing.assert_allclose(values, expected(x, ids, **options), rtol=2e-5, atol=2e-5)


def largest_tensor(size):
    """Elements of the largest tensor that semi-hard mining and its gradient name, as traced at B = size."""
    loss = TripletSemiHardLoss()
    ids, x = np.arange(size) % 16, np.zeros((size, 8), dtype="float32")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def step(e):
            with tf.GradientTape() as tape:
                tape.watch(e)
                value = loss(ids, e)
            return tape.gradient(value, e)

        graph = tf.function(step).get_concrete_function(tf.TensorSpec([size, 8])).graph
        definition = graph.as_graph_def(add_shapes=True)
        nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
        shapes = [tf.TensorShape(s) for node in nodes for s in node.attr["_output_shapes"].list.shape]
        return max(int(np.prod(s.as_list())) for s in shapes if s.is_fully_defined())
    import jax
    from jax.extend.core import jaxprs_in_params

    def shapes_of(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.shape for v in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                yield from shapes_of(inner)

    traced = jax.make_jaxpr(jax.grad(lambda e: loss(ids, e)))(x)
    return max(int(np.prod(shape)) for shape in shapes_of(traced.jaxpr))


def test_memory_is_quadratic_in_the_batch():
    assert 512**2 <= largest_tensor(512) <= 4 * 512**2


def test_a_batch_of_2048_is_no_trouble():
    size = 2048  # 2048³ float32 would be 34 GB
    x, ids = embeddings(0, size, 8), np.arange(size) % 256
    value, (gradient,) = value_and_gradients(lambda e: TripletSemiHardLoss()(ids, e), x)
    np.testing.assert_allclose(value, np.mean(fast_semi_hard(x, ids)), rtol=1e-4)
    assert np.isfinite(gradient).all()


def fast_semi_hard(x, ids):
    """The oracle's semi-hard losses by sorting, for batches that are too large for its loops."""
    x = x.astype("float64")
    d = np.sqrt(np.maximum(0, ((x[:, None] - x[None]) ** 2).sum(-1)))
    losses = np.zeros(len(ids))
    for a in range(len(ids)):
        negatives = np.sort(d[a][ids != ids[a]])
        positives = np.delete(d[a], a)[np.delete(ids, a) == ids[a]]
        index = np.searchsorted(negatives, positives, side="right")
        negative = negatives[np.minimum(index, len(negatives) - 1)]
        losses[a] = np.maximum(0, 1 + positives - negative).sum()
    return losses * len(ids) / sum((ids == i).sum() - 1 for i in ids)


def test_what_does_not_fit_is_refused():
    x = embeddings()
    for make in DEFAULTS:
        with pytest.raises(ValueError, match=r"y_true.shape=\(8, 3\)"):
            make()(np.zeros((8, 3)), x)
        with pytest.raises(ValueError, match=r"y_true.shape=\(1,\)"):
            make()(np.zeros(1), x)
        with pytest.raises(ValueError, match="must be a finite number"):
            make(margin=float("nan"))
        with pytest.raises(ValueError, match='must be "float32" or "float64"'):
            make(dtype="bfloat16")
    with pytest.raises(ValueError, match="distance_metric='cosine'"):
        TripletHardLoss(distance_metric="cosine")
    with pytest.raises(ValueError, match="Received: distance_metric=3"):
        TripletSemiHardLoss(distance_metric=3)
    with pytest.raises(ValueError, match="must return a tensor of shape"):
        TripletHardLoss(distance_metric=lambda e: e[:, :3])(IDS, x)
    with pytest.raises(ValueError, match=r"both have shape \(B,\)"):
        ContrastiveLoss()(np.zeros(3), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="must be a similarity matrix"):
        NpairsLoss()(IDS, x)
    with pytest.raises(ValueError, match="y_true` must have shape"):
        NpairsMultilabelLoss()(IDS, embeddings(0, 8, 8))


@pytest.mark.parametrize("direct", [False, True])
def test_sparse_labels_are_refused(direct):
    loss, rows = NpairsMultilabelLoss(), np.eye(8, dtype="float32")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        sparse = tf.sparse.from_dense(rows)
    else:
        from jax.experimental import sparse as jax_sparse

        sparse = jax_sparse.BCOO.fromdense(rows)
    with pytest.raises(ValueError, match="must be a dense tensor"):
        (loss.call if direct else loss)(sparse, rows)


def test_the_mask_of_other_positions():
    assert to_numpy(distances.other_positions(ops.zeros((3, 3)))).sum() == 6
