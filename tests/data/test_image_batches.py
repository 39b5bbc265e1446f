"""The training pipeline: order, share, resume, pixels."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_normface import CosineDense, EmbeddingModel, NormFaceLoss, Preprocessing, embedding_model, fit_resumable
from keras_normface.data import Augmentation, IdentityFolder, ImageBatches, ImageList, RecordIO, TFRecordShards
from keras_normface.heads import DistillationHead, MarginSoftmaxHead
from keras_normface.layers import PixelScaling
from keras_normface.metrics import equal_error_rate, pair_scores
from keras_normface.preprocessing import SCALINGS
from tests.support import bombs, faces, tiny

ORL = Preprocessing(size=(112, 92))
PEOPLE, IMAGES = 5, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return IdentityFolder(faces.write_folder(tmp_path_factory.mktemp("faces") / "folder", PEOPLE, IMAGES))


@pytest.fixture(scope="module")
def readers(tmp_path_factory, folder):
    root = tmp_path_factory.mktemp("shapes")
    for shape in ("list", "shards"):
        (root / shape).mkdir()
    faces.write_record_io(root / "train", PEOPLE, IMAGES)
    faces.write_shards(root / "shards", PEOPLE, IMAGES, shards=1)  # in the order of the others
    return {
        "folder": folder,
        "list": ImageList(faces.write_list(root / "list/faces.txt", PEOPLE, IMAGES)),
        "recordio": RecordIO(root / "train.rec"),
        "shards": TFRecordShards(root / "shards"),
    }


def batches(data, epoch=0, step=0):
    return [tuple(part.numpy() for part in batch) for batch in data(epoch, step)]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for batch, other in zip(ours, theirs, strict=True):
        for part, same in zip(batch, other, strict=True):
            np.testing.assert_array_equal(part, same)


class Numbered:
    """As a reader: images of 2 x 2 pixels that hold their number; counts what is read."""

    def __init__(self, samples):
        self.labels, self.read = np.arange(samples, dtype="int32"), []

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return str(index)

    def encoded(self, indices):
        self.read.extend(indices.tolist())
        return [png(np.full((2, 2, 3), index, "uint8")) for index in indices]


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


TINY = Preprocessing(size=(2, 2), scale=1, offset=0)


@pytest.mark.parametrize("shape", ["list", "recordio", "shards"])
def test_every_shape_gives_the_same_batches_for_a_seed(readers, shape):
    data, same = (ImageBatches(readers[name], 6, ORL, seed=3) for name in (shape, "folder"))
    assert data.steps_per_epoch == 3
    assert_equal(batches(data, 2), batches(same, 2))


def test_pixels_are_those_of_the_file_mirrored_or_not_and_scaled(folder):
    data = ImageBatches(folder, PEOPLE * IMAGES, ORL, seed=1)
    ((images, labels),) = batches(data)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    known = {}
    for index in range(len(folder)):
        encoded, label = folder.sample(index)
        pixels = tf.io.decode_jpeg(encoded).numpy().astype("float64")
        for mirrored in (False, True):
            values = (pixels[:, ::-1] if mirrored else pixels) / 128 - 127.5 / 128
            known[values.astype("float32").tobytes()] = (index, label, mirrored)
    found = [known[image.tobytes()] for image in images]
    assert sorted(index for index, _, _ in found) == list(range(PEOPLE * IMAGES))
    assert [label for _, label, _ in found] == labels.tolist()
    assert 3 <= sum(mirrored for _, _, mirrored in found) <= 17
    unchanged = batches(ImageBatches(folder, PEOPLE * IMAGES, ORL, seed=1, augmentation=None))[0][0]
    assert not any(known[image.tobytes()][2] for image in unchanged)


def test_epochs_and_seeds_differ_and_repeat():
    order = {
        (seed, epoch): [b[1].tolist() for b in batches(ImageBatches(Numbered(40), 8, TINY, seed), epoch)]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({str(labels) for labels in order.values()}) == 4
    assert order[1, 1] == [b[1].tolist() for b in batches(ImageBatches(Numbered(40), 8, TINY, 1), 1)]
    for labels in order.values():
        assert sorted(np.concatenate(labels).tolist()) == list(range(40))


def test_a_step_is_entered_without_reading_what_lies_before(folder):
    data = ImageBatches(folder, 3, ORL, seed=5, augmentation=Augmentation(crop=3, brightness=0.2, contrast=0.2))
    assert_equal(batches(data, 4)[2:], batches(data, 4, 2))
    assert batches(data, 4, 6) == []
    reader = Numbered(200)
    counted = ImageBatches(reader, 10, TINY, seed=0)
    labels = np.concatenate([b[1] for b in batches(counted, 0, 18)])
    assert sorted(reader.read) == sorted(labels.tolist())
    assert len(reader.read) == 20


def test_ten_million_samples_are_entered_at_step_a_million():
    class Many(Numbered):
        def __init__(self):
            self.labels, self.read = np.zeros(10**7, "int32"), []

        def encoded(self, indices):
            return [png(np.zeros((2, 2, 3), "uint8")) for _ in indices]

    data = ImageBatches(Many(), 8, TINY, seed=0)
    assert next(iter(data(0, 10**6)))[1].shape == (8,)


def test_last_batch_is_left_out_or_kept():
    assert [len(b[1]) for b in batches(ImageBatches(Numbered(10), 4, TINY))] == [4, 4]
    data = ImageBatches(Numbered(10), 4, TINY, drop_remainder=False)
    assert [len(b[1]) for b in batches(data)] == [4, 4, 2]
    assert int(data(0, 1).cardinality()) == 2


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_each_batch_and_see_no_sample_twice(folder, workers):
    data = ImageBatches(folder, 4, ORL, seed=2, augmentation=Augmentation(crop=2))
    parts = [batches(data.share(worker, workers), 1) for worker in range(workers)]
    for step, (images, labels) in enumerate(batches(data, 1)):
        np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[step][1] for part in parts]), labels)
    with pytest.raises(ValueError, match=r"`workers` must divide.*workers=3, batch_size=4"):
        data.share(0, 3)


def test_identity_batches_hold_different_images_of_different_people(readers):
    data = ImageBatches(readers["recordio"], 6, ORL, seed=0, images_per_identity=3, augmentation=None)
    assert data.steps_per_epoch == 3
    seen = set()
    for images, labels in [batch for epoch in range(5) for batch in batches(data, epoch)]:
        people, counts = np.unique(labels, return_counts=True)
        assert counts.tolist() == [3, 3]
        assert len({image.tobytes() for image in images}) == 6
        seen.update(people.tolist())
    assert seen == set(range(PEOPLE))
    assert_equal(batches(data, 1)[1:], batches(data, 1, 1))


def test_an_identity_with_few_images_repeats_them():
    reader = Numbered(5)
    reader.labels = np.array([0, 0, 0, 1, 2], "int32")
    data = ImageBatches(reader, 9, TINY, images_per_identity=3, augmentation=None)
    ((images, labels),) = batches(data)
    own = {label: sorted(images[labels == label][:, 0, 0, 0].tolist()) for label in range(3)}
    assert own == {0: [0, 1, 2], 1: [3, 3, 3], 2: [4, 4, 4]}


def test_unscaled_batches_and_the_layer_are_the_scaled_batches(folder):
    bgr = ORL.replace(channels="BGR", **SCALINGS["minus_one_to_one"])
    scaled = batches(ImageBatches(folder, 5, bgr, seed=4))
    raw = batches(ImageBatches(folder, 5, bgr, seed=4, scale=False))
    assert raw[0][0].dtype == np.uint8
    np.testing.assert_allclose(PixelScaling(bgr)(raw[1][0]), scaled[1][0], atol=1e-6)
    gray = batches(ImageBatches(folder, 5, ORL.replace(channels="GRAY"), seed=4))
    assert gray[0][0].shape == (5, 112, 92, 1)


def test_another_size_is_an_error_or_resized(folder):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[112,92,3\].*\[112,112,3\]"):
        batches(ImageBatches(folder, 5, Preprocessing()))
    square = batches(ImageBatches(folder, 5, Preprocessing(scale=1, offset=0), resize=True, augmentation=None))[0][0]
    assert square.shape == (5, 112, 112, 3)
    same = batches(ImageBatches(folder, 5, ORL, resize=True))
    assert_equal(same, batches(ImageBatches(folder, 5, ORL)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 21}, "`batch_size` must be an integer from 1 to 20"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"batch_size": 4, "seed": -1}, "`seed`"),
        ({"batch_size": 4, "images_per_identity": 3}, "`images_per_identity` must divide"),
        ({"batch_size": 12, "images_per_identity": 2}, "from 1 to 5 identities"),
    ],
)
def test_arguments_are_checked(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageBatches(folder, preprocessing=ORL, **arguments)


def test_positions_are_checked(folder):
    data = ImageBatches(folder, 4, ORL)
    for epoch, step in [(-1, 0), (0, -1), (0, 6)]:
        with pytest.raises(ValueError, match="`step` must be from 0 to 5"):
            data(epoch, step)


def test_a_broken_image_is_an_error_not_a_black_picture():
    class Broken(Numbered):
        def encoded(self, indices):
            return [b"no image"] * len(indices)

    with pytest.raises(tf.errors.InvalidArgumentError):
        batches(ImageBatches(Broken(4), 4, TINY))


def rows_of_numbers(samples, dim=3):
    """Rows that hold the number of their image."""
    return np.arange(samples, dtype="float32")[:, None] + np.zeros(dim, "float32")


@pytest.mark.parametrize("options", [{"drop_remainder": False}, {"images_per_identity": 1}])
def test_a_teachers_rows_come_with_their_images(options):
    data = ImageBatches(Numbered(7), 3, TINY, seed=1, teacher=rows_of_numbers(7), augmentation=None, **options)
    sizes = []
    for images, y in data(1, 0):
        assert sorted(y) == ["labels", "teacher"]
        np.testing.assert_array_equal(images[:, 0, 0, 0], y["labels"])
        np.testing.assert_array_equal(y["teacher"], rows_of_numbers(7)[y["labels"].numpy()])
        sizes.append(len(images))
    assert sizes == ([3, 3, 1] if "drop_remainder" in options else [3, 3])
    rest = [y["teacher"].numpy() for _, y in data(1, 1)]
    np.testing.assert_array_equal(rest[0], [y["teacher"].numpy() for _, y in data(1, 0)][1])


def test_workers_share_a_teachers_rows_and_another_teacher_is_other_data(tmp_path):
    np.save(tmp_path / "rows.npy", rows_of_numbers(8))
    data = ImageBatches(Numbered(8), 4, TINY, seed=1, teacher=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    shares = [next(iter(data.share(worker, 2)(0, 0)))[1]["teacher"].numpy() for worker in range(2)]
    np.testing.assert_array_equal(np.concatenate(shares), next(iter(data(0, 0)))[1]["teacher"])
    prints = [ImageBatches(Numbered(8), 4, TINY, teacher=t).fingerprint for t in (None, rows_of_numbers(8))]
    assert prints[0]["teacher_sha256"] is None
    assert prints[1]["teacher_sha256"] == data.fingerprint["teacher_sha256"]
    assert data.fingerprint != ImageBatches(Numbered(8), 4, TINY, 1, teacher=rows_of_numbers(8) + 1).fingerprint


@pytest.mark.parametrize("teacher", [np.ones((3, 2)), np.ones(4), np.ones((4, 2), int), np.full((4, 2), np.nan)])
def test_a_teacher_must_fit(teacher):
    with pytest.raises(ValueError, match="`teacher` must be"):
        ImageBatches(Numbered(4), 2, TINY, teacher=teacher)


def test_training_on_images_goes_on_bit_for_bit_after_a_crash(tmp_path, folder):
    teacher = np.random.default_rng(0).normal(size=(len(folder), 8)).astype("float32")
    data = ImageBatches(folder, 4, ORL, seed=1, augmentation=Augmentation(crop=4), teacher=teacher)

    def trained(directory, callbacks=()):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((112, 92, 3)), keras.layers.AveragePooling2D(8), keras.layers.Flatten()]
        backbone = keras.Sequential([*layers, keras.layers.Dropout(0.2), keras.layers.Dense(8)])
        model = EmbeddingModel(backbone, [MarginSoftmaxHead(PEOPLE), DistillationHead()])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=False)
        fit_resumable(model, data, 2, directory, save_every=2, callbacks=callbacks, verbose=0)
        return model.get_weights()

    whole = trained(tmp_path / "whole")
    with pytest.raises(tiny.Cut):
        trained(tmp_path / "cut", [tiny.CutAt(8)])
    for weight, same in zip(trained(tmp_path / "cut"), whole, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_training_and_verification_from_every_shape_end_alike(tmp_path, readers):
    results = {}
    keras.utils.set_random_seed(0)
    image = keras.Input((112, 92, 3))
    embedding = keras.layers.Dense(8)(keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(image)))
    model = keras.Model(image, CosineDense(readers["folder"].num_identities)(embedding))
    model.compile(keras.optimizers.SGD(0.05), NormFaceLoss(scale=10.0), jit_compile=False)
    embedder, first = embedding_model(model), model.get_weights()
    for name, reader in readers.items():
        model.set_weights(first)  # one model, which is compiled once
        model.optimizer.iterations.assign(0)
        assert reader.num_identities == model.output.shape[1]
        fit_resumable(model, ImageBatches(reader, 5, ORL, seed=1), 1, tmp_path / name, verbose=0)
        inference = ImageBatches(reader, len(reader), ORL, seed=2, augmentation=None)
        images, labels = next(iter(inference(0, 0)))
        embeddings = embedder.predict(images, verbose=0)
        results[name] = model.get_weights(), equal_error_rate(*pair_scores(embeddings, labels.numpy()))
    weights, error_rate = results.pop("folder")
    assert 0 < error_rate < 0.5
    for others, rate in results.values():
        assert rate == error_rate
        for ours, theirs in zip(weights, others, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_image_bomb_is_named_and_not_decoded(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 2, 2)
    (photos / "0000002" / "001.jpg").write_bytes(bombs.jpeg(9_000, 9_000))
    data = ImageBatches(IdentityFolder(photos), 4, ORL, seed=0, resize=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0000002/001\.jpg is too large: .* 81,000,000 pixels"):
        batches(data)
