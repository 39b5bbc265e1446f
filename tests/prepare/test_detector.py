"""MTCNN in NumPy: each step against a plain restatement or TensorFlow, the faces against the package mtcnn itself."""

import functools
import importlib.metadata
import io
import os
import pickle
import subprocess
import sys

import joblib
import lz4.frame
import numpy as np
import pytest
from PIL import Image
from skimage import data

from keras_normface.prepare import Mtcnn
from keras_normface.prepare import _detector_networks as networks
from keras_normface.prepare._detector import _squares, _without_overlap, area_resized, patches, sums_before
from tests.support import faces

ASTRONAUT = data.astronaut()
WEIGHTS = importlib.metadata.distribution("mtcnn").locate_file("mtcnn/assets/weights")
SHAPES = {"pnet": networks.PROPOSAL, "rnet": networks.REFINEMENT, "onet": networks.OUTPUT}


@functools.cache
def detector():
    return Mtcnn()


def photo(person, image):
    """A face of ORL, twice as large, with a margin: (304, 264, 3) uint8."""
    picture = Image.open(io.BytesIO(faces.face(person, image))).resize((184, 224), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(picture), ((40, 40), (40, 40), (0, 0)), mode="edge")


def points_of(found):
    return np.array([face.points for face in found])


@pytest.mark.parametrize("name", SHAPES)
def test_the_weights_are_those_that_joblib_reads(name):
    path = os.path.join(WEIGHTS, f"{name}.lz4")
    expected = joblib.load(path)
    read = networks.read_weights(path, SHAPES[name])
    assert len(read) == len(expected)
    for ours, theirs in zip(read, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def damaged():
    """Files of weights that are none, by what is wrong with them."""
    with open(os.path.join(WEIGHTS, "pnet.lz4"), "rb") as file:
        whole = file.read()
    inside = bytearray(lz4.frame.decompress(whole))
    nan = bytearray(inside)
    nan[300:304] = b"\0\0\xc0\x7f"
    other_shape = bytes(inside).replace(b"K\x03K\x03K\x03K\x0a", b"K\x03K\x03K\x03K\x0b", 1)
    pack = lz4.frame.compress
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "not LZ4": b"PK" + whole,
        "of another network": open(os.path.join(WEIGHTS, "rnet.lz4"), "rb").read(),
        "a bomb": pack(bytes(2**26)),
        "code": pack(pickle.dumps(Runs())),
        "cut inside": pack(bytes(inside[:-100])),
        "bytes behind": pack(bytes(inside) + b"x"),
        "another shape": pack(other_shape),
        "not finite": pack(bytes(nan)),
    }


@pytest.mark.parametrize("kind", damaged())
def test_a_damaged_file_of_weights_is_refused_by_name_and_nothing_in_it_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pnet.lz4"
    path.write_bytes(damaged()[kind])
    with pytest.raises(ValueError, match=r"pnet\.lz4 is not a file of weights of mtcnn 1\.0"):
        networks.read_weights(path, networks.PROPOSAL)
    assert os.listdir(tmp_path) == ["pnet.lz4"]


def plain_convolution(images, kernel, bias, slopes):
    windows = np.lib.stride_tricks.sliding_window_view(images, kernel.shape[:2], axis=(1, 2)).astype("float64")
    out = np.einsum("nyxcij,ijcf->nyxf", windows, kernel.astype("float64")) + bias
    return np.where(out > 0, out, slopes * out)


@pytest.mark.parametrize("shape", [(3, 24, 24, 3), (1, 151, 133, 3), (2, 9, 8, 40), (0, 12, 12, 5)])
def test_convolution_with_prelu(shape, monkeypatch):
    monkeypatch.setattr(networks, "BLOCK", 5000)  # several blocks, of rows and of images
    generator = np.random.default_rng(0)
    images = generator.normal(size=shape).astype("float32")
    kernel, bias, slopes = (generator.normal(size=s).astype("float32") for s in ((3, 3, shape[3], 7), 7, (1, 1, 7)))
    ours = networks.convolved(images, kernel, bias, slopes)
    np.testing.assert_allclose(ours, plain_convolution(images, kernel, bias, slopes), atol=1e-4)


# Those that the networks have: TensorFlow pads odd sides on both ends if windows of 3 reach beyond the image.
@pytest.mark.parametrize(
    ("size", "whole", "sides"),
    [(2, True, (7, 8)), (2, True, (8, 7)), (3, True, (22, 22)), (3, False, (11, 11)), (3, False, (10, 9))],
)
def test_max_pool_is_that_of_tensorflow(size, whole, sides):
    import tensorflow as tf

    images = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype("float32")
    expected = tf.nn.max_pool2d(images, size, 2, "SAME" if whole else "VALID").numpy()
    np.testing.assert_array_equal(networks.max_pool(images, size, whole), expected)


@pytest.mark.parametrize("size", [(307, 307), (100, 211), (15, 12)])
def test_reducing_by_areas_is_that_of_tensorflow(size):
    import tensorflow as tf

    expected = tf.image.resize(ASTRONAUT, size, method="area").numpy()
    # In pixels of 0…255: TensorFlow counts the places in float32.
    assert np.abs(area_resized(sums_before(ASTRONAUT), size) - expected).max() < 0.02


