"""Shards made from real faces in each shape: what is in them, and that it never depends on how they were made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_normface.data import IdentityFolder, ImageList, RecordIO, TFRecordShards
from keras_normface.prepare import InvalidImageError, OutputError, prepare_shards
from keras_normface.prepare._output import locked
from keras_normface.prepare._workers import ShardWriter
from tests.support import faces


def contents(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def filenames(directory):
    """The names and labels in the records, as TensorFlow reads them."""
    import tensorflow as tf

    for path in sorted(Path(directory).glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            yield (
                features["image/filename"].bytes_list.value[0].decode(),
                features["image/class/text"].bytes_list.value[0].decode(),
                features["image/class/label"].int64_list.value[0],
                features["image/encoded"].bytes_list.value[0],
            )


def folder(root):
    return IdentityFolder(faces.write_folder(root / "photos"))


def image_list(root):
    (root / "photos").mkdir()
    return ImageList(faces.write_list(root / "photos" / "list.txt"))


def record_io(root):
    faces.write_record_io(root / "train", split=True)
    return RecordIO(root / "train.rec")


def shards(root):
    (root / "others").mkdir()
    faces.write_shards(root / "others")
    return TFRecordShards(root / "others")


@pytest.mark.parametrize("opened", [folder, image_list, record_io, shards])
def test_each_shape_comes_back_byte_for_byte(tmp_path, opened):
    reader = opened(tmp_path)
    metadata = prepare_shards(reader, tmp_path / "out", images_per_shard=5, validate=True)
    result = TFRecordShards(tmp_path / "out")
    assert sorted(result.sample(index) for index in range(12)) == sorted(reader.sample(index) for index in range(12))
    assert list(result.identities) == list(reader.identities)
    assert list(result.verify()) == [f"shard-0000{number}-of-00003.tfrecord" for number in range(3)]
    expected = {
        (reader.name(i), reader.identities[reader.labels[i]], reader.labels[i], reader.sample(i)[0]) for i in range(12)
    }
    assert set(filenames(tmp_path / "out")) == expected
    assert result.image_size == (112, 92)
    assert metadata == result.metadata == json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [shard["samples"] for shard in metadata["shards"]] == [4, 4, 4]
    assert metadata["source"]["kind"] == type(reader).__name__
    assert set(contents(tmp_path / "out")) == {
        "dataset.json",
        "index.npy",
        "invalid.jsonl",
        *(shard["name"] for shard in metadata["shards"]),
    }


def test_the_order_follows_from_the_seed(tmp_path):
    reader = folder(tmp_path)
    orders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("none", None)):
        prepare_shards(reader, tmp_path / name, shards=2, shuffle_seed=seed)
        orders[name] = [row[0] for row in filenames(tmp_path / name)]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert orders["none"] == [reader.name(index) for index in range(12)]
    assert orders["a"] != orders["c"]
    assert orders["a"] != orders["none"]
    assert sorted(orders["a"]) == sorted(orders["c"]) == orders["none"]


def spoil(root):
    """Three identities of four images: the second loses all, the others one each. Returns names and reasons."""
    photos = faces.write_folder(root)
    (photos / "0000001" / "002.jpg").write_bytes(b"")
    for number in (1, 2, 3, 4):
        path = photos / "0000002" / f"00{number}.jpg"
        path.write_bytes(path.read_bytes()[:-100])
    Image.new("RGB", (92, 111)).save(photos / "0000003" / "001.jpg", "PNG")
    return [
        ["0000001/002.jpg", "zero bytes"],
        *([f"0000002/00{number}.jpg", "truncated or corrupt"] for number in (1, 2, 3, 4)),
        ["0000003/001.jpg", "wrong size: 111x92 instead of 112x92"],
    ]


def test_bad_images_are_left_out_and_labels_stay_dense(tmp_path):
    skipped = spoil(tmp_path / "photos")
    reader = IdentityFolder(tmp_path / "photos")
    metadata = prepare_shards(
        reader, tmp_path / "out", shards=3, validate=True, size=(112, 92), template="sphereface_112x96"
    )
    assert metadata["skipped"] == skipped
    lines = (tmp_path / "out" / "invalid.jsonl").read_text().splitlines()
    assert [list(json.loads(line).values()) for line in lines] == skipped
    assert metadata["identities"] == ["0000001", "0000003"]
    assert (metadata["samples"], metadata["num_identities"], metadata["image_size"]) == (6, 2, [112, 92])
    assert metadata["template"] == "sphereface_112x96"
    result = TFRecordShards(tmp_path / "out")
    assert (result.image_size, result.template) == ((112, 92), "sphereface_112x96")
    assert np.bincount(result.labels).tolist() == [3, 3]
    bad = {name for name, _ in skipped}
    good = [(reader.name(i), reader.sample(i)[0]) for i in range(12) if reader.name(i) not in bad]
    expected = {(name, name[:7], int(name[:7] == "0000003"), encoded) for name, encoded in good}
    assert set(filenames(tmp_path / "out")) == expected
    with pytest.raises(InvalidImageError, match=r"0000001/002\.jpg: zero bytes"):
        prepare_shards(
            reader,
            tmp_path / "out",
            shards=3,
            validate=True,
            strict=True,
            size=(112, 92),
            template="sphereface_112x96",
        )


def test_strict_names_the_first_and_a_later_run_may_be_lenient(tmp_path):
    spoil(tmp_path / "photos")
    reader = IdentityFolder(tmp_path / "photos")
    options = {"shards": 3, "validate": True, "shuffle_seed": None}
    with pytest.raises(InvalidImageError, match=r"^0000001/002\.jpg: zero bytes$"):
        prepare_shards(reader, tmp_path / "out", strict=True, **options)
    assert not (tmp_path / "out" / "dataset.json").exists()
    prepare_shards(reader, tmp_path / "out", **options)
    prepare_shards(reader, tmp_path / "undisturbed", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_files_of_other_kinds_and_identities_without_an_image_are_listed(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 2, 2)
    (photos / "0000009").mkdir()
    for name in ("0000001/x.webp", "0000002/Thumbs.db", "0000009/y.tif", "0000009/z"):
        (photos / name).write_bytes(b"content")
    (photos / "0000001" / "003.jfif").write_bytes(faces.face(1, 3))
    metadata = prepare_shards(IdentityFolder(photos), tmp_path / "out", validate=True)
    assert (metadata["samples"], metadata["num_identities"]) == (5, 2)
    assert metadata["skipped"] == [
        ["0000001/x.webp", "image of another kind: .webp"],
        ["0000002/Thumbs.db", "no image: .db"],
        ["0000009/y.tif", "image of another kind: .tif"],
        ["0000009/z", "no image: no ending"],
        ["0000009", "identity without an image"],
    ]
    assert len((tmp_path / "out" / "invalid.jsonl").read_text().splitlines()) == 5
    for out in ("out", "new"):
        with pytest.raises(InvalidImageError, match=r"x\.webp: image of another kind"):
            prepare_shards(IdentityFolder(photos), tmp_path / out, validate=True, strict=True)
    (photos / "0000001" / "x.webp").unlink()
    (photos / "0000009" / "y.tif").unlink()
    prepare_shards(IdentityFolder(photos), tmp_path / "new", validate=True, strict=True)


def test_different_sizes_are_no_image_size(tmp_path):
    spoil(tmp_path / "photos")
    assert prepare_shards(IdentityFolder(tmp_path / "photos"), tmp_path / "out", validate=True)["image_size"] is None


def test_without_validation_only_what_cannot_be_read_is_found(tmp_path):
    payloads = [faces.payload(i % 2, faces.face(1, i + 1)) for i in range(5)]
    payloads[3] = faces.payload(1)
    payloads[4] = faces.payload(0, b"no image at all")
    faces.write_records(tmp_path / "train", payloads)
    metadata = prepare_shards(RecordIO(tmp_path / "train.rec"), tmp_path / "out")
    assert [name for name, _ in metadata["skipped"]] == ["train.rec#key 3"]
    assert metadata["skipped"][0][1].startswith("unreadable: ")
    assert metadata["samples"] == 4
    photos = folder(tmp_path)
    os.remove(tmp_path / "photos" / "0000002" / "003.jpg")
    metadata = prepare_shards(photos, tmp_path / "out2")
    assert metadata["skipped"] == [["0000002/003.jpg", "unreadable: No such file or directory"]]
    assert not (tmp_path / "out2" / "invalid.jsonl").exists()
    for path in (tmp_path / "photos").glob("*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of which can"):
        prepare_shards(IdentityFolder(tmp_path / "photos"), tmp_path / "out3")


def test_excluded_identities_are_noted_down(tmp_path):
    folder(tmp_path)
    reader = IdentityFolder(tmp_path / "photos", exclude=["0000002"])
    metadata = prepare_shards(reader, tmp_path / "out", excluded=["0000002"])
    assert metadata["excluded"] == ["0000002"]
    assert metadata["identities"] == ["0000001", "0000003"]
    assert np.bincount(TFRecordShards(tmp_path / "out").labels).tolist() == [4, 4]


def test_a_complete_directory_is_left_alone(tmp_path):
    reader = folder(tmp_path)
    first = prepare_shards(reader, tmp_path / "out", shards=2)
    (tmp_path / "out" / ".writing-plan.json-1").write_bytes(b"left by a kill")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert prepare_shards(reader, tmp_path / "out", shards=2) == first
    times.pop(".writing-plan.json-1")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times
    with pytest.raises(OutputError, match=r"complete.*shuffle_seed: then 0, now 1"):
        prepare_shards(reader, tmp_path / "out", shards=2, shuffle_seed=1)
    with pytest.raises(OutputError, match=r"complete.*source\.samples: then 12, now 8"):
        prepare_shards(IdentityFolder(tmp_path / "photos", exclude=["0000002"]), tmp_path / "out", shards=2)


def broken_off(monkeypatch, reader, out, at, **options):
    """Run until shard `at` is to be written."""
    write = ShardWriter.write

    def limited(self, task, advance):
        if task.number == at:
            raise KeyboardInterrupt
        return write(self, task, advance)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", limited)
        with pytest.raises(KeyboardInterrupt):
            prepare_shards(reader, out, **options)


def test_shards_that_are_there_are_not_written_again(tmp_path, monkeypatch):
    reader = folder(tmp_path)
    broken_off(monkeypatch, reader, tmp_path / "out", 2, shards=4)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tfrecord")}
    assert len(written) == 2
    reports = []
    prepare_shards(reader, tmp_path / "out", shards=4, progress=lambda done, total: reports.append((done, total)))
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert reports == [(6, 12), (9, 12), (12, 12)]
    prepare_shards(reader, tmp_path / "undisturbed", shards=4)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("damage", ["entry", "shard"])
def test_a_shard_or_an_entry_that_is_damaged_is_written_again(tmp_path, monkeypatch, damage):
    reader = folder(tmp_path)
    broken_off(monkeypatch, reader, tmp_path / "out", 2, shards=4)
    name = ".shard-00001.entry.json" if damage == "entry" else "shard-00001-of-00004.tfrecord"
    (tmp_path / "out" / name).write_bytes(b"{")
    prepare_shards(reader, tmp_path / "out", shards=4)
    prepare_shards(reader, tmp_path / "undisturbed", shards=4)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_run_that_was_begun_otherwise_is_refused(tmp_path, monkeypatch):
    reader = folder(tmp_path)
    broken_off(monkeypatch, reader, tmp_path / "out", 2, shards=4)
    before = contents(tmp_path / "out")
    for options, message in (
        ({"shards": 3}, "begun.*shards: then 4, now 3"),
        ({"shards": 4, "validate": True}, "validate: then false, now true"),
        ({"shards": 4, "template": "arcface_112x112"}, r"size: then null, now \[112, 112\]; template: then null, now"),
    ):
        with pytest.raises(OutputError, match=message):
            prepare_shards(reader, tmp_path / "out", **options)
    (tmp_path / "photos" / "0000001" / "001.jpg").rename(tmp_path / "photos" / "0000001" / "000.jpg")
    with pytest.raises(OutputError, match=r"source\.names_and_labels_sha256"):
        prepare_shards(IdentityFolder(tmp_path / "photos"), tmp_path / "out", shards=4)
    assert contents(tmp_path / "out") == before


def test_foreign_files_are_refused_and_stay(tmp_path, monkeypatch):
    reader = folder(tmp_path)
    with pytest.raises(OutputError, match="0000001"):
        prepare_shards(reader, tmp_path / "photos")
    broken_off(monkeypatch, reader, tmp_path / "out", 2, shards=4)
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        prepare_shards(reader, tmp_path / "out", shards=4)
    os.remove(tmp_path / "out" / "thesis.tex")
    plan = (tmp_path / "out" / "plan.json").read_text()
    for corrupt in ("[", plan.replace('"version": 2,', '"version": 1,')):
        assert corrupt != plan
        (tmp_path / "out" / "plan.json").write_text(corrupt)
        with pytest.raises(OutputError, match=r"plan\.json is not valid"):
            prepare_shards(reader, tmp_path / "out", shards=4)


def test_two_runs_at_once_are_refused(tmp_path):
    reader = folder(tmp_path)
    with locked(tmp_path / "out"), pytest.raises(OutputError, match=f"another run: process {os.getpid()} on host "):
        prepare_shards(reader, tmp_path / "out")
    prepare_shards(reader, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"shards": 0},
        {"shards": 13},
        {"images_per_shard": 0},
        {"images_per_shard": 2.5},
        {"jobs": 0},
        {"shuffle_seed": -1},
        {"shuffle_seed": 2**32},
        {"shuffle_seed": True},
    ],
)
def test_wrong_arguments(tmp_path, options):
    reader = folder(tmp_path)
    with pytest.raises(ValueError, match=f"{next(iter(options))}|shards"):
        prepare_shards(reader, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_size_and_template_are_those_that_the_source_records(tmp_path):
    reader = shards(tmp_path)
    with pytest.raises(ValueError, match=r"`size` .* records, \(112, 92\)"):
        prepare_shards(reader, tmp_path / "out", template="arcface_112x112")
    reader.template, reader.image_size = "arcface_112x112", (112, 112)
    with pytest.raises(ValueError, match=r"`template` .* records, arcface_112x112. Received: sphereface_112x96"):
        prepare_shards(reader, tmp_path / "out", size=(112, 112), template="sphereface_112x96")
    with pytest.raises(ValueError, match="`template`"):
        prepare_shards(reader, tmp_path / "out", template="other")
    assert not (tmp_path / "out").exists()
    again = TFRecordShards(os.fspath(_prepared(reader, tmp_path / "out")))
    assert (again.template, again.image_size) == ("arcface_112x112", (112, 112))


def _prepared(reader, out):
    prepare_shards(reader, out)
    return out


@pytest.mark.parametrize(
    ("record", "template"),
    [
        ('{"format": "keras_normface.align", "version": 1, "template": "sphereface_112x96"}', "sphereface_112x96"),
        ('{"format": "keras_normface.align", "version": 1, "template": "other"}', None),
        ('{"format": "keras_normface.align", "version": 1, "template": []}', None),
        ('{"template": "sphereface_112x96"}', None),
        ("[" * 9999, None),
        ("", None),
    ],
)
def test_what_align_records_is_taken_over(tmp_path, record, template):
    photos = faces.write_folder(tmp_path / "photos")
    faces_list = faces.write_list(tmp_path / "photos" / "list.txt")
    (photos / "align.json").write_text(record)
    for reader in (IdentityFolder(photos), ImageList(faces_list)):
        assert reader.template == template
        assert reader.image_size == (None if template is None else (112, 96))
    assert prepare_shards(IdentityFolder(photos), tmp_path / "out")["template"] == template


KILLED_AGAIN_AND_AGAIN = """
import os, random, shutil, signal, sys, time
import tensorflow  # once, not in each child: the kills are to meet the work
from keras_normface.data import IdentityFolder
from keras_normface.prepare import prepare_shards

