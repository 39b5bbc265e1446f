"""One embedder for every form of a model: photos as by `align`, aligned faces as in training, a network in memory."""

import dataclasses
import io
import os

import numpy as np
import pytest
from PIL import Image

from keras_normface import Preprocessing
from keras_normface.data import IdentityFolder
from keras_normface.inference import Embedder, embed_images, read_card, write_card
from keras_normface.prepare import Face, FaceAligner, align_images
from tests.support import faces, products
from tests.support.ready import TEMPLATE, THRESHOLD, found_at, network, ready_network, write_photos


@pytest.fixture(scope="module")
def ready():
    return ready_network()


@pytest.fixture(scope="module")
def exported(tmp_path_factory, ready):
    from keras_normface import export_embedding_model

    path = tmp_path_factory.mktemp("exported") / "model"
    export_embedding_model(ready.network, path, preprocessing=TEMPLATE)
    return path


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_a_photo_gets_the_embedding_of_the_face_that_align_writes(ready, photos, tmp_path):
    align_images(
        IdentityFolder(tmp_path / "photos"), tmp_path / "out", TEMPLATE.template, detect=found_at, encoding="png"
    )
    aligned = sorted((tmp_path / "out").rglob("*.png"))
    assert len(aligned) == 4
    done = []
    of_photos = Embedder(ready, detect=found_at, batch_size=3).embed(photos, progress=done.append)
    of_faces = Embedder(ready, faces="aligned").embed(aligned)
    np.testing.assert_allclose(of_photos, of_faces, atol=1e-6)
    assert done == [3, 4]
    pixels = np.stack([np.asarray(Image.open(path)) for path in aligned])
    rows = np.asarray(ready.network(TEMPLATE(pixels)))
    np.testing.assert_allclose(of_faces, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)


