"""YouTube Faces' splits and frames; MegaFace's lists and feature files."""

import json
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.protocols import (
    MegafaceFeatures,
    ProtocolFileError,
    read_megaface,
    read_megaface_features,
    read_ytf,
    write_megaface_features,
)
from tests.support import protocol_files as files


def test_ytf(tmp_path):
    protocol = read_ytf(files.write_ytf(tmp_path), tmp_path / "frames")
    assert protocol.name == "YTF, 4 pairs, 2 folds"
    videos = [[protocol.images[frame] for frame in frames] for frames in protocol.videos]
    assert videos == [
        ["Ada/1/1.10.jpg", "Ada/1/1.9.jpg"],
        ["Ada/4/4.1.jpg"],
        ["Bob/0/0.1.jpg", "Bob/0/0.2.png"],
        ["Eve/2/2.3.jpg"],
    ]
    assert protocol.left.tolist() == [0, 0, 3, 1]
    assert protocol.right.tolist() == [1, 2, 2, 0]
    assert protocol.same.tolist() == [True, False, False, True]
    assert protocol.folds.tolist() == [0, 0, 1, 1]
    assert protocol.subjects.tolist() == [0, 0, 0, 1, 1, 2]


def test_ytf_without_headings_and_with_other_files_among_the_frames(tmp_path):
    path = files.write_ytf(tmp_path)
    expected = read_ytf(path, tmp_path / "frames").images
    path.write_text(path.read_text().split("\n", 1)[1])
    files.write(tmp_path / "frames/Ada/1/Thumbs.db", b"")
    files.write(tmp_path / "frames/Ada/1/.hidden.jpg", b"")
    assert read_ytf(path, tmp_path / "frames").images == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1, 1, Ada/1, Ada/4", "five fields"),
        ("0, 1, Ada/1, Ada/4, 1", "the split"),
        ("1, x, Ada/1, Ada/4, 1", "number of the pair"),
        ("1, 2, Ada/1, Ada/4, 1", "Line 3 .* repeats pair 2 of split 1, which is in line 2"),
        ("1, 1, Ada, Ada/4, 1", "by subject and number"),
        ("1, 1, Ada/1/1, Ada/4, 1", "by subject and number"),
        ("1, 1, ../frames, Ada/4, 1", "stays in its directory"),
        ("1, 1, Ada/.., Ada/4, 1", "stays in its directory"),
        ("1, 1, /etc, Ada/4, 1", "stays in its directory"),
        ("1, 1, Ada/1, Ada/4, 0", "must end with 1"),
        ("1, 1, Ada/1, Bob/0, 1", "must end with 1"),
        ("1, 1, Ada/1, Bob/0, no", "must end with 1"),
        ("1, 1, Ada/1, Ada/1, 1", "two videos"),
        ("1, 1, Ada/1, Ada/9, 1", "line 2 of .*splits.txt names the video Ada/9, which is not in"),
        ("1, 1, Ada/1, Ada/empty, 1", "line 2 of .* names the video Ada/empty, which has no frames"),
        ("1, 1, Ada/1, Ada/webp, 1", r"line 2 of .* names the video Ada/webp, .* not read: 2\.webp"),
        ("1, 1, Ada/1, Ada/" + "x" * 300 + ", 1", "line 2 of .* names the video"),
        ("1, 1, Ada/1, Ada/out, 1", "line 2 of .* names the video Ada/out, which is not in .* leads out"),
    ],
)
def test_what_is_no_list_of_ytf(tmp_path, line, message):
    path = files.write_ytf(tmp_path)
    (tmp_path / "frames/Ada/empty").mkdir()
    for name in ("1.jpg", "2.webp"):
        files.write(tmp_path / "frames/Ada/webp" / name, b"")
    files.write(tmp_path / "elsewhere/1.jpg", b"")
    os.symlink(tmp_path / "elsewhere", tmp_path / "frames/Ada/out")
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines))
    with pytest.raises(ProtocolFileError, match=message):
        read_ytf(path, tmp_path / "frames")


def test_ytf_without_pairs(tmp_path):
    with pytest.raises(ProtocolFileError, match="no pairs"):
        read_ytf(files.write_ytf(tmp_path, pairs=[]), tmp_path / "frames")


def test_megaface_lists(tmp_path):
    files.write_megaface(tmp_path)
    protocol = read_megaface(tmp_path / "probes.json", tmp_path / "others.json")
    assert protocol.name == "MegaFace, 4 probes, 2 distractors"
    assert protocol.images == ("Joe/Joe_7.png", "Joe/Joe_8.png", "Ada/Ada_7.png", "Ada/Ada_8.png")
    assert protocol.subjects.tolist() == [1, 1, 0, 0]
    assert protocol.distractors == ("534/53415754@N00/37731000_1.jpg", "389/x@N07/1_13.jpg")
    assert read_megaface(tmp_path / "probes.json", 10).distractors == 10


