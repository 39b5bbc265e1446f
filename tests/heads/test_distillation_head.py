"""The head without classes: its terms, its map, what is watched, training alone and beside others, saving."""

import keras
import numpy as np
import pytest

from keras_normface import EmbeddingModel
from keras_normface.heads import DistillationHead, FixedCentersHead, MarginSoftmaxHead
from tests.support import oracle
from tests.support.helpers import COMPILED, central_differences, check_layer, in_graph, to_numpy, value_and_gradients

IDS = np.arange(24) % 4


def data(rows=6, dim=4, own=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, dim)), rng.normal(size=(rows, own))


def expected(teacher, pupil, cosine_weight=1.0, relation_weight=1.0, kernel=None):
    mapped = pupil if kernel is None else pupil @ kernel.T
    loss = relation_weight * oracle.relational_distillation_losses(teacher, pupil)
    return loss + (cosine_weight * oracle.cosine_distillation_losses(teacher, mapped) if cosine_weight else 0)


@pytest.mark.parametrize(("cosine_weight", "relation_weight"), [(1.0, 1.0), (2.0, 0.0), (0.0, 3.0)])
def test_values_and_gradients(cosine_weight, relation_weight):
    teacher, pupil = data()
    head = DistillationHead(cosine_weight=cosine_weight, relation_weight=relation_weight)
    value, (slope,) = value_and_gradients(lambda x: head.loss(teacher, x), pupil)
    np.testing.assert_allclose(value, expected(teacher, pupil, cosine_weight, relation_weight), atol=1e-5)
    numeric = central_differences(lambda x: expected(teacher, x, cosine_weight, relation_weight), pupil)[0]
    np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-4)
    assert head.weights == []


def test_a_pupil_of_another_dimension_is_mapped_for_the_cosine_alone():
    teacher, pupil = data(own=3)
    head = DistillationHead(dim=4)
    head.build((None, 3))
    kernel = to_numpy(head.kernel)
    value, (slope,) = value_and_gradients(lambda x: head.loss(teacher, x), pupil)
    np.testing.assert_allclose(value, expected(teacher, pupil, kernel=kernel), atol=1e-5)
    numeric = central_differences(lambda x: expected(teacher, x, kernel=kernel), pupil)[0]
    np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-4)
    assert head.compute_output_shape((None, 3)) == (None, 4)
    relations = DistillationHead(dim=4, cosine_weight=0.0)
    statistics = relations.statistics(teacher, pupil.astype("float32"))
    assert relations.weights == []
    np.testing.assert_allclose(to_numpy(statistics.loss), expected(teacher, pupil, 0.0), atol=1e-6)
    assert np.isnan(to_numpy(statistics.target_cosine)).all()


def test_what_is_watched():
    teacher, pupil = data()
    statistics = DistillationHead().statistics(teacher, pupil.astype("float32"))
    cosines = oracle.cosine_matrix(pupil, teacher)
    np.testing.assert_allclose(to_numpy(statistics.target_cosine), np.diag(cosines), atol=1e-6)
    np.testing.assert_array_equal(to_numpy(statistics.correct), cosines.argmax(axis=1) == np.arange(6))


@pytest.mark.parametrize("make", [DistillationHead, lambda: DistillationHead(dim=7)])
def test_generic(make, tmp_path):
    check_layer(make, (4,), tmp_path)


def test_types_graph_and_one_sample():
    teacher, pupil = (array.astype("float32") for array in data())
    head = DistillationHead()
    losses = to_numpy(head.loss(teacher, pupil))
    graph = in_graph(lambda t, x: head.loss(t, x), teacher, pupil, jit_compile=True)
    np.testing.assert_allclose(graph, losses, rtol=1e-5, atol=1e-6)
    half = head.loss(keras.ops.cast(teacher, "float16"), keras.ops.cast(pupil, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    one = DistillationHead(relation_weight=5.0)
    alone = to_numpy(one.loss(teacher[:1], pupil[:1]))
    np.testing.assert_allclose(alone, oracle.cosine_distillation_losses(teacher[:1], pupil[:1]), atol=1e-6)


def problem(own=4):
    """Inputs, labels and a teacher that is a fixed map of the inputs."""
    rng = np.random.default_rng(0)
    x = (np.repeat(np.eye(4), 6, axis=0) + 0.3 * rng.normal(size=(24, 4))).astype("float32")
    return x, {
        "labels": np.repeat(np.arange(4), 6),
        "teacher": np.tanh(x @ rng.normal(size=(4, own))).astype("float32"),
    }


def pupil_model(heads, weights=None, own=4):
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(own)])
    return EmbeddingModel(backbone, heads, head_weights=weights)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_pupil_learns_its_teacher(policy):
    x, y = problem()
    keras.config.set_dtype_policy(policy)
    try:
        model = pupil_model([DistillationHead()])
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(0.05), jit_compile=COMPILED)
    before = model.evaluate(x, y["teacher"], verbose=0, return_dict=True)  # rows alone: there are no other heads
    model.fit(np.tile(x, (40, 1)), np.tile(y["teacher"], (40, 1)), batch_size=24, verbose=0)
    after = model.evaluate(x, y["teacher"], verbose=0, return_dict=True)
    assert after["loss"] < 0.2 * before["loss"]
    assert after["target_angle_degrees"] < 25 < before["target_angle_degrees"]