def test_a_smaller_model_of_the_same_template_gets_the_faces_resized(photos):
    small = (TEMPLATE.size[0] // 2, TEMPLATE.size[1] // 2)
    ready = dataclasses.replace(ready_network(), network=network(small), preprocessing=TEMPLATE.replace(size=small))
    with Image.open(photos[0]) as photo:
        (pixels,) = FaceAligner(TEMPLATE.template, detect=found_at)([np.asarray(photo.convert("RGB"))])
    face = Image.fromarray(pixels).resize(small[::-1], Image.Resampling.BILINEAR)
    rows = np.asarray(ready.network(ready.preprocessing(np.asarray(face)[None])))[0]
    embedder = Embedder(ready, detect=found_at)
    np.testing.assert_allclose(embedder.embed(photos[:1])[0], rows / np.linalg.norm(rows), atol=1e-6)
    np.testing.assert_allclose(embedder.embed_every_face(photos[0])[1][1], rows / np.linalg.norm(rows), atol=1e-6)


def test_a_directory_and_a_network_say_the_same(ready, exported, photos):
    write_card(exported, dataclasses.replace(read_card(exported), threshold=THRESHOLD))
    one, other = Embedder(ready, detect=found_at), Embedder(exported, detect=found_at)
    np.testing.assert_allclose(one.embed(photos), other.embed(photos), atol=1e-6)
    for embedder in (one, other):
        assert embedder.dimension == 6
        assert embedder.preprocessing == TEMPLATE
        assert embedder.flip == "none"
        assert embedder.threshold == THRESHOLD
        assert len(embedder.fingerprint) == 64
    assert (one.name, one.licence, one.source) == ("tiny", "CC0-1.0", "a test")
    assert other.name == os.fspath(exported)


def test_the_fingerprint_of_a_network_is_of_its_name_weights_and_preprocessing(ready):
    def fingerprint(model):
        return Embedder(model, faces="aligned").fingerprint

    same = dataclasses.replace(ready, network=network(TEMPLATE.size))
    weights = dataclasses.replace(ready, network=network(TEMPLATE.size, seed=1))
    pixels = dataclasses.replace(ready, preprocessing=TEMPLATE.replace(scale=1 / 255))
    prints = [fingerprint(model) for model in (ready, same, weights, pixels, dataclasses.replace(ready, name="else"))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_a_photo_without_a_face_is_named_or_a_row_of_nan(ready, photos, tmp_path):
    Image.new("RGB", (130, 150)).save(tmp_path / "black.png")
    images = [("face", photos[0]), ("black", tmp_path / "black.png")]
    with pytest.raises(ValueError, match="black holds no face"):
        embed_images(Embedder(ready, detect=found_at), images)
    for batch_size in (1, 2):
        embedder = Embedder(ready, detect=found_at, no_face="nan", batch_size=batch_size)
        rows = embed_images(embedder, images, cache=tmp_path / "cache").front
        assert np.isnan(rows).all(axis=1).tolist() == [False, True]
        assert rows.shape == (2, 6)
    assert embedder.embedded == 0  # from the cache
    with pytest.raises(ValueError, match="black holds no face"):
        embed_images(Embedder(ready, detect=found_at), images, cache=tmp_path / "cache")
    assert np.isnan(embedder.embed([tmp_path / "black.png"])).all()


def test_photos_are_cached_apart_from_aligned_faces_and_by_detector(ready, tmp_path):
    size = (96, 112)
    Image.open(io.BytesIO(faces.face(1, 1))).resize(size).save(tmp_path / "a.png")

    def elsewhere(images):
        return [[Face((10, 10, 90, 90), ((20, 20), (60, 25), (40, 50), (25, 70), (60, 70)), 1.0)] for _ in images]

    with pytest.raises(ValueError, match=r"`cache` must be None where .*`name`"):
        embed_images(Embedder(ready, detect=elsewhere), [("a", tmp_path / "a.png")], cache=tmp_path / "cache")
    elsewhere.name = "elsewhere"
    made = []
    for options in ({"faces": "aligned"}, {"detect": found_at}, {"detect": elsewhere}):
        embedder = Embedder(ready, **options)
        made.append(embed_images(embedder, [("a", tmp_path / "a.png")], cache=tmp_path / "cache").front[0])
        assert embedder.embedded == 1
    assert min(np.abs(made[a] - made[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_what_is_no_photo_is_named(ready, tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    embedder = Embedder(ready, detect=found_at)
    with pytest.raises(ValueError, match=r"page.jpg cannot be decoded"):
        embedder.embed([tmp_path / "page.jpg"])
    with pytest.raises(ValueError, match=r"image 0 cannot be decoded"):
        embedder.embed([b""])
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg"):
        embedder.embed([tmp_path / "nowhere.jpg"])


def test_arguments(ready, tmp_path):
    for options, name in (
        ({"faces": "faces"}, "faces"),
        ({"no_face": "skip"}, "no_face"),
        ({"batch_size": 0}, "batch_size"),
        ({"resize": True}, "resize"),
        ({"center_crop": True}, "center_crop"),
        ({"faces": "aligned", "resize": True, "center_crop": True}, "exclude"),
    ):
        with pytest.raises(ValueError, match=name):
            Embedder(ready, **options)
    for preprocessing, words in (
        (Preprocessing(size=TEMPLATE.size), "does not say by which template"),
        (TEMPLATE.replace(size=(112, 112)), "112 x 112 pixels.*112 x 96"),
    ):
        changed = dataclasses.replace(ready, preprocessing=preprocessing)
        with pytest.raises(ValueError, match=words):
            Embedder(changed, detect=found_at)
    with pytest.raises(FileNotFoundError):
        Embedder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`model`"):
        Embedder(ready.network)
    with pytest.raises(ValueError, match="`embedder`"):
        embed_images(tmp_path, [("a", b"1")])


def test_it_never_holds_more_than_a_few_batches(ready):
    """Photos may have fifty megapixels each."""
    waiting, most = [], []

    class Watched(Embedder):
        def _photos(self, images, names):
            waiting.extend(images)
            return super()._photos(images, names)

        def _embedded(self, images, mirror):
            most.append(len(waiting))
            del waiting[: len(images)]
            return super()._embedded(images, mirror)

    Watched(ready, detect=found_at, batch_size=2).embed([faces.face(1, 1)] * 20)
    assert max(most) <= 6


def test_the_examples_of_products_are_aligned_faces(tmp_path):
    model = products.export(tmp_path / "model")
    rows = Embedder(model, faces="aligned").embed([products.face("Ada", 0), products.face("Ada", 1)])
    assert rows[0] @ rows[1] > 0.5


def test_images_and_names_are_as_many(ready, photos):
    embedder = Embedder(ready, detect=found_at)
    for images, names in (([], None), (photos, ["a"]), (photos[:1], ["a", "b"])):
        count = len(images if names is None else names)
        with pytest.raises(ValueError, match=rf"`names` as many. Received: {len(images)} and {count}"):
            embedder.embed(images, names)


def test_a_network_that_makes_nan_is_refused(photos):
    broken = ready_network()
    kernel, bias = broken.network.layers[-1].get_weights()
    broken.network.layers[-1].set_weights([kernel * np.nan, bias])
    with pytest.raises(ValueError, match="not finite"):
        Embedder(broken, detect=found_at, no_face="nan").embed(photos[:1])


@pytest.mark.parametrize("detect", [3, "mtcnn"])
def test_detectors_that_are_no_function(ready, detect):
    with pytest.raises(ValueError, match="`detect` must be a function"):
        Embedder(ready, detect=detect)


def test_a_detector_whose_name_is_no_text(ready):
    def detect(images):
        return [[] for _ in images]

    detect.name = 3
    with pytest.raises(ValueError, match=r"`detect.name` must be a text"):
        Embedder(ready, detect=detect)


def test_every_face_of_a_photo_is_embedded_from_left_to_right(ready, photos, tmp_path):
    embedder = Embedder(ready, detect=found_at, batch_size=1)
    found, rows = embedder.embed_every_face(photos[0])
    assert [face.box[0] for face in found] == sorted(face.box[0] for face in found)
    assert rows.shape == (2, embedder.embed(photos[:1]).shape[1])
    # The large face in the middle is the one that `embed` takes.
    large = max(range(2), key=lambda place: found[place].area)
    np.testing.assert_allclose(rows[large], embedder.embed(photos[:1])[0], atol=1e-6)
    Image.new("RGB", (130, 150)).save(tmp_path / "black.png")
    assert embedder.embed_every_face(tmp_path / "black.png") == ([], None)
    with pytest.raises(ValueError, match="`embed_every_face` needs an Embedder of photos"):
        Embedder(ready, faces="aligned").embed_every_face(photos[0])
    (tmp_path / "text.jpg").write_text("text")
    for photo, named in (
        ([1], "`photo`"),
        (np.zeros(3), "`photo`"),
        (tmp_path / "text.jpg", "text.jpg"),
        (b"x", "the photo"),
    ):
        with pytest.raises(ValueError, match=named):
            embedder.embed_every_face(photo)
