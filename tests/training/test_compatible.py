"""A model that is trained with an older one's class centres: its probes against the older one's gallery."""

import keras
import numpy as np
import pytest

from keras_normface import EmbeddingModel, MarginSoftmaxHead, embedding_model
from keras_normface.data import ArrayBatches
from keras_normface.heads import DistillationHead, FixedCentersHead
from keras_normface.metrics import rank_accuracy
from keras_normface.training import class_means, fit_heads, fit_resumable

CLASSES, EACH, LATENT, DIM = 60, 8, 6, 8
OLD, NEW = np.arange(20), np.arange(40)  # the other twenty are seen by neither


def samples():
    """Noisy views of the classes, in 24 dimensions."""
    rng = np.random.default_rng(0)
    latent = np.repeat(rng.normal(size=(CLASSES, LATENT)), EACH, axis=0) + 0.15 * rng.normal(
        size=(CLASSES * EACH, LATENT)
    )
    return np.tanh(latent @ rng.normal(size=(LATENT, 24))).astype("float32"), np.repeat(np.arange(CLASSES), EACH)


X, Y = samples()


def trained(classes, seed, older=None):
    """A function from inputs to unit embeddings."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(48, activation="relu"), keras.layers.Dense(DIM)]
    heads, chosen = [MarginSoftmaxHead(len(classes), scale=15.0)], np.isin(Y, classes)
    if older is not None:
        heads.append(FixedCentersHead(len(classes), scale=15.0))
        heads[1].set_centers(class_means(older(X[chosen]), Y[chosen], len(classes)))
    model = EmbeddingModel(keras.Sequential([keras.Input((24,)), *layers]), heads)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    model.fit(X[chosen], Y[chosen], batch_size=32, epochs=25, verbose=0)
    cut = embedding_model(model)
    return lambda x: cut.predict(x, verbose=0)


def test_new_probes_find_their_people_in_an_old_gallery():
    old = trained(OLD, 0)
    unseen = ~np.isin(Y, NEW)
    first = np.arange(len(Y)) % EACH < EACH // 2
    gallery, probes = unseen & first, unseen & ~first

    def rank_one(searched, searching):
        return rank_accuracy(searched(X[gallery]), Y[gallery], searching(X[probes]), Y[probes])

    other, compatible = trained(NEW, 1), trained(NEW, 2, older=old)
    assert rank_one(old, old) > 0.7
    assert rank_one(other, other) > 0.7
    assert rank_one(old, other) < 0.2  # of twenty people, 0.05 by chance
    assert rank_one(old, compatible) > 0.6
    assert rank_one(compatible, compatible) > 0.7


def small_model():
    heads = [MarginSoftmaxHead(3), FixedCentersHead(3), DistillationHead()]
    model = EmbeddingModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]), heads)
    heads[1].set_centers(np.eye(3, 5))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=False)
    return model


def test_fixed_centers_and_a_teacher_are_resumed(tmp_path):
    rng = np.random.default_rng(0)
    y = {"labels": np.arange(12) % 3, "teacher": rng.normal(size=(12, 5)).astype("float32")}
    data = ArrayBatches(rng.normal(size=(12, 4)).astype("float32"), y, batch_size=4, seed=0)
    weights = []
    for name, parts in (("whole", [6]), ("cut", [4, 6])):
        for steps in parts:
            keras.utils.set_random_seed(0)
            model = small_model()
            fit_resumable(model, data, None, tmp_path / name, steps=steps, verbose=0)
        weights.append(model.get_weights())
    np.testing.assert_array_equal(model.heads[1].kernel, np.eye(3, 5))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("centers", ["class_means", "random"])
def test_the_steps_of_the_heads_leave_them(tmp_path, centers):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    model = EmbeddingModel(net, [MarginSoftmaxHead(3), FixedCentersHead(3)])
    model.heads[1].set_centers(np.eye(3, 5))
    images = np.random.default_rng(0).normal(size=(9, 2, 2, 3)).astype("float32")
    data = ArrayBatches(images, np.arange(9) % 3, batch_size=4, seed=0, drop_remainder=False)
    options = {"optimizer": keras.optimizers.SGD(0.1), "steps": 2, "batch_size": 6, "initial_centers": centers}
    fit_heads(model, data, tmp_path, **options)
    np.testing.assert_array_equal(model.heads[1].kernel, np.eye(3, 5))
