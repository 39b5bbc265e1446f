"""A gallery over an `Embedder`: photos in, names out."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_normface._io import read_whole
from keras_normface.gallery import Gallery
from keras_normface.inference import Embedder
from tests.support import ready


@pytest.fixture(scope="module")
def network():
    return ready.ready_network()


@pytest.fixture
def photos(tmp_path):
    return ready.write_photos(tmp_path / "photos")


@pytest.fixture
def black(tmp_path):
    Image.new("RGB", (130, 150)).save(tmp_path / "black.png")
    return tmp_path / "black.png"


def gallery_of(tmp_path, network, **options):
    return Gallery(tmp_path / "people.gallery", Embedder(network, detect=ready.found_at, **options))


def test_photos_are_enrolled_and_identified(tmp_path, network, photos):
    with gallery_of(tmp_path, network) as gallery:
        done = gallery.enrol("Ada", photos[0])
        assert (done.new, done.known) == (1, 0)
        done = gallery.enrol(
            "Bob", [photos[1], photos[1].read_bytes() if hasattr(photos[1], "read_bytes") else photos[1]]
        )
        assert (done.new, done.known) == (1, 0)  # twice the same
        assert gallery.identify(photos[0], threshold=0.99).name == "Ada"
        assert gallery.identify(read_whole(photos[1]), threshold=0.99).name == "Bob"
        expected = gallery.embedder.embed(photos[:2])
        score = gallery.identify(photos[0], threshold=0.99).candidates[1].score
        assert score == pytest.approx(float(expected[0] @ expected[1]), abs=1e-5)
        assert gallery.verify("Ada", photos[1], threshold=1.0).name is None


def test_the_threshold_is_that_of_the_model(tmp_path, network, photos):
    with gallery_of(tmp_path, network) as gallery:
        gallery.enrol("Ada", photos[0])
        assert gallery.identify(photos[0]).threshold == ready.THRESHOLD.cosine


def test_the_same_image_is_embedded_once(tmp_path, network, photos):
    copy = tmp_path / "copy.png"
    shutil.copy(photos[0], copy)
    with gallery_of(tmp_path, network) as gallery:
        gallery.enrol_many({"Ada": photos[:2], "Bob": photos[2:3]})
        before = gallery.embedder.embedded
        done = gallery.enrol_many({"Ada": [*photos[:2], copy], "Bob": photos[2:3]})
        assert (done.new, done.known) == (0, 4)
        assert gallery.embedder.embedded == before
        assert gallery.enrol("Bob", copy).new == 1  # for another subject it is new
        assert gallery.subjects() == [("Ada", 2), ("Bob", 2)]


def test_a_photo_without_a_face_is_an_error_or_listed(tmp_path, network, photos, black):
    with gallery_of(tmp_path, network) as gallery:
        with pytest.raises(ValueError, match=r"black.png holds no face"):
            gallery.enrol("Ada", [photos[0], black])
        assert gallery.subjects() == []
    with gallery_of(tmp_path, network, no_face="nan") as gallery:
        done = gallery.enrol_many({"Ada": [photos[0], black], "Eve": [black]})
        assert done.new == 1
        assert [name.rsplit("/")[-1] for name in done.without_face] == ["black.png"] * 2
        assert gallery.subjects() == [("Ada", 1)]
        assert gallery.identify_many([black, photos[0]])[0] is None
        with pytest.raises(ValueError, match="no face"):
            gallery.verify("Ada", black)


def test_progress_and_parts(tmp_path, network, photos, monkeypatch):
    monkeypatch.setattr("keras_normface.gallery._enrol.IMAGES_AT_ONCE", 2)
    seen = []
    with gallery_of(tmp_path, network) as gallery:
        gallery.enrol_many(
            {"a": photos[:2], "b": photos[2:3], "c": photos[3:4]}, progress=lambda *counts: seen.append(counts)
        )
        assert seen == [(2, 4), (4, 4)]
        assert len(gallery) == 3


def test_what_a_failed_call_has_stored_before_is_known_at_the_next(tmp_path, network, photos, black, monkeypatch):
    monkeypatch.setattr("keras_normface.gallery._enrol.IMAGES_AT_ONCE", 2)
    with gallery_of(tmp_path, network) as gallery:
        with pytest.raises(ValueError, match=r"black.png"):
            gallery.enrol("Ada", [*photos[:3], black])
        assert gallery.subjects() == [("Ada", 2)]
        assert gallery.enrol("Ada", photos[:3]).known == 2
        assert gallery.subjects() == [("Ada", 3)]


def test_what_is_refused(tmp_path, network, photos):
    with gallery_of(tmp_path, network) as gallery:
        for subjects in ({}, ["Ada"], "Ada", {"Ada": []}, {"Ada": 5}, {"Ada": [5]}, {"Ada": None}):
            with pytest.raises(ValueError, match=r"`images`|`subjects`"):
                gallery.enrol_many(subjects)
        assert gallery.enrol_many({"Eve": photos[0]}).new == 1
        gallery.remove("Eve")
        with pytest.raises(ValueError, match="`name`"):
            gallery.enrol("", photos[0])
        with pytest.raises(OSError, match="nowhere"):
            gallery.enrol("Ada", tmp_path / "nowhere.jpg")
        (tmp_path / "text.jpg").write_text("text")
        with pytest.raises(ValueError, match=r"text.jpg cannot be decoded"):
            gallery.enrol("Ada", [photos[0], tmp_path / "text.jpg"])
        assert gallery.subjects() == []


def test_a_compatible_model_searches_an_older_gallery_and_adds_nothing(tmp_path, network, photos):
    with gallery_of(tmp_path, network) as gallery:
        gallery.enrol("Ada", photos[0])
        older = gallery.fingerprint
    changed = dataclasses.replace(network, network=ready.network(ready.TEMPLATE.size, seed=1))
    newer = Embedder(changed, detect=ready.found_at)
    newer.compatible_with = ("another", older)
    with Gallery(tmp_path / "people.gallery", newer) as gallery:
        assert gallery.fingerprint == older
        found = gallery.identify(photos[0], threshold=-1.0)
        assert found.candidates[0].name == "Ada"
        with pytest.raises(ValueError, match="`threshold` must be given"):
            gallery.identify(photos[0])
        with pytest.raises(ValueError, match="`embedder` must be the model of this gallery"):
            gallery.enrol("Bob", photos[1])
    newer.compatible_with = ("another",)
    with pytest.raises(ValueError, match="cannot be compared"):
        Gallery(tmp_path / "people.gallery", newer)
    newer.compatible_with = (older,)
    with Gallery(tmp_path / "new.gallery", newer) as gallery:  # one of its own, where there is none
        assert gallery.enrol("Bob", photos[1]).new == 1
        assert gallery.fingerprint == newer.fingerprint


def test_another_model_is_refused(tmp_path, network, photos):
    with gallery_of(tmp_path, network) as gallery:
        gallery.enrol("Ada", photos[0])
    other = ready.ready_network(network=ready.network(ready.TEMPLATE.size, seed=1))
    with pytest.raises(ValueError, match="holds embeddings of the model tiny"):
        gallery_of(tmp_path, other)
    with Gallery(tmp_path / "people.gallery") as gallery:
        assert np.shape(gallery.subjects()) == (1, 2)
    with pytest.raises(ValueError, match="`embedder` must be an Embedder"):
        Gallery(tmp_path / "b", embedder="dlib")
    with pytest.raises(ValueError, match="`fingerprint` must be None"):
        Gallery(tmp_path / "b", Embedder(network, detect=ready.found_at), fingerprint="x")