def test_sums_of_the_largest_white_image_fit():
    image = np.full((2048, 2048, 3), 255, "uint8")
    np.testing.assert_allclose(area_resized(sums_before(image), (12, 12)), 255, rtol=1e-9)


def test_patches_are_those_of_tensorflow():
    import tensorflow as tf

    generator = np.random.default_rng(0)
    corner, side = generator.uniform(-60, 480, (200, 2)), generator.uniform(5, 300, (200, 1))
    boxes = np.concatenate([corner, corner + side], axis=1)
    parts = boxes[:, [1, 0, 3, 2]] / 512
    scaled = ((ASTRONAUT - 127.5) / 128)[None]
    expected = tf.image.crop_and_resize(scaled, parts.astype("float32"), np.zeros(200, "int32"), (24, 24)).numpy()
    # In pixels of 0…255; places differ by float32's rounding.
    assert np.abs(patches(ASTRONAUT, boxes, 24) - expected).max() * 128 < 0.05


def test_a_box_is_dropped_by_any_better_one_that_it_overlaps(monkeypatch):
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 50, (40, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(10, 40, (40, 2))], axis=1)
    scores = generator.permutation(40) / 40

    def kept(share_of_smaller):
        order, result = np.argsort(-scores), []
        for place, one in enumerate(order):
            shares = []
            for other in order[:place]:
                width, height = np.minimum(boxes[one, 2:], boxes[other, 2:]) - np.maximum(
                    boxes[one, :2], boxes[other, :2]
                )
                common = max(width, 0) * max(height, 0)
                areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (one, other)]
                shares.append(common / (min(areas) if share_of_smaller else sum(areas) - common))
            if not shares or max(shares) <= 0.3:
                result.append(one)
        return result

    for rows in (7, 512):
        monkeypatch.setattr("keras_normface.prepare._detector.ROWS", rows)
        for of_smaller in (False, True):
            found = _without_overlap(boxes, scores, 0.3, of_smaller=of_smaller)
            assert found.tolist() == kept(of_smaller)
            assert 1 < len(found) < 40
    assert _without_overlap(np.zeros((0, 4)), np.zeros(0), 0.3).tolist() == []


def test_squares_keep_the_centre_and_the_longer_side():
    np.testing.assert_allclose(_squares(np.array([[10.0, 20, 30, 60]])), [[0, 20, 40, 60]])


def test_an_image_has_the_same_faces_alone_and_among_others():
    images = [photo(1, 1), ASTRONAUT, photo(2, 1)]
    together = detector()(images)
    assert together == [detector()([image])[0] for image in images]
    assert [len(found) for found in together] == [1, 1, 1]
    assert detector()([]) == []


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (12, 12), (20, 24), (33, 33)])
def test_small_images_have_no_face(size):
    assert detector()([np.full((*size, 3), 200, "uint8")]) == [[]]


def test_a_missing_package_says_what_to_install(monkeypatch):
    for missing in ("lz4.frame", "threadpoolctl"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(ImportError, match=r"keras-normface\[align\]"):
                Mtcnn()

    def not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", not_found)
    with pytest.raises(ImportError, match=r"mtcnn.*keras-normface\[align\]"):
        Mtcnn()


COMPARE = """
import sys
import numpy as np
from mtcnn import MTCNN
network = MTCNN(device="CPU:0")
with np.load(sys.argv[1]) as arrays:
    rows = [network.detect_faces([arrays[name]], fit_to_image=False, box_format="xyxy", output_type="numpy")
            for name in arrays.files]
assert all(len(found) == 1 for found in rows)
np.save(sys.argv[2], np.concatenate(rows))
"""


@pytest.mark.slow
def test_faces_are_those_of_mtcnn_itself(tmp_path):
    images = [ASTRONAUT, ASTRONAUT[:, :301], *(photo(person, 1) for person in range(1, 41, 2))]
    np.savez(tmp_path / "photos.npz", *images)
    command = [sys.executable, "-c", COMPARE, tmp_path / "photos.npz", tmp_path / "rows.npy"]
    subprocess.run(command, check=True, capture_output=True)
    rows = np.load(tmp_path / "rows.npy")
    found = [face for some in detector()(images) for face in some]
    boxes = np.array([face.box for face in found])
    points = points_of(found).transpose(0, 2, 1).reshape(-1, 10)
    assert np.abs(boxes - rows[:, 1:5]).max() < 0.01
    assert np.abs(points - rows[:, 6:]).max() < 0.01
    assert np.abs([face.confidence for face in found] - rows[:, 5]).max() < 1e-5


@pytest.mark.parametrize(
    "image", [np.zeros((40, 40, 3)), np.zeros((40, 40), "uint8"), np.zeros((0, 5, 3), "uint8"), [[1]]]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"`images\[1\]` must be uint8 RGB"):
        Mtcnn()([np.zeros((40, 40, 3), "uint8"), image])
