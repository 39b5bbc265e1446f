"""Shards of real faces, ours and TensorFlow's own, and directories that are damaged."""

import copy
import json
import os
import pickle
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.data import CASIA_LFW_OVERLAP, MetadataError, TFRecordShards
from keras_normface.data.shards import INDEX_DTYPE, read_metadata, write_index, write_metadata, write_shard
from tests.support import faces

EXAMPLES = [(faces.face(p, i), p - 1, faces.folder_name(p), f"{p}/ü{i}.jpg") for p in (1, 2) for i in (1, 2, 3)]
VALID = faces.metadata(
    [
        {"name": "shard-00000-of-00002.tfrecord", "samples": 2, "bytes": 10, "sha256": "0" * 64},
        {"name": "shard-00001-of-00002.tfrecord", "samples": 3, "bytes": 20, "sha256": "f" * 64},
    ],
    ["a", "ü"],
)


def test_shards_that_tensorflow_wrote_come_back_byte_for_byte(tmp_path):
    expected = faces.write_shards(tmp_path)
    reader = TFRecordShards(tmp_path)
    faces.check_reader(reader, expected)
    assert reader.identities == ["0000001", "0000002", "0000003"]
    assert reader.image_size == (112, 92)
    assert list(reader.verify()) == ["shard-00000-of-00002.tfrecord", "shard-00001-of-00002.tfrecord"]
    assert reader.name(11).startswith("shard-00001-of-00002.tfrecord#byte ")
    faces.check_reader(pickle.loads(pickle.dumps(reader)), expected)


def test_tensorflow_reads_what_write_shard_wrote(tmp_path):
    path = os.fspath(tmp_path / "one.tfrecord")
    entry = write_shard(path, EXAMPLES)
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    read = [tf.io.parse_single_example(one, features) for one in tf.data.TFRecordDataset(path)]
    found = [tuple(one[key].numpy() for key in features) for one in read]
    assert found == [(e, label, name.encode(), file.encode()) for e, label, name, file in EXAMPLES]
    with open(path, "rb") as file:
        content = file.read()
    assert entry.bytes == len(content)
    assert entry.rows.dtype == INDEX_DTYPE
    assert INDEX_DTYPE.itemsize == 18
    starts = entry.rows["offset"].tolist()
    assert [content[s : s + n] for s, n in zip(starts, entry.rows["length"].tolist(), strict=True)] == [
        encoded for encoded, *_ in EXAMPLES
    ]
    assert write_shard(path, EXAMPLES).sha256 == entry.sha256
    assert os.listdir(tmp_path) == ["one.tfrecord"]


def test_an_image_that_is_also_elsewhere_in_its_record(tmp_path):
    entry = write_shard(tmp_path / "one.tfrecord", [(b"a", 0, "a", "a"), (b"image", 1, "image/", "image")])
    content = (tmp_path / "one.tfrecord").read_bytes()
    assert [content[row["offset"] :][: row["length"]] for row in entry.rows] == [b"a", b"image"]


def _broken_off():
    yield EXAMPLES[0]
    raise KeyboardInterrupt


def test_what_is_broken_off_leaves_what_was_there(tmp_path):
    path = tmp_path / "one.tfrecord"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_shard(path, _broken_off())
    for wrong in ((b"", 0, "a", "empty.jpg"), (b"image", -1, "a", "empty.jpg")):
        with pytest.raises(ValueError, match=r"empty\.jpg"):
            write_shard(path, [EXAMPLES[0], wrong])
    with pytest.raises(MetadataError):
        write_metadata(tmp_path, {})
    with pytest.raises(ValueError, match="INDEX_DTYPE"):
        write_index(tmp_path, np.zeros(2))
    assert os.listdir(tmp_path) == ["one.tfrecord"]
    assert path.read_bytes() == b"before"


