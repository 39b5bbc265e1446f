"""What losses and heads take for labels and predictions: every numeric type, variables and lists; nothing else."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface import EmbeddingModel, SampledMarginSoftmaxHead, _labels, sphere
from keras_normface.heads import AgentContrastiveHead, AgentTripletHead, MarginSoftmaxHead
from keras_normface.layers import CosineDense
from keras_normface.losses import AMSoftmaxLoss, NormFaceLoss, margin_cosines, pairwise_distance
from keras_normface.margins import AdditiveCosine
from tests.support.every_loss import CLASS_LOSSES, LOSSES, PAIR_LOSSES, heads
from tests.support.helpers import BACKEND, in_graph, to_numpy

TYPES = [
    ("uint8", 256),
    ("uint8", 300),
    ("int8", 200),
    ("int16", 40_000),
    ("uint16", 65_536),
    ("uint16", 70_000),
    ("uint32", 300),
    ("int64", 300),
    ("uint64", 300),
    ("float16", 2048),
    ("bool", 2),
]


def ids_of(dtype, classes):
    """Class ids that the type holds, its largest among them."""
    most = {"bool": 1, "float16": 2047}.get(dtype) or np.iinfo(dtype).max
    return np.array([0, min(100, classes - 1), min(most, classes - 1), 1])


@pytest.mark.parametrize(("dtype", "classes"), TYPES)
def test_losses_take_ids_of_every_type(dtype, classes):
    ids, rng = ids_of(dtype, classes), np.random.default_rng(0)
    cosines = np.tanh(rng.normal(size=(4, classes))).astype("float32")
    made = [make(reduction=None) for make in CLASS_LOSSES.values()]
    expected = [to_numpy(loss(ids.astype("int32"), cosines)) for loss in made]
    labels = ids.astype(dtype)
    for loss, values in zip(made, expected, strict=True):
        assert np.isfinite(values).all()
        for shaped in (labels, labels[:, None]):
            np.testing.assert_array_equal(to_numpy(loss(shaped, cosines)), values)
            np.testing.assert_array_equal(to_numpy(loss.call(shaped, cosines)), values)


NARROW = [("uint8", 256), ("uint8", 300), ("int8", 200)]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "classes"), NARROW)
def test_compiled_losses_take_ids_of_narrow_types(dtype, classes):
    ids, rng = ids_of(dtype, classes), np.random.default_rng(0)
    cosines = np.tanh(rng.normal(size=(4, classes))).astype("float32")
    made = [make(reduction=None) for make in CLASS_LOSSES.values()]
    expected = [to_numpy(loss.call(ids.astype("int32"), cosines)) for loss in made]
    graph = in_graph(lambda y, c: ops.stack([loss.call(y, c) for loss in made]), ids.astype(dtype), cosines)
    np.testing.assert_allclose(graph, expected, rtol=1e-5, atol=1e-6)
    if classes == 256:  # XLA takes its time
        few = made[2], made[-1]
        labels = ids.astype(dtype)
        graph = in_graph(lambda y, c: ops.stack([f.call(y, c) for f in few]), labels, cosines, jit_compile=True)
        np.testing.assert_allclose(graph, [expected[2], expected[-1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16"])
def test_losses_on_pairs_take_ids_of_narrow_types(dtype):
    """The largest of the type: differences of them, and sums, would overflow."""
    made = [(make(reduction=None), ids, rows.astype("float32")) for make, ids, rows in PAIR_LOSSES.values()]
    expected = [to_numpy(loss.call(ids, rows)) for loss, ids, rows in made]
    labels = [(ids + (np.iinfo(dtype).max - 2) * (ids.max() > 1)).astype(dtype) for _, ids, _ in made]

    def losses_of(*given):
        return [loss.call(y, rows) for y, (loss, _, rows) in zip(given, made, strict=True)]

    ways = [losses_of(*labels)]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        ways.append(tf.function(losses_of, autograph=False)(*map(tf.constant, labels)))
    for values in ways:
        for name, value, right in zip(PAIR_LOSSES, values, expected, strict=True):
            np.testing.assert_allclose(to_numpy(value), right, rtol=1e-5, atol=1e-6, err_msg=name)


OTHER_TYPES = [("uint8", 300), ("int8", 200), ("uint16", 70_000), ("uint64", 300)]


@pytest.mark.parametrize(
    ("dtype", "classes"), [("uint8", 256), *(pytest.param(*row, marks=pytest.mark.slow) for row in OTHER_TYPES)]
)
def test_heads_take_ids_of_every_type(dtype, classes):
    ids, x = ids_of(dtype, classes), np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    made = heads(classes, {256: (False, "buffer", "stream"), 70_000: (False, "stream")}.get(classes, (False,)))
    for head in made.values():
        head.build((None, 3))

    def losses_of(labels, embeddings, names=tuple(made)):
        values = [made[name].loss(labels, embeddings) for name in names]
        head = made["sampled"]
        sample = head.sample(labels, 0)
        rows = ops.take(head.kernel, sample.ids, axis=0)
        values.append(head.statistics(labels, embeddings, sample=(sample, rows)).loss)
        return ops.stack(values)

    expected = to_numpy(losses_of(ids.astype("int32"), x))
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(to_numpy(losses_of(ids.astype(dtype), x)), expected)
    if classes == 256:  # XLA takes its time; labels are handled alike in all
        names = "margin False", "contrastive stream"
        kept = [list(made).index(name) for name in names] + [-1]
        graph = in_graph(lambda y, e: losses_of(y, e, names), ids.astype(dtype), x, jit_compile=True)
        np.testing.assert_allclose(graph, expected[kept], rtol=1e-4, atol=1e-4)
    elif classes < 1000:  # compiled, the large one costs more than it shows
        graph = in_graph(losses_of, ids.astype(dtype), x)
        np.testing.assert_allclose(graph, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "float16", "int64"])
def test_one_hot_rows_may_be_of_every_type(dtype):
    _, ids, cosines = LOSSES["normface"]
    rows = np.eye(3)[ids].astype(dtype)
    for make in CLASS_LOSSES.values():
        loss = make(reduction=None)
        for way in (loss, loss.call):
            np.testing.assert_allclose(to_numpy(way(rows, cosines)), to_numpy(loss(ids, cosines)), rtol=1e-5, atol=1e-6)
    for head in heads(3, (False,)).values():
        x = np.ones((6, 4), dtype="float32")
        np.testing.assert_array_equal(to_numpy(head.loss(rows, x)), to_numpy(head.loss(ids, x)))


@pytest.mark.parametrize(
    ("dtype", "bad"), [("int8", -1), ("uint8", 255), ("int16", -7), ("uint16", 65_535), ("uint32", 2**32 - 1)]
)
def test_labels_out_of_range_are_found_in_every_type(dtype, bad):
    labels = np.array([0, bad], dtype=dtype)
    cosines = np.zeros((2, 200), dtype="float32")
    head = MarginSoftmaxHead(200, fused=False)
    head.build((None, 3))
    for function in (lambda y: NormFaceLoss(reduction=None).call(y, cosines), lambda y: head.loss(y, np.ones((2, 3)))):
        with pytest.raises(ValueError, match=rf"y_true\[1\]={bad}"):
            function(labels)
        np.testing.assert_array_equal(np.isnan(in_graph(function, labels)), [False, True])


def test_types_that_cannot_hold_all_classes_are_refused():
    for dtype, classes in (("float16", 3000), ("bfloat16", 300)):
        labels = ops.cast(np.array([0, 1]), dtype)
        with pytest.raises(ValueError, match=f"`y_true` of type {dtype} .*num_classes={classes}"):
            NormFaceLoss().call(labels, np.zeros((2, classes), dtype="float32"))


def fitted(labels):
    """The losses of a training with all heads, and of one with the sum of all losses on class ids."""
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    keras.utils.set_random_seed(0)
    every = [
        MarginSoftmaxHead(256, AdditiveCosine(0.2)),
        SampledMarginSoftmaxHead(256, minimum_sample=64),
        AgentContrastiveHead(256, negative_margin=1.9),
        AgentTripletHead(256),
    ]
    model = EmbeddingModel(keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)]), every)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    losses = [make() for make in CLASS_LOSSES.values()]
    plain = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), CosineDense(256)])
    plain.compile(keras.optimizers.SGD(0.1), lambda y, c: sum(f.call(y, c) for f in losses), jit_compile=False)
    return [m.fit(x, labels, batch_size=8, epochs=2, verbose=0).history["loss"] for m in (model, plain)]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the sampled head is trained on TensorFlow")
def test_a_training_is_the_same_with_narrow_labels():
    ids = np.array([0, 255, 128, 7, 0, 200, 254, 1])
    expected = fitted(ids.astype("int32"))
    assert np.isfinite(expected).all()
    assert fitted(ids.astype("uint8")) == expected


REFUSED = {
    "complex": lambda y: np.asarray(y) + 1j,
    "complex list": lambda y: (np.asarray(y) + 0j).tolist(),
    "str": lambda y: np.asarray(y).astype(str),
    "str list": lambda y: np.asarray(y).astype(str).tolist(),
    "bytes": lambda y: np.asarray(y).astype("S"),
    "object": lambda y: np.asarray(y).astype(object),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_numbers_is_refused(kind):
    for make, y_true, y_pred in LOSSES.values():
        for way in (make(), make().call):
            with pytest.raises(ValueError, match=r"`y_true` must hold integers.*Received: y_true of type"):
                way(REFUSED[kind](y_true), y_pred)
            with pytest.raises(ValueError, match=r"`y_pred` must hold integers.*Received: y_pred of type"):
                way(y_true, REFUSED[kind](y_pred))
    for head in heads(3, (False,)).values():
        head.build((None, 4))
        with pytest.raises(ValueError, match="`y_true` must hold integers"):
            head.loss(REFUSED[kind]([0, 1]), np.ones((2, 4)))
        with pytest.raises(ValueError, match="`embeddings` must hold integers"):
            head.loss([0, 1], REFUSED[kind](np.ones((2, 4))))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are always known elsewhere")
def test_unknown_ranks_sparse_and_ragged_labels_are_refused():
    import tensorflow as tf

    for make, y_true, y_pred in LOSSES.values():
        for way in (make(), make().call):
            graph = tf.function(lambda y, way=way, p=y_pred: way(y, p), autograph=False)
            with pytest.raises(ValueError, match="`y_true` must have a known number of axes"):
                graph.get_concrete_function(tf.TensorSpec(None, "int32"))
            for other in (tf.sparse.from_dense(y_true), tf.ragged.constant([[0], [1, 2]])):
                with pytest.raises(ValueError, match="`y_true` must be a dense tensor"):
                    way(other, y_pred)
    head = heads(3, (False,))["softmax"]
    graph = tf.function(lambda y: head.loss(y, np.ones((2, 4))), autograph=False)
    with pytest.raises(ValueError, match="`y_true` must have a known number of axes"):
        graph.get_concrete_function(tf.TensorSpec(None, "int32"))
    with pytest.raises(ValueError, match=r"`y_true` must hold integers.*string"):
        head.loss(tf.constant(["0", "1"]), np.ones((2, 4)))


def kinds_of(array):
    """The same numbers as a user may hold them."""
    yield array.tolist()
    yield tuple(map(tuple, array.tolist())) if array.ndim > 1 else tuple(array.tolist())
    yield array.astype("float64")
    yield [ops.convert_to_tensor(row) for row in array]
    yield list(array)
    yield keras.Variable(array, dtype=str(array.dtype))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        yield tf.Variable(array)
        yield tf.Variable(array.astype("float64"))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_variables_arrays_and_lists(name):
    make, y_true, y_pred = LOSSES[name]
    loss, y_pred = make(reduction=None), y_pred.astype("float32")
    expected = to_numpy(loss(y_true, y_pred))
    for way in (loss, loss.call):
        for labels, predictions in zip(kinds_of(y_true), kinds_of(y_pred), strict=True):
            np.testing.assert_array_equal(to_numpy(way(labels, predictions)), expected)
            assert keras.backend.standardize_dtype(way(labels, predictions).dtype) == "float32"


def test_heads_and_functions_take_variables_arrays_and_lists():
    ids, x = np.array([0, 2, 1], dtype="int32"), np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    made = heads(3, (False, "stream")).values()
    expected = [to_numpy(head.loss(ids, x)) for head in made]
    cosines, distances = to_numpy(sphere.cosines(x, x)), to_numpy(pairwise_distance(x))
    margin, target = AdditiveCosine(0.2), to_numpy(sphere.cosines(x, x)) - 0.2 * np.eye(3)[ids]
    for labels, embeddings in zip(kinds_of(ids), kinds_of(x), strict=True):
        for head, values in zip(made, expected, strict=True):
            np.testing.assert_array_equal(to_numpy(head.loss(labels, embeddings)), values)
        np.testing.assert_allclose(to_numpy(sphere.cosines(embeddings, x.tolist())), cosines, atol=1e-6)
        np.testing.assert_allclose(to_numpy(pairwise_distance(embeddings)), distances, atol=1e-6)
    for matrix in kinds_of(cosines.astype("float32")):
        np.testing.assert_allclose(to_numpy(margin_cosines(matrix, ids, margin)), target, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own variables")
def test_the_gradient_reaches_a_variable():
    import tensorflow as tf

    _, ids, cosines = LOSSES["am_softmax"]
    gradients = []
    for y_pred in (tf.Variable(cosines, dtype="float32"), tf.constant(cosines, dtype="float32")):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = AMSoftmaxLoss()(ids, y_pred)
        gradients.append(to_numpy(tape.gradient(value, y_pred)))
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert np.abs(gradients[0]).max() > 0


def test_a_list_of_numpy_numbers_is_an_array():
    labels = [np.int64(2), np.int64(0), np.int64(1)]
    assert _labels.as_tensor("y_true", labels).shape == (3,)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(_labels.as_tensor("y_true", labels)), [2, 0, 1])
