"""Real faces found by MTCNN; runs that are killed, resumed, refused; photos of every kind."""

import contextlib
import functools
import io
import json
import multiprocessing
import os
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data, transform
from typer.testing import CliRunner

from keras_normface.data import EXTENSIONS, PHOTO_EXTENSIONS, IdentityFolder, ImageList
from keras_normface.prepare import Face, Mtcnn, OutputError, align_images, chosen_face, similarity, template_points
from keras_normface.prepare._align import AlignedNames
from keras_normface.prepare._faces import centred
from keras_normface.prepare._photos import NotAnImageError, decoded, warped
from tests.support import faces

SPHEREFACE = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
ASTRONAUT = data.astronaut()


@functools.cache
def mtcnn():
    return Mtcnn()


def template_of(shift):
    return np.array(SPHEREFACE) + np.array([shift, 0])


def fake_detect(images):
    """Places that depend on the pixels, and a confidence that depends on the batch: a mistake would be seen."""
    found = []
    for image in images:
        shift = float(image.mean()) % 7
        points = ((30 + shift, 50), (62, 50 + shift), (46, 70), (33, 88), (60, 86))
        face = Face((20, 30, 75, 100 + shift), points, 0.9 - len(images) / 1000)
        found.append([] if int(image.sum()) % 5 == 0 else [face] * (1 + int(image.sum()) % 2))
    return found


def closed_form(points, target):
    """The best similarity in complex numbers, z -> a z + b."""
    start, end = points @ (1, 1j), target @ (1, 1j)
    middle, other = start.mean(), end.mean()
    a = np.vdot(start - middle, end - other) / np.vdot(start - middle, start - middle).real
    b = other - a * middle
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def save(root, name, picture, **options):
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)
    return path


