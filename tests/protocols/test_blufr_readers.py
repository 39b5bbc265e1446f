"""BLUFR's lists as text and as a MATLAB file."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_normface.protocols import ProtocolFileError, read_blufr
from keras_normface.protocols._matlab import read_matlab
from tests.support import protocol_files as files

NAMES = [f"{person}/{person}_000{i}.jpg" for person in ("Ada_Lovelace", "Bob") for i in (1, 2)]
WRITERS = {
    "text": lambda tmp_path, **lists: files.write_blufr_text(tmp_path / "lfw", **lists),
    "mat": lambda tmp_path, **lists: files.write_blufr_mat(tmp_path / "blufr_lfw_config.mat", **lists),
}
BOTH = pytest.mark.parametrize("form", list(WRITERS))


@BOTH
def test_both_forms(tmp_path, form):
    protocol = read_blufr(WRITERS[form](tmp_path))
    assert protocol.name == "BLUFR on LFW, 2 trials"
    assert list(protocol.images[:4]) == NAMES
    assert protocol.subjects.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for trial, expected in zip(protocol.trials, files.BLUFR_TRIALS, strict=True):
        for kind in ("train", "test", "gallery", "probes"):
            assert getattr(trial, kind).tolist() == [index - 1 for index in expected[kind]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_numbers_of_any_type_in_matlab_files(tmp_path, dtype):
    path = files.write_blufr_mat(tmp_path / "x.mat", dtype=dtype)
    assert read_blufr(path).trials[1].train.tolist() == [6, 7, 4]


def test_rows_instead_of_columns_in_matlab_files(tmp_path):
    trials = files.BLUFR_TRIALS
    rows = np.empty((1, len(trials)), object)
    for place, trial in enumerate(trials):
        rows[0, place] = np.array([trial["train"]])
    path = files.write_blufr_mat(tmp_path / "x.mat", raw={"trainIndex": rows, "labels": np.array([files.BLUFR_LABELS])})
    assert read_blufr(path).trials[1].train.tolist() == [6, 7, 4]


@BOTH
def test_names_of_another_form_and_another_suffix(tmp_path, form):
    names = [f"0246{i}d4.JPG" for i in range(7)] + ["Ada_Lovelace_0001.jpg"]
    protocol = read_blufr(WRITERS[form](tmp_path, names=names), suffix=".png", name="BLUFR on FRGC")
    assert protocol.images[0] == "02460d4.png"
    assert protocol.images[7] == "Ada_Lovelace/Ada_Lovelace_0001.png"
    assert protocol.name == "BLUFR on FRGC, 2 trials"


def changed(trial, **lists):
    trials = [dict(other) for other in files.BLUFR_TRIALS]
    trials[trial].update(lists)
    return trials


@BOTH
@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"labels": [1, 1, 2]}, "a label for each of 8 images, but holds 3"),
        ({"names": [*files.BLUFR_NAMES[:7], files.BLUFR_NAMES[0]]}, "Ada_Lovelace_0001.* more than once"),
        ({"names": [*files.BLUFR_NAMES[:7], "../Ada_0001.jpg"]}, "names without path"),
        ({"names": [*files.BLUFR_NAMES[:7], "a\\Ada_0001.jpg"]}, "names without path"),
        ({"trials": files.BLUFR_TRIALS[:1]}, "at least two"),
        ({"trials": changed(0, probes=[4, 6])}, "trial 1 .* gallery and the probes"),
        ({"trials": changed(1, probes=[1, 4, 2])}, "trial 2 .* gallery and the probes"),
        ({"trials": changed(1, test=[1, 2, 3, 4, 4])}, "trial 2 .* gallery and the probes"),
        ({"trials": changed(1, train=[7, 7])}, "more than once"),
        ({"trials": changed(1, train=[7, 1])}, r"trials\[1\]` .* subject 0 in both"),
    ],
)
def test_lists_that_contradict_themselves(tmp_path, form, lists, message):
    path = WRITERS[form](tmp_path, **lists)
    with pytest.raises(ProtocolFileError, match=message) as caught:
        read_blufr(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("labels.txt", 2, "one", "Line 2 .*labels.txt .* a label"),
        ("labels.txt", 2, "0", "Line 2 .* of at least 1"),
        ("train_set.txt", 1, "3", "train_set.txt ends too early"),
        ("train_set.txt", 1, "1", "Line 5 .*train_set.txt is one too many"),
        ("train_set.txt", 2, "two", "Line 2 .* number of images of a trial"),
        ("train_set.txt", 3, "1 Ada_Lovelace_0001.jpg", "Line 3 .* index of an image"),
        ("train_set.txt", 3, "2, Ada_Lovelace_0001.jpg", "Line 3 .* image 2 is 'Ada_Lovelace_0002.jpg'"),
        ("train_set.txt", 3, "9, Ada_Lovelace_0001.jpg", "Line 3 .* there are 8 images"),
        ("train_set.txt", 3, "0, Ada_Lovelace_0001.jpg", "Line 3 .* of at least 1"),
    ],
)
def test_what_is_no_text_list(tmp_path, file, number, line, message):
    directory = files.write_blufr_text(tmp_path)
    lines = (directory / file).read_text().splitlines()
    lines[number - 1] = line
    files.write(directory / file, "\n".join(lines))
    with pytest.raises(ProtocolFileError, match=message):
        read_blufr(directory)


def test_lists_of_different_numbers_of_trials(tmp_path):
    directory = files.write_blufr_text(tmp_path)
    files.write(directory / "probe_set.txt", "1\n3\n4, Bob_0002.jpg\n6, Eve_0002.jpg\n7, Joe_0001.jpg\n")
    with pytest.raises(ProtocolFileError, match=r"2 in train_set.txt, .* 1 in probe_set.txt"):
        read_blufr(directory)
    one = np.empty((1, 1), object)
    one[0, 0] = np.array([[4, 6, 7]])
    with pytest.raises(ProtocolFileError, match=r"2 in trainIndex, .* 1 in probIndex"):
        read_blufr(files.write_blufr_mat(tmp_path / "x.mat", raw={"probIndex": one}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"galIndex": None}, "lacks the variables galIndex. It holds: .*imageList.*other"),
        ({"labels": None, "imageList": None}, "lacks the variables imageList, labels"),
        ({"labels": np.array([[1.5] * 8])}, "labels .* integers"),
        ({"labels": np.array([[np.nan] * 8])}, "labels .* integers"),
        ({"labels": np.ones((4, 2))}, "labels .* integers"),
        ({"labels": np.array([[1 + 2j] * 8])}, "labels .* integers"),
        ({"imageList": np.ones((8, 1))}, "imageList .* list of cells"),
        ({"imageList": np.array([[1.0, "a"]], object)}, "imageList .* text"),
        ({"testIndex": np.array([["a", "b"]], object)}, "testIndex .* integers"),
        ({"testIndex": np.array([[1, 2], [3, 4]], object)}, "testIndex .* list of cells"),
        ({"testIndex": np.array([[0], [99]], object)}, "trial 1"),
    ],
)
def test_matlab_files_of_another_content(tmp_path, changes, message):
    path = files.write_blufr_mat(tmp_path / "x.mat", raw={"other": np.ones((1, 1)), **changes})
    with pytest.raises(ProtocolFileError, match=message):
        read_blufr(path)


def test_matlab_7_3_is_refused_by_name(tmp_path):
    import h5py

    with h5py.File(tmp_path / "plain.mat", "w", userblock_size=512) as file:
        file["labels"] = [1.0]
    for path in (tmp_path / "plain.mat", files.write(tmp_path / "bare.mat", b"\x89HDF\r\n\x1a\n" + bytes(600))):
        with pytest.raises(ProtocolFileError, match=r"7\.3 \(HDF5\).*-v7"):
            read_blufr(path)


@pytest.mark.parametrize("version", ["5", "7"])
def test_cells_text_and_numbers_are_what_scipy_reads(tmp_path, version):
    from scipy.io import loadmat, savemat

    cells = np.empty((3, 1), object)
    cells[:, 0] = "aé", np.arange(6.0).reshape(2, 3), np.zeros((0, 0))
    content = {"cells": cells, "text": "Ada Lovelace", "one": 3, "wide": np.arange(70_000, dtype="int64")}
    content |= {f"n_{dtype}": np.array([[0, 1, 100]], dtype) for dtype in ("int8", "uint16", "int32", "float32")}
    savemat(tmp_path / "x.mat", content, do_compression=version == "7")
    found = read_matlab(tmp_path / "x.mat", list(content))
    expected = loadmat(tmp_path / "x.mat")
    assert list(found) == list(content)
    for name in content:
        assert found[name].shape == expected[name].shape
        for ours, theirs in zip(found[name].ravel().tolist(), expected[name].ravel().tolist(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert found["n_float32"].dtype == np.float32


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corrupt_matlab_files_give_nothing_but_a_value_error(tmp_path, data):
    content = bytearray(files.write_blufr_mat(tmp_path / "x.mat").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = files.write(tmp_path / "corrupt.mat", bytes(content))
    try:
        read_blufr(path)
    except ProtocolFileError:
        return
    assert len(content) > 128


def matlab(name, kind, shape, *parts, compressed=True):
    """A variable of a MATLAB file, written with struct alone: `parts` are the elements after the name."""

    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    head = element(6, struct.pack("<II", kind, 0)), element(5, struct.pack(f"<{len(shape)}i", *shape)), element(1, name)
    matrix = element(14, b"".join([*head, *(element(of, data) for of, data in parts)]))
    return struct.pack("<II", 15, len(packed := zlib.compress(matrix))) + packed if compressed else matrix


def matlab_file(path, *variables):
    return files.write(path, b"MATLAB".ljust(124) + b"\x00\x01IM" + b"".join(variables))


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (matlab(b"labels", 6, (1, 2**27), (2, bytes(2**27))), "far larger than its file"),
        (matlab(b"other", 6, (1, 2**27), (2, bytes(2**27))), "far larger than its file"),
        (matlab(b"imageList", 1, (1, 2**30)), r"'imageList' of shape \(1, 1073741824\) has \d+ bytes"),
        (matlab(b"imageList", 1, (2**16, 2**16), compressed=False), "'imageList' of shape"),
        (matlab(b"labels", 6, (1, 2**30), (2, b"ab")), "'labels' of shape"),
        (matlab(b"labels", 4, (1, 2**30), (16, b"ab")), "'labels' of shape"),
        (matlab(b"labels", 2, (1, 2**30), (5, b"\x08\0\0\0")), "'labels' holds something else"),
        (matlab(b"labels", 5, (2**30, 1)), "'labels' holds something else"),
    ],
    ids=range(8),
)
def test_a_matlab_file_that_is_a_bomb_takes_little_memory(tmp_path, variable, message):
    path = matlab_file(tmp_path / "bomb.mat", variable)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolFileError, match=rf"bomb\.mat .*{message}"):
            read_blufr(path)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_the_matlab_files_of_these_tests_are_read(tmp_path):
    number = matlab(b"labels", 6, (1, 3), (2, b"\1\2\3"))
    path = matlab_file(tmp_path / "x.mat", number)
    with pytest.raises(ProtocolFileError, match=r"lacks the variables imageList, .* It holds: labels"):
        read_blufr(path)


def test_a_string_of_matlab_beside_what_is_wanted_is_passed_by(tmp_path):
    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    opaque = element(6, struct.pack("<II", 17, 0)) + element(1, b"note") + element(1, b"MCOS") + element(1, b"string")
    path = matlab_file(tmp_path / "a.mat", element(14, opaque), matlab(b"labels", 6, (1, 2), (2, b"\x03\x04")))
    assert read_matlab(path, ["labels"])["labels"].tolist() == [[3, 4]]
    with pytest.raises(ProtocolFileError, match="'note' holds something else"):
        read_matlab(path, ["note"])
