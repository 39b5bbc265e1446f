"""dlib's file: every number in its place, and everything else an error that names the file."""

import struct

import numpy as np
import pytest

from keras_normface.backbones import load_dlib
from keras_normface.backbones._dlib_file import Plan, read_weights
from tests.support import dlib_file

SMALL = {"stem": 2, "stages": ((2, 1), (3, 2)), "embedding": 4}
CONTENT, WEIGHTS = dlib_file.network(**SMALL)


def read(path, content):
    path.write_bytes(content)
    return read_weights(path, Plan(**SMALL))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.dat"


def refused(path, content):
    """The message with which a file is refused."""
    with pytest.raises(ValueError, match="`path` must be a file of dlib's face recognition network") as caught:
        read(path, content)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_weight_is_found_in_keras_order(path):
    arrays = read(path, CONTENT)
    names = ["stem_", *(f"stage{s}_unit{u}_" for s, u in ((1, 1), (2, 1), (2, 2)))]
    convs = [("stem_conv", "stem_affine")]
    convs += [(f"{name}conv{i}", f"{name}affine{i}") for name in names[1:] for i in (1, 2)]
    assert set(arrays) == {name for pair in convs for name in pair} | {"embedding"}
    for (conv, affine), wanted in zip(convs, WEIGHTS, strict=False):
        kernel, bias = arrays[conv]
        np.testing.assert_array_equal(kernel, wanted["kernel"].transpose(2, 3, 1, 0).astype("float32"))
        np.testing.assert_array_equal(bias, wanted["bias"].astype("float32"))
        for array, name in zip(arrays[affine], ("gamma", "beta"), strict=True):
            np.testing.assert_array_equal(array, wanted[name].astype("float32"))
    np.testing.assert_array_equal(arrays["embedding"][0], WEIGHTS[-1]["kernel"].astype("float32"))


def test_truncated_anywhere(path):
    for end in [*range(0, len(CONTENT), 37), *range(len(CONTENT) - 90, len(CONTENT))]:
        refused(path, CONTENT[:end])


def test_bytes_behind_the_end(path):
    assert "1 bytes follow the end" in refused(path, CONTENT + b"\0")


def test_a_flipped_bit_outside_the_weights_is_found_or_changes_no_weight(path):
    wanted = read(path, CONTENT)
    raw = {place for part in WEIGHTS for place in raw_places(part)}
    head = [place for place in range(len(CONTENT)) if place not in raw]
    accepted = 0
    for place in head[::4]:
        bit = (1, 16, 128)[place % 3]
        flipped = CONTENT[:place] + bytes([CONTENT[place] ^ bit]) + CONTENT[place + 1 :]
        path.write_bytes(flipped)
        found = weights_or_message(path)
        if isinstance(found, str):
            assert str(path) in found
            continue
        accepted += 1
        pairs = [(one, other) for name in wanted for one, other in zip(wanted[name], found[name], strict=True)]
        assert all(np.array_equal(one, other) for one, other in pairs)
    assert accepted < 0.2 * len(head[::4])  # flags, the loss and learning rates, which are numbers of training


def weights_or_message(path):
    """What is read, or why it is refused."""
    try:
        return read_weights(path, Plan(**SMALL))
    except ValueError as error:
        return str(error)


def raw_places(part):
    """Places of the raw float32 numbers of a layer in the file."""
    for names in (("kernel", "bias"), ("gamma", "beta")):
        arrays = [part[name].ravel() for name in names if name in part]
        raw = np.concatenate(arrays).astype("<f4").tobytes() if arrays else b""
        start = CONTENT.find(raw) if raw else 0
        yield from range(start, start + len(raw))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(path, value):
    at = CONTENT.index(np.float32(WEIGHTS[2]["bias"][0]).tobytes())
    damaged = CONTENT[:at] + struct.pack("<f", value) + CONTENT[at + 4 :]
    assert "the weights of stage1_unit1_conv2 must be finite" in refused(path, damaged)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"loss_metric_2", b"loss_metric_3", "found b'loss_metric_3' where the name 'loss_metric_2'"),
        (dlib_file.real(122.782), dlib_file.real(123.782), "means of the pixels must be"),
        (dlib_file.integers(150, 150), dlib_file.integers(150, 200), r"size of the input must be (150, 150)"),
        (b"con_4", b"con_5", "found b'con_5' where the name 'con_4'"),
        (dlib_file.integers(2, 7, 7, 2, 2, 0, 0), dlib_file.integers(2, 7, 7, 2, 2, 3, 3), "shape of stem_conv"),
        (dlib_file.real(0.04), dlib_file.integers(0, 32000), "numbers of the loss must be finite"),
        (dlib_file.EMPTY, dlib_file.integers(2, 9, 0, 0, 0), "shape of a gradient or an output"),
        (b"110" + dlib_file.EMPTY, b"210" + dlib_file.EMPTY, "where the flags of a layer"),
    ],
)
def test_another_network(path, old, new, message):
    assert old in CONTENT
    assert message in refused(path, CONTENT.replace(old, new, 1))


@pytest.mark.parametrize("content", [b"", b"no network", b"\0" * len(CONTENT), b"\x7f" * len(CONTENT)])
def test_foreign_files(path, content):
    refused(path, content)


def test_the_size_is_checked_before_the_file_is_read(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ValueError, match=r"of 22458368 to .* bytes. Received: .* of 1099511627776 bytes"):
        load_dlib(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load_dlib(path)


def test_a_whole_network(path):
    content, weights = dlib_file.network()
    path.write_bytes(content)
    network = load_dlib(path)
    assert network.count_params() == 5_614_592
    kernel = network.get_layer("stage5_unit1_conv2").get_weights()[0]
    np.testing.assert_array_equal(kernel, weights[-2]["kernel"].transpose(2, 3, 1, 0).astype("float32"))