photos, out, others = sys.argv[1:]
reader = IdentityFolder(photos)

def started(path):
    child = os.fork()
    if not child:
        prepare_shards(reader, path, shards=30, validate=True)
        os._exit(0)
    return child

begun = time.monotonic()
assert os.waitpid(started(out), 0)[1] == 0
usual = time.monotonic() - begun
chance = random.Random(4)
kills = 0
for number in range(4):
    path = os.path.join(others, str(number))
    for _ in range(8):
        child = started(path)
        time.sleep(chance.uniform(0, usual))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        kills += os.path.exists(os.path.join(path, "plan.json"))
    else:
        assert os.waitpid(started(path), 0)[1] == 0
print(kills)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    """With bad images and a lost identity, so that the second round is killed too."""
    spoil(tmp_path / "photos")
    faces.write_folder(tmp_path / "more", people=6, images=10)
    for person in (4, 5, 6):
        os.rename(tmp_path / "more" / faces.folder_name(person), tmp_path / "photos" / faces.folder_name(person))
    command = [
        sys.executable,
        "-c",
        KILLED_AGAIN_AND_AGAIN,
        *(os.fspath(tmp_path / n) for n in ("photos", "out", "others")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 1
    expected = contents(tmp_path / "out")
    assert len(expected) == 33
    for number in range(4):
        assert contents(tmp_path / "others" / str(number)) == expected
    assert len(TFRecordShards(tmp_path / "out")) == 37
