"""Whatever the bytes: the documented errors, and none but these."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_normface.data import RecordError, RecordIO
from tests.support import faces

IMAGES = [faces.payload(float(label), b"image" * (label + 1)) for label in (0, 1, 1)]
IDENTITIES = [
    faces.payload([4.0, 6.0]),
    *IMAGES,
    faces.payload([1.0, 2.0]),
    faces.payload([2.0, 4.0]),
]
SPLIT = [faces.payload(0.0, b"abcd" + faces.MAGIC_BYTES * 2 + b"x"), IMAGES[0]]


def files(payloads):
    offsets = np.cumsum([0, *(len(faces.record(one)) for one in payloads)])
    lines = [f"{key}\t{offset}\n" for key, offset in enumerate(offsets[:-1])]
    return b"".join(map(faces.record, payloads)), "".join(lines).encode()


VALID = [files(payloads) for payloads in (IMAGES, IDENTITIES, SPLIT)]
WORDS = [faces.MAGIC_BYTES, b"\0" * 4, b"\xff" * 4, b"\0\0\xc0\x7f", b"\x08\0\0\x20", b"\x04\0\0\x60", b"\0\0\x80\x3f"]

PIECES = [faces.MAGIC_BYTES, b"abcd", b"ab", b"x"]


@st.composite
def mutated(draw, content, words):
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["byte", "word", "cut", "insert", "remove"]))
        if kind == "byte" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif kind == "word":
            word = draw(st.sampled_from(words))
            at = at // 4 * 4 if len(word) == 4 else at
            content[at : at + len(word)] = word
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        else:
            del content[at : at + draw(st.integers(1, 8))]
    return bytes(content)


def read_all(rec, idx):
    """Open and read; return the number of samples read, or -1 after a documented error."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "train.rec"
        path.write_bytes(rec)
        if idx is not None:
            path.with_suffix(".idx").write_bytes(idx)
        try:
            reader = RecordIO(path)
        except RecordError:
            return -1
        for number in range(len(reader)):
            check_sample(reader, number, len(rec))
        return len(reader)


def check_sample(reader, number, size):
    try:
        encoded, label = reader.sample(number)
    except RecordError as error:
        message = str(error)
    else:
        assert 0 < len(encoded) <= size
        assert 0 <= label < reader.num_identities
        return
    assert "train.rec#key" in message


def test_the_files_before_they_are_mutated():
    assert [read_all(*pair) for pair in VALID] == [3, 3, 2]
    assert [read_all(rec, None) for rec, _ in VALID] == [3, 3, 2]


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(VALID), st.booleans())
def test_mutated_records(data, valid, with_index):
    rec = data.draw(mutated(valid[0], WORDS))
    read_all(rec, valid[1] if with_index else None)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(VALID))
def test_mutated_indexes(data, valid):
    read_all(valid[0], data.draw(mutated(valid[1], [b"\t", b"\n", b"0\t0\n", b"9" * 20, b"-", b"\r\n", b" "])))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=64), st.none() | st.binary(max_size=32))
@example(faces.MAGIC_BYTES, b"0\t0")
@example(b"", b"\n")
@example(b"\0" * 64, b"0\t0\r\n")
def test_random_bytes(rec, idx):
    read_all(rec, idx)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.sampled_from([faces.MAGIC_BYTES, b"abcd", b"ab", b"x"]), min_size=1), min_size=1, max_size=5)
)
def test_any_payload_comes_back(pieces):
    images = [b"".join(piece) for piece in pieces]
    rec, idx = files([faces.payload(1.0, image) for image in images])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "train.rec"
        path.write_bytes(rec)
        assert RecordIO(path).encoded(range(len(images))) == images
        path.with_suffix(".idx").write_bytes(idx)
        assert RecordIO(path).encoded(range(len(images))) == images