def test_megaface_subjects_differ_by_each_character(tmp_path):
    content = {"path": ["a", "b", "c", "d"], "id": ["Ada\0", "Ada", "Ada", "Ada\0"]}
    path = files.write(tmp_path / "probes.json", json.dumps(content))
    assert read_megaface(path, 10).subjects.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a valid JSON"),
        ("[" * 100_000, "not a valid JSON"),
        (b"\xff", "not a valid JSON"),
        ([], '"path"'),
        ({"id": ["a", "a"]}, '"path"'),
        ({"path": []}, '"path"'),
        ({"path": ["a", 1]}, '"path"'),
        ({"path": "ab", "id": "aa"}, '"path"'),
        ({"path": ["a", "b"]}, '"id"'),
        ({"path": ["a", "b"], "id": ["a", None]}, '"id"'),
        ({"path": ["a", "b"], "id": ["a"]}, "holds 1 for 2"),
        ({"path": ["a", "a"], "id": ["a", "a"]}, "each image once"),
        ({"path": ["a", "../b"], "id": ["a", "a"]}, r"Received: '\.\./b'"),
        ({"path": ["a", "/b"], "id": ["a", "a"]}, "Received: '/b'"),
        ({"path": ["a", "b"], "id": ["a", "b"]}, "probes.json: .* two images"),
    ],
)
def test_what_is_no_list_of_megaface(tmp_path, content, message):
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    path = files.write(tmp_path / "probes.json", text)
    with pytest.raises(ProtocolFileError, match=message):
        read_megaface(path, 10)


def test_a_feature_file_byte_for_byte(tmp_path):
    path = tmp_path / "x.bin"
    write_megaface_features(path, [1.0, -0.5, 3e-8])
    assert path.read_bytes() == files.feature_file([1.0, -0.5, 3e-8])
    assert path.read_bytes()[:20] == b"\3\0\0\0\1\0\0\0\4\0\0\0\5\0\0\0\0\0\x80\x3f"
    vector = read_megaface_features(path)
    assert vector.dtype == np.float32
    vector += 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_vectors_come_back(tmp_path_factory, vector):
    path = tmp_path_factory.mktemp("features") / "x.bin"
    write_megaface_features(path, vector)
    assert read_megaface_features(path).tolist() == vector


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header of 16 bytes, but has 0"),
        (files.feature_file([1.0])[:15], "header of 16 bytes, but has 15"),
        (files.feature_file([1.0, 2.0])[:-1], "must have 24 bytes for its 2 numbers, but has 23"),
        (files.feature_file([1.0, 2.0]) + b"\0", "must have 24 bytes for its 2 numbers, but has 25"),
        (files.feature_file([1.0, 2.0], (2, 1, 4, 6)), r"It begins with \[2, 1, 4, 6\]"),
        (files.feature_file([1.0, 2.0], (2, 1, 8, 5)), "begins with"),
        (files.feature_file([1.0, 2.0], (1, 2, 4, 5)), "begins with"),
        (files.feature_file([], (0, 1, 4, 5)), "begins with"),
        (files.feature_file([1.0], (-1, 1, 4, 5)), "begins with"),
        (files.feature_file([1.0], (2**31 - 1, 1, 4, 5)), "begins with"),
        (struct.pack(">4i", 1, 1, 4, 5) + b"abcd", "begins with"),
        (files.feature_file([1.0, math.nan]), "NaN or infinity, at place 1"),
        (files.feature_file([math.inf, 0.0]), "NaN or infinity, at place 0"),
    ],
)
def test_what_is_no_feature_file(tmp_path, content, message):
    path = files.write(tmp_path / "x.bin", content)
    with pytest.raises(ProtocolFileError, match=message) as caught:
        read_megaface_features(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("vector", [[], 1.0, [[1.0]], [math.nan], [1e39], ["x"], [1j]])
def test_what_cannot_be_written(tmp_path, vector):
    path = files.write(tmp_path / "x.bin", b"before")
    with pytest.raises(ValueError, match="`vector`"):
        write_megaface_features(path, vector)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("block_rows", [1, 2, 3, 5, 7, None])
def test_blocks(tmp_path, block_rows):
    expected = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    names = [f"{row % 2}/{row}.jpg" for row in range(5)]
    for name, vector in zip(names, expected, strict=True):
        files.write(tmp_path / f"{name}_ours.bin", files.feature_file(vector.tolist()))
    features = MegafaceFeatures(tmp_path, names, "_ours.bin", block_rows)
    for _ in range(2):
        blocks = list(features)
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        sizes = [len(block) for block in blocks]
        assert sizes == [min(block_rows or 5, 5 - start) for start in range(0, 5, block_rows or 5)]
    assert len(features) == 5


def test_blocks_that_are_refused(tmp_path):
    files.write(tmp_path / "a.bin", files.feature_file([1.0, 2.0]))
    files.write(tmp_path / "b.bin", files.feature_file([1.0]))
    with pytest.raises(ProtocolFileError, match=r"b.bin is of dimension 1, not of 2 as .*a.bin"):
        list(MegafaceFeatures(tmp_path, ["a", "b"], ".bin"))
    with pytest.raises(FileNotFoundError):
        list(MegafaceFeatures(tmp_path, ["a", "c"], ".bin"))
    for names, suffix in (([], ".bin"), (["../a"], ".bin"), (["a"], "/../../b"), (["/a"], ".bin")):
        with pytest.raises(ValueError, match="`names`"):
            MegafaceFeatures(tmp_path, names, suffix)
    with pytest.raises(ValueError, match="block_rows=0"):
        MegafaceFeatures(tmp_path, ["a"], ".bin", 0)
    with pytest.raises(NotADirectoryError, match="none"):
        MegafaceFeatures(tmp_path / "none", ["a"], ".bin")