def test_excluded_identities_vanish(tmp_path):
    expected = faces.write_shards(tmp_path)
    reader = TFRecordShards(tmp_path, exclude=["0000002"])
    faces.check_reader(reader, [(encoded, label // 2) for encoded, label in expected if label != 1])
    assert reader.identities == ["0000001", "0000003"]
    assert len(TFRecordShards(tmp_path, exclude=CASIA_LFW_OVERLAP)) == 12
    with pytest.raises(ValueError, match="0000009"):
        TFRecordShards(tmp_path, exclude=["0000009"])
    again = pickle.loads(pickle.dumps(reader))
    assert again.encoded([5]) == reader.encoded([5])


def test_a_damaged_shard_is_found_by_verify_and_a_short_one_at_once(tmp_path):
    faces.write_shards(tmp_path)
    path = tmp_path / "shard-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    progress = TFRecordShards(tmp_path).verify()
    assert next(progress) == "shard-00000-of-00002.tfrecord"
    with pytest.raises(MetadataError, match=r"shard-00001-of-00002\.tfrecord .* corrupt"):
        next(progress)
    reader = TFRecordShards(tmp_path)
    path.write_bytes(content[:-1000])
    with pytest.raises(MetadataError, match="truncated"):
        reader.sample(11)
    with pytest.raises(MetadataError, match=r"shard-00001-of-00002\.tfrecord must have"):
        TFRecordShards(tmp_path)
    path.unlink()
    with pytest.raises(MetadataError, match="no file"):
        TFRecordShards(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *((field, value, "inside") for field, value in [("offset", -1), ("offset", 2**62), ("length", 2**32 - 1)]),
        *(("length", 0, "inside"), ("label", 3, "labels from 0 to 2"), ("label", -1, "labels from 0 to 2")),
        *(("shard", 2, "name shards"), ("shard", 1, "as many")),
    ],
)
def test_an_index_that_points_nowhere(tmp_path, field, value, message):
    faces.write_shards(tmp_path)
    rows = np.load(tmp_path / "index.npy")
    rows[field][0] = value
    np.save(tmp_path / "index.npy", rows)
    with pytest.raises(MetadataError, match=message):
        TFRecordShards(tmp_path)


def test_an_index_that_is_none(tmp_path):
    faces.write_shards(tmp_path)
    path = tmp_path / "index.npy"
    rows, content = np.load(path), path.read_bytes()
    for array in (rows[:-1], rows["offset"], np.array([{}], object)):
        np.save(path, array)
        with pytest.raises(MetadataError, match=r"index\.npy"):
            TFRecordShards(tmp_path)
    for damaged in (b"", content[:40], content[:-5], b"\x93NUMPY" + content[:9], b"PK\x03\x04", b"cos\nsystem\n"):
        path.write_bytes(damaged)
        with pytest.raises(MetadataError, match=r"index\.npy"):
            TFRecordShards(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        TFRecordShards(tmp_path)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 127), st.binary(min_size=1, max_size=3))
def test_an_index_with_a_mutated_head(at, change):
    with tempfile.TemporaryDirectory() as directory:
        expected = faces.write_shards(directory, people=1, images=2)
        path = os.path.join(directory, "index.npy")
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(change)
        try:
            reader = TFRecordShards(directory)
        except MetadataError:
            return
        assert [reader.sample(number) for number in range(2)] == expected


def test_the_sidecar_comes_back(tmp_path):
    write_metadata(tmp_path, VALID)
    assert read_metadata(tmp_path) == VALID
    assert os.listdir(tmp_path) == ["dataset.json"]


@pytest.mark.parametrize("key", [*VALID])
def test_a_key_that_is_missing_or_of_another_type(tmp_path, key):
    for change in ({}, {key: 1.5}, {key: True}):
        metadata = {k: v for k, v in VALID.items() if k != key} | change
        (tmp_path / "dataset.json").write_text(json.dumps(metadata))
        with pytest.raises(MetadataError, match=f"`{key}`"):
            read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 1),
        (("version",), 3),
        (("template",), "other"),
        (("template",), []),
        (("format",), "other"),
        (("samples",), 6),
        (("num_identities",), 3),
        (("samples",), -5),
    ]
    + [(("identities",), ["a", "a"]), (("image_size",), [112]), (("image_size",), [0, 1]), (("skipped",), [["a"]])]
    + [
        (("shards", 0, "name"), n)
        for n in ("../x", "a/b", "..", "", "a\\b", "/x", "a..b", "x\0", ".x", VALID["shards"][1]["name"])
    ]
    + [(("shards", 1, "sha256"), "0" * 63), (("shards", 1, "samples"), -1), (("shards", 0), 7), (("shards",), [])],
)
def test_a_value_that_does_not_fit(tmp_path, path, value):
    metadata = copy.deepcopy(VALID)
    place = metadata
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "dataset.json").write_text(json.dumps(metadata))
    with pytest.raises(MetadataError, match=rf"{path[0]}"):
        read_metadata(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["..", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*VALID, "name"]), inner, max_size=4),
    max_leaves=8,
)


def read_written(content):
    """Write bytes as a metadata and read it: `None` if that is refused as documented."""
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "dataset.json"), "wb") as file:
            file.write(content)
        try:
            return read_metadata(directory)
        except MetadataError:
            return None


@settings(deadline=None, max_examples=200)
@given(JSON, st.sampled_from([*VALID]), st.booleans())
def test_random_json(value, key, whole):
    found = read_written(json.dumps(value if whole else {**VALID, key: value}).encode())
    if found is not None:
        assert not whole
        assert all(".." not in shard["name"] and "/" not in shard["name"] for shard in found["shards"])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_mutated_sidecars(data):
    content = bytearray(json.dumps(VALID).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3))
    found = read_written(bytes(content))
    assert found is None or found["samples"] == sum(shard["samples"] for shard in found["shards"])


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"9" * 10_000, b'{"samples": NaN}', b"\xff", b"null", b'"a"'])
def test_what_is_no_sidecar(content):
    assert read_written(content) is None
