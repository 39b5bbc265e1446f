"""The ready network in each exported form, on aligned faces of ORL: the same error rates as before the export."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_normface import export_embedding_model
from keras_normface.backbones import pretrained
from keras_normface.inference import Embedder
from keras_normface.metrics import equal_error_rate, pair_scores

ROOT = Path(__file__).parents[2]
PEOPLE, EACH = 16, 5


@pytest.fixture(scope="module")
def aligned():
    """The ready network, aligned faces, their PNG files, whose they are, and the embeddings by Keras."""
    for directory in ("benchmarks", "examples"):
        sys.path.insert(0, str(ROOT / directory))
    import orl_photos
    from runtimes import aligned_faces

    ready = pretrained("dlib")
    chosen = np.flatnonzero((np.arange(400) % 10 < EACH) & (orl_photos.people() < PEOPLE))
    faces, people = aligned_faces(ready.preprocessing.template, chosen)
    encoded = [orl_photos.png(face) for face in faces]
    yield ready, faces, encoded, people, Embedder(ready, faces="aligned").embed(encoded)
    for directory in ("benchmarks", "examples"):
        sys.path.remove(str(ROOT / directory))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "quantize"),
    [("saved_model", "none"), ("onnx", "none"), ("litert", "none"), ("onnx", "int8"), ("litert", "int8")],
)
def test_error_rates_are_those_before_the_export(aligned, tmp_path, form, quantize):
    ready, faces, encoded, people, before = aligned
    options = {"preprocessing": ready.preprocessing, "format": form, "quantize": quantize, "images": faces[::4]}
    export_embedding_model(ready.network, tmp_path / "model", **options)
    rows = Embedder(tmp_path / "model", faces="aligned").embed(encoded)
    if quantize == "none":
        assert np.sum(rows * before, axis=1).min() >= 1 - 1e-6
    was, now = (equal_error_rate(*pair_scores(found, people)) for found in (before, rows))
    assert was <= 0.012
    assert now == pytest.approx(was, abs=5e-5 if quantize == "none" else 5e-3)