def test_beside_a_margin_loss_each_head_gets_its_own():
    x, y = problem()
    model = pupil_model([MarginSoftmaxHead(4, scale=10.0), DistillationHead()], [0.5, 2.0])
    model.compile(keras.optimizers.SGD(0.0))
    embeddings = model.predict(x, verbose=0)
    margin, distillation = model.heads
    losses = 0.5 * to_numpy(margin.loss(y["labels"], embeddings))
    losses = losses + 2.0 * to_numpy(distillation.loss(y["teacher"], embeddings))
    found = model.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    fitted = model.fit(x, y, batch_size=24, shuffle=False, verbose=0).history
    assert fitted["loss"][0] == pytest.approx(losses.mean(), rel=1e-5)
    correct = to_numpy(margin.statistics(y["labels"], embeddings).correct).mean()
    assert found["accuracy"] == pytest.approx(correct, abs=1e-6)


def test_saved_and_loaded(tmp_path):
    x, y = problem(own=6)
    model = pupil_model([MarginSoftmaxHead(4), DistillationHead(dim=6, relation_weight=2.5)])
    model.compile("adam")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.heads[1].get_config() == model.heads[1].get_config()
    np.testing.assert_array_equal(to_numpy(again.heads[1].kernel), to_numpy(model.heads[1].kernel))
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    results = [m.evaluate(x, y, verbose=0, return_dict=True)["loss"] for m in (model, again)]
    assert results[0] == results[1]


def test_cost_is_that_of_the_map():
    alone, mapped = DistillationHead().cost(8, dim=4), DistillationHead(dim=6).cost(8, dim=4)
    assert (alone.kernel, mapped.kernel) == (0, 4 * 4 * 6)
    assert mapped.total > alone.total > 0
    assert "operations" in str(alone)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DistillationHead(dim=0), "`dim`"),
        (lambda: DistillationHead(cosine_weight=-1), "`cosine_weight`"),
        (lambda: DistillationHead(relation_weight=float("nan")), "`relation_weight`"),
        (lambda: DistillationHead(cosine_weight=0, relation_weight=0), "must not both be 0"),
        (lambda: DistillationHead().loss(IDS[:3], np.ones((3, 4))), '`teacher`.*"labels": ids'),
        (lambda: DistillationHead().loss(np.ones((3, 5)), np.ones((3, 4))), r"`teacher`.*DistillationHead\(dim"),
        (lambda: DistillationHead(5).loss(np.ones((3, 4)), np.ones((3, 4))), "`teacher`.*batch, 5"),
        (lambda: DistillationHead().statistics(np.ones((3, 4)), np.ones((3, 4)), sample=1), "`sample`"),
        (lambda: pupil_model([DistillationHead()]).compute_loss(y={"labels": IDS}, y_pred=np.ones((3, 4))), "`y` must"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_fixed_centers_stay_and_pull(tmp_path):
    x, y = problem()
    centers = np.roll(np.eye(4, dtype="float32"), 1, axis=0)
    model = pupil_model([MarginSoftmaxHead(4), FixedCentersHead(4, scale=10.0)], [0.1, 1.0])
    model.heads[1].set_centers(3 * centers)
    model.trainable = True
    model.compile(keras.optimizers.Adam(0.05))
    first = to_numpy(model.heads[0].kernel).copy()
    model.fit(np.tile(x, (100, 1)), np.tile(y["labels"], 100), verbose=0)
    np.testing.assert_array_equal(to_numpy(model.heads[1].kernel), 3 * centers)
    assert not np.array_equal(to_numpy(model.heads[0].kernel), first)
    cosines = oracle.cosine_matrix(model.predict(x, verbose=0), centers)
    assert (cosines.argmax(axis=1) == y["labels"]).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again.heads[1].kernel), 3 * centers)
    assert again.heads[1].get_config() == model.heads[1].get_config()


def test_fixed_centers_must_be_given_and_fit():
    head = FixedCentersHead(3)
    assert np.isnan(to_numpy(head.loss(np.arange(3), np.eye(3, dtype="float32")))).all()
    for wrong in (np.eye(4), np.full((3, 3), np.nan), np.diag([1.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match="`centers`"):
            head.set_centers(wrong)
    head.set_centers(np.eye(3))
    same = MarginSoftmaxHead(3)
    same.build((None, 3))
    same.kernel.assign(np.eye(3))
    x = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    np.testing.assert_array_equal(to_numpy(head.loss(np.arange(3), x)), to_numpy(same.loss(np.arange(3), x)))