def pixels_of(path):
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def tree(directory):
    files = (path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def log(out):
    return [json.loads(line) for line in (Path(out) / "align.jsonl").read_text().splitlines()]


def noise(height=64, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


# The geometry.


@settings(deadline=None, max_examples=50)
@given(st.floats(0.05, 20), st.floats(-3.2, 3.2), st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 2**32 - 1))
def test_a_known_similarity_is_recovered(scale, angle, right, down, seed):
    points = np.random.default_rng(seed).uniform(0, 100, (5, 2))
    known = [
        [scale * np.cos(angle), -scale * np.sin(angle), right],
        [scale * np.sin(angle), scale * np.cos(angle), down],
    ]
    target = np.c_[points, np.ones(5)] @ np.transpose(known)
    np.testing.assert_allclose(similarity(points, target), known, rtol=1e-9, atol=1e-8)


def test_the_similarity_is_the_least_squares_one_also_where_a_reflection_would_be_nearer():
    rng = np.random.default_rng(1)
    for _ in range(50):
        points = rng.uniform(0, 200, (5, 2))
        np.testing.assert_allclose(
            similarity(points, SPHEREFACE), closed_form(points, np.array(SPHEREFACE)), rtol=1e-8, atol=1e-8
        )
    mirrored = np.array(SPHEREFACE) * (-1, 1) + rng.normal(size=(5, 2))
    found = similarity(mirrored, SPHEREFACE)
    assert np.linalg.det(found[:, :2]) > 0
    np.testing.assert_allclose(found, closed_form(mirrored, np.array(SPHEREFACE)), rtol=1e-8, atol=1e-8)


def test_points_that_determine_nothing_are_refused():
    for points in ([[3, 3]] * 5, [[np.nan, 1]] * 5):
        with pytest.raises(ValueError, match="do not determine"):
            similarity(points, SPHEREFACE)
    with pytest.raises(ValueError, match=r"must be \(n, 2\)"):
        similarity([[1, 2, 3]], [[1, 2, 3]])


def test_templates():
    assert template_points("sphereface_112x96").tolist() == SPHEREFACE
    np.testing.assert_allclose(template_points("arcface_112x112") - SPHEREFACE, [[8, 0]] * 5, atol=1e-12)
    with pytest.raises(ValueError, match="`template` must be one of"):
        template_points("sphereface")


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_the_warp_is_that_of_scikit_image(angle, scale):
    turned = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    points = (np.array(SPHEREFACE) - (47.5, 55.5)) @ turned / scale + np.array([240.3, 250.7])
    matrix = similarity(points, SPHEREFACE)
    full = transform.SimilarityTransform(matrix=np.vstack([matrix, [0, 0, 1]]))
    theirs = transform.warp(ASTRONAUT, full.inverse, output_shape=(112, 96), order=1, preserve_range=True)
    inside = transform.warp(np.ones((512, 512)), full.inverse, output_shape=(112, 96), order=1) > 1 - 1e-9
    difference = np.abs(warped(ASTRONAUT, matrix, (112, 96)) - theirs)[inside]
    assert inside.mean() > 0.5
    assert difference.max() < 1.5
    assert difference.mean() < 0.6  # Pillow cuts, or rounds, to whole numbers


def test_the_centred_part_has_the_middle_in_the_middle():
    for size in [(300, 200), (200, 300), (112, 112), (50, 40)]:
        matrix = centred(size, "sphereface_112x96")
        middle = [(size[1] - 1) / 2, (size[0] - 1) / 2, 1]
        np.testing.assert_allclose(matrix @ middle, [47.5, 55.5], atol=1e-9)
        corners = matrix @ np.transpose([[-0.5, -0.5, 1], [size[1] - 0.5, size[0] - 0.5, 1]])
        assert (corners[:, 0] <= -0.5 + 1e-9).all()
        assert (corners[:, 1] >= [95.5 - 1e-9, 111.5 - 1e-9]).all()
        assert np.isclose(corners[:, 0], -0.5).any()


def test_of_several_faces_the_large_one_in_the_middle():
    points = tuple((float(x), float(y)) for x, y in SPHEREFACE)
    middle, corner = Face((40, 40, 60, 60), points, 0.9), Face((0, 0, 24, 24), points, 0.99)
    huge = Face((0, 0, 80, 80), points, 0.8)
    assert chosen_face([corner, middle], (100, 100)) is middle  # 400 - 0 against 576 - 2 * 2888
    assert chosen_face([corner, middle, huge], (100, 100)) is huge  # 6400 - 2 * 200


# Real faces and the real detector.


def test_the_astronaut_comes_to_lie_on_the_template(tmp_path):
    save(tmp_path / "photos", "Collins/a.png", ASTRONAUT)
    reports = {}
    for template, shift in (("sphereface_112x96", 0), ("arcface_112x112", 8)):
        out = tmp_path / template
        reports[template] = align_images(IdentityFolder(tmp_path / "photos"), out, template, detect=mtcnn())
        (record,) = log(out)
        target = template_of(shift)
        moved = np.c_[record["points"], np.ones(5)] @ closed_form(np.array(record["points"]), target).T
        # A similarity cannot bring five points of a face turned aside all onto the template; its eyes come close.
        assert np.abs(moved - target).max() < 6
        picture = pixels_of(out / "Collins" / "a.jpg")
        assert picture.shape == (112, 96 + 2 * shift, 3)
        ((again,),) = mtcnn()([np.pad(picture, ((40, 40), (40, 40), (0, 0)), mode="edge")])
        found = np.array(again.points) - 40
        assert np.abs(found[:2] - target[:2]).max() < 3.5
        assert np.abs(found - moved).max() < 2.5
    assert reports["sphereface_112x96"] == reports["arcface_112x112"]
    assert reports["sphereface_112x96"].aligned == 1


def test_a_large_photo_is_found_at_full_size():
    canvas = np.zeros((600, 2500, 3), "uint8")
    canvas[40:552, 900:1412] = ASTRONAUT
    ((plain,),) = mtcnn()([ASTRONAUT])
    ((found,),) = mtcnn()([canvas])
    assert np.abs(np.array(found.points) - np.array(plain.points) - (900, 40)).max() < 4


def test_photos_without_a_face_with_several_and_other_files(tmp_path):
    photos = tmp_path / "photos"
    small = np.array(Image.fromarray(ASTRONAUT[:220, 130:350]).resize((110, 110)))
    two = np.zeros((360, 480, 3), "uint8")
    two[70:290, 130:350] = ASTRONAUT[:220, 130:350]
    two[10:120, 365:475] = small
    save(photos, "a/flat.png", np.full((120, 100, 3), 127, "uint8"))
    save(photos, "a/noise.png", noise(120, 100))
    save(photos, "b/two.png", two)
    (photos / "b" / "text.jpg").write_text("this is no photo")
    report = align_images(IdentityFolder(photos), tmp_path / "out", detect=mtcnn())
    assert (report.images, report.aligned, report.several_faces) == (4, 1, 1)
    assert (report.no_face, report.not_an_image) == (2, 1)
    flat, grain, text, both = log(tmp_path / "out")
    assert [flat["reason"], grain["reason"], text["reason"]] == [
        "no face",
        "no face",
        "not an image: no format that is read",
    ]
    assert both["faces"] == 2
    left, _, right, _ = both["box"]
    assert 130 < left < right < 350
    assert right - left > 60
    assert both["size"] == [360, 480]
    written = {"align.json", "align.jsonl", os.path.join("b", "two.jpg")}
    assert set(tree(tmp_path / "out")) == written


def test_the_order_of_the_points_is_that_of_the_image():
    ((face,),) = mtcnn()([ASTRONAUT])
    (left_eye, right_eye, nose, left_mouth, right_mouth) = face.points
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


# Runs that are disturbed.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    photos = faces.write_folder(root / "photos", people=4, images=4)
    (photos / "0000002" / "0.png").write_bytes(b"no image")
    align_images(IdentityFolder(photos), root / "out", detect=fake_detect, batch=3)
    return photos, tree(root / "out")


def test_the_undisturbed_run_has_everything_in_it(undisturbed):
    photos, expected = undisturbed
    reader = IdentityFolder(photos)
    records = [json.loads(line) for line in expected["align.jsonl"].splitlines()]
    assert [record["name"] for record in records] == [reader.name(number) for number in range(17)]
    assert {record["reason"] for record in records} == {
        None,
        "no face",
        "not an image: no format that is read",
    }
    for record in records:
        assert (record["output"] is None) == (record["reason"] is not None)
        if record["output"]:
            photo = pixels_of(photos / record["name"])
            face = fake_detect([photo])[0][0]
            matrix = closed_form(np.array(face.points), template_of(8))
            full = transform.SimilarityTransform(matrix=np.vstack([matrix, [0, 0, 1]]))
            theirs = transform.warp(photo, full.inverse, output_shape=(112, 112), order=1, preserve_range=True)
            ours = np.array(Image.open(io.BytesIO(expected[record["output"]])), "float64")
            assert np.median(np.abs(ours - theirs)) < 3  # JPEG


@pytest.mark.parametrize("fails_at", range(6))
def test_a_run_that_failed_is_taken_up(undisturbed, tmp_path, fails_at):
    photos, expected = undisturbed
    seen = []

    def failing(images):
        if len(seen) == fails_at:
            raise RuntimeError("out of memory")
        seen.append(len(images))
        return fake_detect(images)

    def counting(images):
        seen.append(len(images))
        return fake_detect(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        align_images(IdentityFolder(photos), tmp_path / "out", detect=failing, batch=3)
    assert not (tmp_path / "out" / "align.jsonl").exists()
    report = align_images(IdentityFolder(photos), tmp_path / "out", detect=counting, batch=3)
    assert tree(tmp_path / "out") == expected
    assert sum(seen) == 16  # each image that is one was detected once
    assert report.resumed == 3 * fails_at


def test_a_log_torn_anywhere_is_taken_up(undisturbed, tmp_path):
    photos, expected = undisturbed
    whole = expected["align.jsonl"]
    out = tmp_path / "out"
    for cut in [0, 1, 100, whole.index(b"\n"), whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1, len(whole)]:
        for path in expected:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(expected[path])
        (out / "align.jsonl").unlink()
        (out / "align.jsonl.part").write_bytes(whole[:cut])
        (out / "0000004" / ".writing-004.jpg-99").write_bytes(b"half")
        (out / ".writing-align.json-99").write_bytes(b"{")
        align_images(IdentityFolder(photos), out, detect=fake_detect, batch=3)
        remaining = tree(out)
        remaining.pop(os.path.join("0000004", ".writing-004.jpg-99"), None)  # no image was left to write there
        assert remaining == expected


def test_an_image_that_was_lost_is_made_again(undisturbed, tmp_path):
    photos, expected = undisturbed
    out = tmp_path / "out"
    align_images(IdentityFolder(photos), out, detect=fake_detect, batch=3)
    lost = next(path for path in expected if path.endswith(".jpg"))
    (out / lost).unlink()
    os.rename(out / "align.jsonl", out / "align.jsonl.part")
    align_images(IdentityFolder(photos), out, detect=fake_detect, batch=3)
    assert tree(out) == expected


def slow_run(photos, out):
    def slow_detect(images):
        time.sleep(0.01)
        return fake_detect(images)

    align_images(IdentityFolder(photos), out, detect=slow_detect, batch=3)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starting anew takes seconds")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads
def test_a_process_that_is_killed_at_any_moment(undisturbed, tmp_path):
    photos, expected = undisturbed
    rng, done_when_killed = random.Random(5), set()
    for attempt in range(200):
        process = multiprocessing.get_context("fork").Process(target=slow_run, args=(photos, tmp_path / "out"))
        process.start()
        process.join(rng.uniform(0, 0.04 + 0.002 * attempt))
        process.kill()
        process.join()
        with contextlib.suppress(FileNotFoundError):
            done_when_killed.add((tmp_path / "out" / "align.jsonl.part").read_bytes().count(b"\n"))
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert len(done_when_killed) >= 3
    assert tree(tmp_path / "out") == expected


def test_a_finished_run_does_nothing(undisturbed, tmp_path):
    photos, expected = undisturbed
    first = align_images(IdentityFolder(photos), tmp_path / "out", detect=fake_detect, batch=3)
    times = {path: os.stat(tmp_path / "out" / path).st_mtime_ns for path in expected}
    calls = []

    def never(images):
        raise AssertionError

    again = align_images(
        IdentityFolder(photos), tmp_path / "out", detect=never, progress=lambda *step: calls.append(step)
    )
    assert {path: os.stat(tmp_path / "out" / path).st_mtime_ns for path in expected} == times
    assert calls == [(17, 17)]
    assert (again.images, again.aligned, again.no_face) == (first.images, first.aligned, first.no_face)
    assert (first.resumed, again.resumed) == (0, 17)


def test_progress_is_told(undisturbed, tmp_path):
    photos, _ = undisturbed
    calls = []
    align_images(
        IdentityFolder(photos), tmp_path / "out", detect=fake_detect, batch=5, progress=lambda *step: calls.append(step)
    )
    assert calls == [(0, 17), (5, 17), (10, 17), (15, 17), (17, 17)]


# What is refused.


def test_other_settings_and_other_photos_are_refused(tmp_path):
    photos, out = faces.write_folder(tmp_path / "photos", 1, 2), tmp_path / "out"
    align_images(IdentityFolder(photos), out, detect=fake_detect)
    before = tree(out)
    changes = [{"template": "sphereface_112x96"}, {"encoding": "png"}, {"quality": 90}, {"no_face": "center"}]
    for change in changes:
        with pytest.raises(ValueError, match=f"begun with other settings.*{next(iter(change))}"):
            align_images(IdentityFolder(photos), out, detect=fake_detect, **change)
    (photos / "0000001" / "003.jpg").write_bytes(faces.face(1, 3))
    with pytest.raises(ValueError, match=r"begun with other settings.*source.*'samples': 2"):
        align_images(IdentityFolder(photos), out, detect=fake_detect)
    assert tree(out) == before
    for damaged in ("", "[]", "[" * 60000):
        (out / "align.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"align\.json is not valid"):
            align_images(IdentityFolder(photos), out, detect=fake_detect)


def test_a_directory_with_other_things_is_refused(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 1, 2)
    before = tree(photos)
    with pytest.raises(ValueError, match="`out` must be a new or empty directory"):
        align_images(IdentityFolder(photos), photos, detect=fake_detect)
    assert tree(photos) == before


def test_what_is_not_a_photo_by_its_name_is_logged_and_counted(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 1, 2)
    Image.open(io.BytesIO(faces.face(1, 3))).save(photos / "0000001" / "003.webp", lossless=True)
    (photos / "0000001" / "Thumbs.db").write_bytes(b"content")
    (photos / "0000002").mkdir()
    (photos / "0000002" / "movie.mp4").write_bytes(b"content")
    for extensions, taken, others in ((PHOTO_EXTENSIONS, 3, 2), (EXTENSIONS, 2, 3)):
        out = tmp_path / f"out{taken}"
        reader = IdentityFolder(photos, extensions=extensions)
        for again in range(2):
            report = align_images(reader, out, detect=fake_detect)
            assert (report.images, report.not_taken, report.resumed) == (taken, others, taken * again)
            assert report.aligned + report.no_face == taken
        records = [json.loads(line) for line in (out / "align.jsonl").read_text().splitlines()]
        assert [record["name"] for record in records[taken:]] == list(reader.ignored)
        assert records[-1] == {
            **dict.fromkeys(records[0]),
            "name": "0000002/movie.mp4",
            "faces": 0,
            "reason": "not taken: .mp4",
        }
        assert list(records[-1]) == list(records[0])


def test_two_processes_do_not_write_into_one_directory(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 1, 2)

    def nested(images):
        with pytest.raises(OutputError, match="in use by another run: process "):
            align_images(IdentityFolder(photos), tmp_path / "out", detect=fake_detect)
        return fake_detect(images)

    assert align_images(IdentityFolder(photos), tmp_path / "out", detect=nested).images == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("template", "insightface"),
        ("no_face", "keep"),
        ("encoding", "webp"),
        ("quality", 0),
        ("quality", 101),
        ("batch", 0),
        ("jobs", 0),
        ("jobs", True),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, name, value):
    reader = IdentityFolder(faces.write_folder(tmp_path / "photos", 1, 1))
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: .*{value!r}"):
        align_images(reader, tmp_path / "out", detect=fake_detect, **{name: value})
    assert not (tmp_path / "out").exists()


def test_a_detector_that_loses_images(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path / "photos", 1, 2))
    with pytest.raises(ValueError, match="`detect` must return 2 lists"):
        align_images(reader, tmp_path / "out", detect=lambda images: [[]])


class Named:
    """A reader whose names come from somebody who means harm."""

    labels, identities = np.array([0], "int32"), ["x"]

    def __init__(self, name):
        self.only_name = name

    def __len__(self):
        return 1

    def name(self, index):
        return self.only_name

    def sample(self, index):
        return faces.face(1, 1), 0


@pytest.mark.parametrize("name", ["../x.jpg", "/tmp/x.jpg", "a/../../x.jpg", "a/..", "", "a\0.jpg", "a/"])
def test_names_that_lead_out_are_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="must be paths below the directory"):
        align_images(Named(name), tmp_path / "out", detect=fake_detect)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_output_is_not_followed_out(tmp_path):
    reader, out, elsewhere = Named("Ada/1.jpg"), tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def planting(images):
        (out / "Ada").symlink_to(elsewhere)
        return [[Face((0, 0, 50, 50), tuple(map(tuple, SPHEREFACE)), 0.9)] for _ in images]

    with pytest.raises(ValueError, match="leads out of the directory"):
        align_images(reader, out, detect=planting)
    assert list(elsewhere.iterdir()) == []


