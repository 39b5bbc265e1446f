"""The ready network: equal to dlib itself, found without importing its package, and good on real faces."""

import importlib.metadata
import sys
from pathlib import Path

import dlib
import numpy as np
import pytest

from keras_normface.backbones import pretrained
from keras_normface.inference import Embedder
from keras_normface.metrics import equal_error_rate
from tests.support.helpers import to_numpy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ready():
    return pretrained("dlib")


@pytest.fixture
def scripts(monkeypatch):
    """The scripts that fitted the template and calibrated the threshold, and the photos that they took."""
    for directory in ("benchmarks", "examples"):
        monkeypatch.syspath_prepend(ROOT / directory)
    import dlib_template
    import orl_photos
    import ready_weights

    return dlib_template, orl_photos, ready_weights


def test_descriptors_are_those_of_dlib(ready, scripts):
    template, photos, _ = scripts
    cut = template.DlibChips()
    chips = np.stack([cut(photos.photo(file))[1] for file in photos.face_files()[::150]])
    noise = np.random.default_rng(0).integers(0, 256, chips[:1].shape).astype("uint8")
    chips = np.concatenate([chips, noise])
    theirs = dlib.face_recognition_model_v1(str(template.models() / "dlib_face_recognition_resnet_model_v1.dat"))
    wanted = np.array([theirs.compute_face_descriptor(chip) for chip in chips])
    ours = to_numpy(ready.network(ready.preprocessing(chips)))
    assert np.linalg.norm(wanted[0] - wanted[1]) > 0.5
    np.testing.assert_allclose(ours, wanted, atol=1e-4)


def test_the_matrix_of_a_chip_gives_its_pixels(scripts):
    from keras_normface.prepare._photos import warped

    template, photos, _ = scripts
    photo = photos.photo(photos.face_files()[3])
    matrix, chip = template.DlibChips()(photo)
    assert np.abs(matrix[0, 1]) > 1e-3  # the face is turned
    np.testing.assert_array_equal(warped(photo, matrix, (150, 150)), chip)


def test_what_comes_with_the_network(ready):
    assert ready.name == "dlib"
    assert ready.metric == "cosine"
    assert ready.licence == "CC0-1.0"
    assert "face_recognition_models 0.3.0" in ready.source
    assert importlib.metadata.version("face_recognition_models") == "0.3.0"
    assert ready.preprocessing.output_shape == ready.network.input_shape[1:]
    assert ready.preprocessing.template == "dlib_150x150"
    assert ready.threshold.far == 0.001
    assert "ORL" in ready.threshold.protocol
    assert "face_recognition_models" not in sys.modules


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)
    with pytest.raises(ImportError, match=r'is not installed: pip install "keras-normface\[pretrained\]"'):
        pretrained("dlib")
    monkeypatch.delitem(sys.modules, "face_recognition_models")
    (tmp_path / "face_recognition_models").mkdir()
    (tmp_path / "face_recognition_models" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"installed without models.*pip install"):
        pretrained("dlib")
    (tmp_path / "face_recognition_models" / "models").mkdir()
    weights = tmp_path / "face_recognition_models" / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="must be a file of dlib's face recognition network") as caught:
        pretrained("dlib")
    assert str(weights) in str(caught.value)


@pytest.mark.parametrize("name", ["arcface", None, ["dlib"]])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"`name` must be one of \['dlib'\]\. Received: name="):
        pretrained(name)


def rates(ready, scripts, people, each):
    """Unit rows and people, EER, and the false accept rate at the threshold, of the first photos of some people."""
    _, photos, ready_weights = scripts
    chosen = np.flatnonzero((np.arange(400) % 10 < each) & (photos.people() < people))
    files = photos.face_files()
    rows = Embedder(ready).embed([photos.png(photos.photo(files[number])) for number in chosen])
    cosines, left, right = ready_weights.scored_pairs(rows, photos.people()[chosen])
    false_accepts = np.mean(cosines[left != right] >= ready.threshold.cosine)
    return rows, equal_error_rate(cosines, left == right), false_accepts


@pytest.mark.slow
def test_error_rates_on_some_of_the_photos(ready, scripts):
    _, error_rate, false_accepts = rates(ready, scripts, people=20, each=4)
    assert error_rate <= 0.012
    assert false_accepts <= 0.004


@pytest.mark.long
def test_error_rates_and_threshold_on_all_photos(ready, scripts):
    rows, error_rate, false_accepts = rates(ready, scripts, people=40, each=10)
    assert error_rate <= 0.012
    assert false_accepts == pytest.approx(0.001, abs=2e-4)
    threshold = scripts[2].calibrated(rows, scripts[1].people())
    assert threshold.cosine == pytest.approx(ready.threshold.cosine, abs=1e-3)
    assert threshold.tar == pytest.approx(ready.threshold.tar, abs=3e-3)
    assert threshold.protocol == ready.threshold.protocol
