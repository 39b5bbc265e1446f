"""Verification during training, against the plain computation."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_normface import EmbeddingModel, MarginSoftmaxHead, Preprocessing, fit_resumable
from keras_normface.data import ArrayBatches, read_pair_file
from keras_normface.layers import PixelScaling
from keras_normface.metrics import cross_validated_accuracy
from keras_normface.training import PairEvaluation, ScalarLog
from tests.support import bombs, faces, tiny

SIZE = (12, 10)
ORL = Preprocessing(SIZE)
SAME = [True, True, False, False] * 2


def small(person, image, size=SIZE):
    with Image.open(io.BytesIO(faces.face(person, image))) as picture:
        return np.asarray(picture.resize(size[::-1]))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pairs(size=SIZE):
    """16 images, the first of each person twice and more."""
    images = []
    for number, same in enumerate(SAME):
        images += [small(number % 4 + 1, 1, size), small(number % 4 + (1 if same else 2), 2 + number // 4, size)]
    return images


def model(scales=False):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((*SIZE, 3), dtype="uint8"), PixelScaling(ORL)] if scales else [keras.Input((*SIZE, 3))]
    net = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(6)])
    net = EmbeddingModel(net, MarginSoftmaxHead(3))
    net.compile(keras.optimizers.SGD(0.01))
    return net


def by_hand(net, images, scaled, mirror=True):
    """One image after another."""

    def embed(pixels):
        pixels = np.float32(pixels) if scaled else (np.float32(pixels) - 127.5) / 128
        return np.float64(keras.ops.convert_to_numpy(net(pixels[None]))[0])

    rows = [embed(x) + embed(x[:, ::-1]) if mirror else embed(x) for x in images]
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(rows[0::2], rows[1::2], strict=True)]
    return cross_validated_accuracy(cosines, SAME, folds=2)


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_encoded_images_and_arrays_are_what_the_plain_computation_says(scales, mirror):
    net, images = model(scales), pairs()
    expected = by_hand(net, images, scales, mirror)
    for given in (list(map(png, images)), np.stack(images)):
        options = {"preprocessing": ORL, "folds": 2, "flip": "sum" if mirror else "none", "batch_size": 5}
        evaluation = PairEvaluation(given, SAME, **options)
        result = evaluation.evaluate(net)
        np.testing.assert_array_equal(result.accuracies, expected.accuracies)
        np.testing.assert_allclose(result.thresholds, expected.thresholds, atol=1e-5)


def test_a_pair_file_and_each_image_is_embedded_once(tmp_path):
    import pickle

    images = list(map(png, pairs()))
    (tmp_path / "orl.bin").write_bytes(pickle.dumps((images, SAME)))
    file = read_pair_file(tmp_path / "orl.bin")
    evaluation = PairEvaluation(file.images, file.same, preprocessing=ORL, folds=2, flip="none")
    rows = []

    class Counting(keras.Model):
        def predict(self, batches, verbose):
            rows.extend(x for batch in batches for x in batch.numpy())
            return np.eye(len(rows))

    evaluation.evaluate(Counting())
    assert len(rows) == len(set(images)) < len(images)


def test_larger_images_are_cut_in_the_middle():
    wide = pairs((16, 14))
    given = list(map(png, wide))
    net = model()
    expected = by_hand(net, [image[2:14, 2:12] for image in wide], False)
    for images in (given, np.stack(wide)):
        result = PairEvaluation(images, SAME, preprocessing=ORL, folds=2, center_crop=True).evaluate(net)
        np.testing.assert_allclose(result.thresholds, expected.thresholds, atol=1e-5)
    with pytest.raises(ValueError, match=r"(?s)size \(12, 10\).*center_crop=False.*16"):
        PairEvaluation(given, SAME, preprocessing=ORL, folds=2)


def events(directory):
    """Everything in the event files, by tag: step to value."""
    found = {}
    for path in sorted(directory.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name in ("scalars", "")
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_history_and_event_files_have_it_at_epochs_and_steps_after_a_crash_too(tmp_path):
    x = np.stack([ORL(image[None])[0] for image in pairs()] * 2)
    data = ArrayBatches(x, np.arange(len(x)) % 3, batch_size=4, seed=0)  # 8 steps an epoch
    options = {"preprocessing": ORL, "folds": 2, "name": "orl", "every_steps": 3}

    def run(directory, *extra):
        net, evaluation = model(), PairEvaluation(np.stack(pairs()), SAME, **options)
        callbacks = [evaluation, ScalarLog(directory / "logs", every_steps=4), *extra]
        history = fit_resumable(
            net, data, None, directory / "ckpt", steps=14, save_every=2, callbacks=callbacks, verbose=0
        )
        return net, evaluation, history.history

    net, evaluation, history = run(tmp_path / "whole")
    assert [step for step, _ in evaluation.results] == [3, 6, 8, 9, 12, 14]
    last = by_hand(net, pairs(), False)
    assert history["val_orl_accuracy"] == [evaluation.results[2][1].mean, last.mean]
    assert history["val_orl_standard_error"][1] == last.standard_error
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", tiny.CutAt(11))
    _, _, cut_history = run(tmp_path / "cut")
    assert cut_history == history
    for directory in (tmp_path / "whole/logs", tmp_path / "cut/logs"):
        found = events(directory)
        assert sorted(found["loss"]) == sorted(found["val_orl_accuracy"]) == [8, 14]
        assert sorted(found["batch_loss"]) == [4, 8, 12]
        assert found["learning_rate"][14] == pytest.approx(0.01)
        np.testing.assert_allclose([found["loss"][8], found["loss"][14]], history["loss"], rtol=1e-6)


def test_what_does_not_fit_is_refused():
    images = np.stack(pairs())
    for given, same, options, words in [
        (images, SAME[:-1], {"folds": 2}, "two images for each"),
        (images, SAME, {"folds": 3}, "`folds` must divide"),
        (images, SAME, {"folds": 2, "every_steps": 0}, "every_steps=0"),
        ([png(x) for x in images], SAME, {"folds": 2}, "`preprocessing` must be given"),
        (images.reshape(16, -1), SAME, {"folds": 2}, "2 dimensions"),
        ([], [], {"folds": 2, "flip": "none"}, "Received: none"),
    ]:
        with pytest.raises(ValueError, match=words):
            PairEvaluation(given, same, **options)
    with pytest.raises(ValueError, match="every_steps=0"):
        ScalarLog("nowhere", every_steps=0)
    other = PairEvaluation(images, SAME, preprocessing=ORL.replace(channels="BGR"), folds=2)
    with pytest.raises(ValueError, match="channels"):
        other.evaluate(model(scales=True))
    with pytest.raises(ValueError, match=r"outputs of shape \(12, 12, 10, 3\)"):
        PairEvaluation(np.float32(images), SAME, folds=2, flip="none").evaluate(
            keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.ReLU()])
        )


def test_data_of_unknown_length_are_refused(tmp_path):
    def endless():
        while True:
            yield np.zeros((2, *SIZE, 3)), np.zeros(2)

    with pytest.raises(ValueError, match="known number of batches"):
        model().fit(endless(), steps_per_epoch=None, callbacks=[ScalarLog(tmp_path)], verbose=0)


def test_an_image_bomb_among_the_pairs_is_refused_before_it_is_decoded():
    images = [png(image) for image in pairs()]
    images[5] = bombs.png(9_000, 9_000)
    with pytest.raises(ValueError, match=r"number 5 of `images` is too large: .* 81,000,000 pixels"):
        PairEvaluation(images, SAME, preprocessing=ORL, folds=2)