# Names.


class Names(list):
    name = list.__getitem__


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", "b", "a.png", "a.jpg", "a.bmp", "a.JPG", "d/a.png", "d/a", "b.v2", "a.png.jpg"])))
def test_names_differ_where_photos_differ(names):
    try:
        aligned = AlignedNames(Names(names), ".jpg")
    except ValueError:
        assert {"a.png.jpg", "a.png"} <= set(names)
        return
    mapped = [aligned.name(number) for number in range(len(names))]
    assert len(set(mapped)) == len(set(names))
    assert all(name.endswith(".jpg") for name in mapped)


def test_names_that_would_become_one_in_spite_of_the_rule_are_refused():
    with pytest.raises(ValueError, match=r"both become a\.png\.jpg"):
        AlignedNames(Names(["a.png", "a.bmp", "a.png.jpg"]), ".jpg")


def test_a_list_gives_a_list(tmp_path):
    path = faces.write_list(tmp_path / "photos" / "list.txt", people=2, images=3)
    (tmp_path / "photos" / "#a b.png").write_bytes(faces.face(3, 1))
    with open(path, "a") as file:
        file.write("./#a b.png 17\nmissing.jpg 17\n0000001 1\n0000001/001.jpg 1\n")
    report = align_images(
        ImageList(path),
        tmp_path / "out",
        detect=lambda i: (
            [fake_detect(i)[0] or []] + [[Face((0, 0, 50, 50), tuple(map(tuple, SPHEREFACE)), 0.9)] for _ in i[1:]]
        ),
        batch=4,
    )
    assert {record["reason"] for record in log(tmp_path / "out")[7:9]} == {"not an image: no such file"}
    assert report.not_an_image == 2
    aligned = ImageList(tmp_path / "out" / "aligned.txt")
    original = {record["output"]: record["identity"] for record in log(tmp_path / "out") if record["output"]}
    assert len(aligned) == report.aligned >= 6
    for number in range(len(aligned)):
        encoded, label = aligned.sample(number)
        assert Image.open(io.BytesIO(encoded)).size == (112, 112)
        assert aligned.identities[label] == original[aligned.name(number)]
    assert "#a b.jpg" in original


