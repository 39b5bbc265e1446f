"""The heads trained on a network that stays as it is, and class centres at the means of the classes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface import EmbeddingModel, MarginSoftmaxHead
from keras_normface.data import ArrayBatches
from keras_normface.heads import AgentContrastiveHead
from keras_normface.training import class_means, fit_heads
from tests.support import tiny

CLASSES, SIDE, DIM = 3, 4, 5
RNG = np.random.default_rng(0)
LABELS = np.arange(14) % CLASSES
IMAGES = (RNG.normal(size=(14, SIDE, SIDE, 3)) + LABELS[:, None, None, None]).astype("float32")


def model(heads=None):
    """Batch norm and dropout, which must be as in inference, and a head of each kind."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    net = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers, keras.layers.Dense(DIM)])
    return EmbeddingModel(net, heads or [MarginSoftmaxHead(CLASSES, scale=10.0), AgentContrastiveHead(CLASSES)])


def data(images=IMAGES, labels=LABELS):
    return ArrayBatches(images, labels, batch_size=4, seed=3, drop_remainder=False)


def fitted(net, directory, steps, **options):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return fit_heads(net, data(), directory, optimizer=optimizer, steps=steps, batch_size=8, **options)


def means_by_hand(net):
    """Each image and its mirror image, one after another."""
    means = []
    for number in range(CLASSES):
        rows = []
        for image in IMAGES[np.flatnonzero(np.equal(LABELS, number))]:
            for side in (image, image[:, ::-1]):
                row = np.float64(keras.ops.convert_to_numpy(net.backbone(side[None], training=False))[0])
                rows.append(row / np.sqrt(row @ row))
        mean = np.sum(rows, axis=0)
        means.append(mean / np.sqrt(mean @ mean))
    return np.array(means)


def test_centres_begin_at_the_means_of_images_and_mirror_images(tmp_path):
    net = model()
    history = fitted(net, tmp_path, 0)
    assert history.epoch == []
    for head in net.heads:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(head.kernel), means_by_hand(net), atol=1e-6)


def test_the_heads_are_trained_and_the_network_stays_bit_for_bit(tmp_path):
    net = model()
    before, means = net.backbone.get_weights(), means_by_hand(net)
    seen = []
    history = fitted(net, tmp_path, 30, progress=lambda *done: seen.append(done))
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for ours, theirs in zip(net.backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for head in net.heads:
        assert np.abs(keras.ops.convert_to_numpy(head.kernel) - means).max() > 1e-2


def test_centres_may_begin_where_they_are(tmp_path):
    net = model()
    before = [keras.ops.convert_to_numpy(head.kernel).copy() for head in net.heads]
    fitted(net, tmp_path, 0, initial_centers="random")
    for head, theirs in zip(net.heads, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(head.kernel), theirs)


def test_what_was_cut_is_resumed_and_ends_the_same(tmp_path):
    whole, cut = model(), model()
    fitted(whole, tmp_path / "whole", 9)
    fitted(cut, tmp_path / "cut", 4)
    fitted(cut, tmp_path / "cut", 9)
    for ours, theirs in zip(cut.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"initial_centers": "zeros"}, "`initial_centers`"),
        ({"steps": -1}, "`steps`"),
        ({"batch_size": 99}, "`batch_size`"),
        ({"model": tiny.model()}, "`model`"),
    ],
)
def test_what_does_not_fit_is_named(changes, argument, tmp_path):
    options = {"model": model(), "optimizer": keras.optimizers.SGD(), "steps": 2, "batch_size": 4, **changes}
    with pytest.raises(ValueError, match=argument):
        fit_heads(options.pop("model"), data(), tmp_path, **options)


def test_a_class_without_an_image_is_named(tmp_path):
    options = {"optimizer": keras.optimizers.SGD(), "steps": 1, "batch_size": 4}
    with pytest.raises(ValueError, match="none of class 2"):
        fit_heads(model(), data(IMAGES[:8], LABELS[:8] % 2), tmp_path, **options)


def test_class_means_by_hand():
    rows = [[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]]
    found = class_means(rows, [1, 1, 0], 2)
    mean = np.array([0.6, 0.8 + 1.0]) / 2
    np.testing.assert_allclose(found, [[1, 0], mean / np.sqrt(mean @ mean)], rtol=1e-6)
    assert found.dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
def test_class_means_do_not_see_norms_or_order_and_turn_with_the_rows(seed, classes, dim):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 5)])
    rows = rng.normal(size=(len(labels), dim)) + 3.0
    turn, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    order = rng.permutation(len(labels))
    found = class_means(rows, labels, classes)
    other = class_means((rows * rng.uniform(0.1, 9, (len(labels), 1)))[order] @ turn, labels[order], classes)
    np.testing.assert_allclose(other, found @ turn, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "labels", "classes", "words"),
    [
        ([[1.0, 0.0]], [0, 0], 1, "`labels`"),
        ([[1.0, 0.0]], [0.0], 1, "`labels`"),
        ([[1.0, 0.0]], [1], 1, "`labels` must be from 0 to 0"),
        ([[1.0, 0.0]], [-1], 1, "`labels` must be from 0 to 0"),
        ([[1.0, 0.0]], [0], 2, "none of class 1"),
        ([[1.0, 0.0], [0.0, 0.0]], [0, 0], 1, r"embeddings\[1\]"),
        ([[np.nan, 0.0], [1.0, 0.0]], [0, 0], 1, r"embeddings\[0\]"),
        ([[1.0, 0.0], [-2.0, 0.0]], [0, 0], 1, "those of class 0 cancel"),
        ([[1.0, 0.0]], [0], 0, "`num_classes`"),
    ],
)
def test_class_means_that_are_not_there(rows, labels, classes, words):
    with pytest.raises(ValueError, match=words):
        class_means(rows, labels, classes)