# Photos of every kind.


def bytes_of(image, *arguments, **options):
    buffer = io.BytesIO()
    image.save(buffer, *arguments, **options)
    return buffer.getvalue()


def test_sixteen_bits_grey_transparency_palette_and_cmyk():
    ramp = np.arange(256, dtype="uint8").reshape(16, 16)
    expected = np.repeat(ramp[..., None], 3, axis=-1)
    sixteen = Image.fromarray(ramp.astype("uint16") * 257)
    grey = Image.fromarray(ramp)
    for image, kind in [(sixteen, "PNG"), (sixteen, "TIFF"), (grey, "PNG"), (grey, "BMP"), (grey, "GIF")]:
        np.testing.assert_array_equal(decoded(bytes_of(image, kind)), expected)
    cmyk = decoded(bytes_of(Image.fromarray(expected).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(cmyk.astype(int) - expected).max() < 6
    half = np.full((4, 4, 4), (255, 0, 0, 128), "uint8")
    assert np.abs(decoded(bytes_of(Image.fromarray(half), "PNG"))[0, 0].astype(int) - (255, 127, 127)).max() <= 1
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 1, 2, 3])
    assert decoded(bytes_of(palette, "PNG"))[0, 0].tolist() == [1, 2, 3]
    assert decoded(bytes_of(palette, "PNG", transparency=1))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_exif_data_is_applied(orientation):
    from PIL import ImageOps

    stored = Image.fromarray(noise(6, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = bytes_of(stored, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decoded(content), upright)
    assert decoded(content).shape == ((6, 4, 3) if orientation < 5 else (4, 6, 3))


def test_damaged_exif_data_do_not_cost_the_image():
    content = bytes_of(Image.fromarray(noise(6, 4)), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xffgarbage")
    np.testing.assert_array_equal(decoded(content), noise(6, 4))


def test_what_is_no_image():
    whole = faces.face(1, 1)
    for content in (
        b"",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        whole[: len(whole) // 2],
        b"\xff\xd8\xff",
    ):
        with pytest.raises(NotAnImageError) as caught:
            decoded(content)
        assert "0x" not in str(caught.value)
    with pytest.raises(NotAnImageError, match="floats"):
        decoded(bytes_of(Image.fromarray(np.ones((4, 4), "float32")), "TIFF"))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damaged_bytes_are_an_image_or_none(place, value, as_png):
    content = bytearray(bytes_of(Image.fromarray(noise(16, 12)), "PNG" if as_png else "JPEG"))
    content[place % len(content)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(NotAnImageError):
            assert decoded(bytes(content)).shape[2] == 3


def test_decompression_bombs_are_a_line_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    save(tmp_path / "photos", "a/between.png", noise(80, 80))
    save(tmp_path / "photos", "a/bomb.png", noise(200, 200))
    save(tmp_path / "photos", "a/good.png", noise(60, 60))
    report = align_images(IdentityFolder(tmp_path / "photos"), tmp_path / "out", detect=lambda i: [[] for _ in i])
    assert (report.not_an_image, report.no_face) == (2, 1)
    assert [record["reason"] for record in log(tmp_path / "out")[:2]] == ["not an image: more than 5000 pixels"] * 2


def test_files_of_which_pillow_warns_are_read_in_silence(tmp_path):
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([9, 9, 9, 1, 2, 3])
    (tmp_path / "photos" / "a").mkdir(parents=True)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x09" + b"\x01\x12\0\x03\0\0\0\x01"  # nine entries, of which half a one is there
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(bytes_of(Image.fromarray(noise()), "JPEG", exif=exif))
    (tmp_path / "photos" / "a" / "2.png").write_bytes(bytes_of(palette, "PNG", transparency=b"\0\x7f"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = align_images(IdentityFolder(tmp_path / "photos"), tmp_path / "out", detect=lambda i: [[] for _ in i])
    assert report.no_face == 2


def test_without_a_face_the_middle_may_be_taken(tmp_path):
    picture = np.zeros((224, 400, 3), "uint8")
    picture[:, 88:312] = 200
    save(tmp_path / "photos", "a/1.bmp", picture)
    reader = IdentityFolder(tmp_path / "photos")
    nowhere = Face((0, 0, 9, 9), ((5, 5),) * 5, 0.9)
    unreal = Face((0, 0, 9, 9), ((float("nan"), 5),) * 5, 0.9)
    for name, found in (("none", []), ("one place", [nowhere]), ("not finite", [unreal])):
        out = tmp_path / name
        report = align_images(reader, out, detect=lambda i, f=found: [f], no_face="center", encoding="png")
        assert (report.aligned, report.no_face) == (0, 1)
        assert log(out)[0]["output"] == os.path.join("a", "1.png")
        np.testing.assert_array_equal(pixels_of(out / "a" / "1.png"), np.full((112, 112, 3), 200))


# The command.


def test_the_command(tmp_path, monkeypatch):
    import typer

    from keras_normface.cli.prepare import align
    from keras_normface.prepare import _align as align_run

    monkeypatch.setattr(align_run, "Mtcnn", lambda: fake_detect)
    app = typer.Typer()
    app.command()(align)
    photos = faces.write_folder(tmp_path / "photos", 2, 2)
    arguments = [str(photos), str(tmp_path / "out"), "--template", "sphereface_112x96", "--jobs", "1"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    found = {record["name"]: record["output"] for record in log(tmp_path / "out")}
    assert len(found) == 4
    assert any(found.values())
    assert all(pixels_of(tmp_path / "out" / path).shape == (112, 96, 3) for path in found.values() if path)
    assert "photos" in first.output
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    other = CliRunner().invoke(app, [*arguments[:2], "--quality", "80"])
    assert other.exit_code == 2
    assert "begun with other settings" in other.output
    shards = tmp_path / "x.rec"
    shards.write_bytes(b"")
    assert CliRunner().invoke(app, [str(shards), str(tmp_path / "out2")]).exit_code == 2
