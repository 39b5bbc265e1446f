"""RecordIO files of real faces, written with struct alone, byte for byte; and files that are damaged."""

import multiprocessing
import os
import pickle
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from keras_normface.data import CASIA_LFW_OVERLAP, RecordError, RecordIO
from keras_normface.data._recordio import MOST_PARTS, RecordFile, image_labels, spans
from tests.support import faces


@pytest.fixture
def rec(tmp_path):
    return tmp_path / "train.rec"


def write(rec, **arguments):
    return faces.write_record_io(rec.with_suffix(""), **arguments)


def write_images(rec, labels, index=True):
    """Image k is k times the letter x, and one more."""
    return faces.write_records(
        rec.with_suffix(""), [faces.payload(y, b"x" * (k + 1)) for k, y in enumerate(labels)], index
    )


@pytest.mark.parametrize("index", [True, False], ids=["index", "no_index"])
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("vector_labels", [False, True], ids=["scalar", "vector"])
@pytest.mark.parametrize("identity_records", [False, True], ids=["images", "identities"])
def test_real_faces_come_back_byte_for_byte(rec, identity_records, vector_labels, split, index):
    expected = write(
        rec, identity_records=identity_records, vector_labels=vector_labels, split=split, index=index, images=3
    )
    kinds = {word >> 29 for magic, word in struct.iter_unpack("<II", rec.read_bytes()[:8])} if split else {0}
    assert kinds == ({0} if identity_records or not split else {1})
    reader = RecordIO(rec)
    faces.check_reader(reader, expected)
    assert reader.identities == ["0", "1", "2"]
    assert reader.name(0) == f"train.rec#key {int(identity_records)}"
    again = pickle.loads(pickle.dumps(reader))
    assert again.encoded([2, 0]) == [expected[2][0], expected[0][0]]
    assert not again.labels.flags.writeable


def test_the_magic_word_anywhere_in_a_payload(rec):
    magic, other = faces.MAGIC_BYTES, b"abcd"
    images = [
        magic,
        magic * 3,
        other + magic,
        magic + other,
        other[:1] + magic,
        magic + b"z",
        other + magic * 2 + b"yz",
    ]
    contents = [faces.payload(0.0, image) for image in images]
    contents.append(struct.pack("<IfQQ", 0, 0.0, faces.MAGIC, faces.MAGIC) + b"image")
    faces.write_records(rec.with_suffix(""), contents, index=False)
    assert len(RecordFile(rec).parts(0)) == 2
    assert RecordIO(rec).encoded(range(8)) == [*images, b"image"]


def test_labels_become_dense_and_keep_their_names(rec):
    write_images(rec, [7.0, 2.0, 7.0, 2.0**24 + 2])
    reader = RecordIO(rec)
    assert reader.labels.tolist() == [1, 0, 1, 2]
    assert reader.identities == ["2", "7", "16777218"]


def test_identity_records_and_the_headers_tell_the_same(rec):
    expected = write(rec, people=4, images=2, labels=[5, 0, 9, 3])
    reader = RecordIO(rec)
    assert reader.identities == ["0", "3", "5", "9"]
    assert reader.labels.tolist() == [2, 2, 0, 0, 3, 3, 1, 1]
    assert [reader.sample(k)[0] for k in range(8)] == [e for e, _ in expected]


class CountedFile(RecordFile):
    labels_read = 0

    def label(self, offset, span=None):
        self.labels_read += 1
        return super().label(offset, span)


def test_identity_records_spare_the_headers_of_the_images(rec):
    write(rec, people=3, images=4)
    keys, offsets = np.loadtxt(rec.with_suffix(".idx"), dtype="int64").T
    file = CountedFile(rec)
    images, labels = image_labels(file, keys, offsets, spans(offsets, file.size))
    assert (images, labels.tolist()) == (slice(1, 13), [0] * 4 + [1] * 4 + [2] * 4)
    assert file.labels_read == 3


@pytest.mark.parametrize(
    "ranges",
    [[(1, 3), (2, 5)], [(1, 2), (3, 5)], [(2, 5), (1, 1)], [(1, 4), (4, 4)], [(1, 9), (9, 5)], [(1, 2), (2, 5)]],
)
def test_ranges_that_do_not_tell_are_not_believed(rec, ranges):
    labels = [0.0, 0.0, 1.0, 0.0]
    contents = [faces.payload([5.0, 7.0]), *(faces.payload(y, b"image") for y in labels)]
    contents += [faces.payload([float(start), float(end)]) for start, end in ranges]
    faces.write_records(rec.with_suffix(""), contents)
    assert RecordIO(rec).labels.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [((9.0, 5.0), "end at 9"), ((2.0, 99.0), "end at 99|identities at 99"), ((1.0, 3.0), "end at 1")]
    + [((bad, 3.0), "non-negative integer") for bad in (float("nan"), float("inf"), -1.0, 1.5)],
)
def test_an_absurd_record_0(rec, bounds, message):
    contents = [faces.payload(list(bounds)), faces.payload(0.0, b"image"), faces.payload([1.0, 2.0])]
    faces.write_records(rec.with_suffix(""), contents)
    with pytest.raises(RecordError, match=message):
        RecordIO(rec)


@pytest.mark.parametrize("content", [faces.payload(0.0, b"image"), faces.payload([1.0]), faces.payload([1.0, np.nan])])
def test_an_identity_record_that_is_none(rec, content):
    faces.write_records(rec.with_suffix(""), [faces.payload([2.0, 3.0]), faces.payload(0.0, b"image"), content])
    with pytest.raises(RecordError, match="key 2"):
        RecordIO(rec)


@pytest.mark.parametrize("label", [float("nan"), float("inf"), -1.0, 0.5, 1e30])
@pytest.mark.parametrize("vector", [False, True])
def test_labels_that_are_none(rec, label, vector):
    write_images(rec, [0.0, [label, 0.0] if vector else label])
    with pytest.raises(RecordError, match=r"label of .*key 1 must be a non-negative integer"):
        RecordIO(rec)


def test_leaving_out_and_names(rec):
    write_images(rec, [0.0, 2.0, 1.0, 2.0])
    reader = RecordIO(rec, exclude=["1", "0"])
    assert reader.identities == ["2"]
    assert reader.encoded([0, 1]) == [b"xx", b"xxxx"]
    assert [reader.name(k) for k in (0, 1)] == ["train.rec#key 1", "train.rec#key 3"]
    with pytest.raises(ValueError, match="no folder names"):
        RecordIO(rec, exclude=CASIA_LFW_OVERLAP)
    named = RecordIO(rec, identities=["0000045", "0000513", "0000600", "unused"], exclude=CASIA_LFW_OVERLAP)
    assert named.identities == ["0000045", "0000600"]
    assert named.labels.tolist() == [0, 1, 1]
    assert named.encoded([1]) == [b"xx"]
    for identities in (["a", "b"], "abc", ["a", "a", "b"], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"`identities` must (hold|be)"):
            RecordIO(rec, identities=identities)
    with pytest.raises(ValueError, match="7"):
        RecordIO(rec, exclude=["7"])


def test_the_property_file(rec):
    write(rec)
    assert RecordIO(rec).image_size is None
    (rec.parent / "property").write_text("3,112,96\n")
    assert RecordIO(rec).image_size == (112, 96)
    (rec.parent / "property").write_text("4,112,96")
    with pytest.raises(ValueError, match=r"4 identities, but .* 3"):
        RecordIO(rec)
    (rec.parent / "property").write_text("three")
    with pytest.raises(RecordError, match="three"):
        RecordIO(rec)


def test_missing_files(rec):
    with pytest.raises(FileNotFoundError):
        RecordIO(rec)
    rec.touch()
    with pytest.raises(RecordError, match="no records"):
        RecordIO(rec)
    with pytest.raises(FileNotFoundError):
        RecordIO(rec, index=rec.with_name("missing.idx"))
    rec.with_suffix(".idx").touch()
    with pytest.raises(RecordError, match="no records"):
        RecordIO(rec)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("missing", [1, 4, 8, 2000])
def test_a_truncated_file(rec, index, missing):
    write(rec, identity_records=False, index=index)
    content = rec.read_bytes()
    rec.write_bytes(content[: len(content) - len(content) % 4 - missing - 3])
    with pytest.raises(RecordError, match=r"truncated|past its end"):
        RecordIO(rec)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        *(
            ("1\t99999999", "past its end"),
            ("1\t2", "middle"),
            ("0\t0", "key 0 twice"),
            ("1\t8", "at byte 0 that reaches beyond byte 8"),
        ),
        *((bad, "Line 2") for bad in ("", "1", "1\tx", "1 4", "-1\t4", "\t4", "1\t4\t5", "1.0\t4", "1\t" + "4" * 30)),
    ],
)
def test_an_index_line_that_is_wrong(rec, line, message):
    offsets = write_images(rec, [0.0, 0.0])
    rec.with_suffix(".idx").write_text(f"0\t0\n{line}\n2\t{offsets[1]}\n")
    with pytest.raises(RecordError, match=message):
        RecordIO(rec)


def test_an_index_in_another_order_with_gaps_and_windows_lines(rec):
    first, second, third = write_images(rec, [0.0, 1.0, 2.0])
    rec.with_suffix(".idx").write_bytes(f"90\t{first}\r\n{2**40}\t{third}\r\n7\t{second}".encode())
    reader = RecordIO(rec)
    assert reader.encoded([0, 1, 2]) == [b"xx", b"x", b"xxx"]
    assert [reader.name(k)[-len(str(2**40)) :].split()[-1] for k in range(3)] == ["7", "90", str(2**40)]


def test_what_is_corrupt_shows_when_read_and_is_named(rec):
    write(rec, people=2, images=3)
    reader = RecordIO(rec)
    offset = int(rec.with_suffix(".idx").read_text().splitlines()[2].split()[1])
    original = rec.read_bytes()
    for at, value, message in [(0, b"oops", "magic"), (12, struct.pack("<f", 1.0), "label is 1.0, and should be 0")]:
        rec.write_bytes(original[: offset + at] + value + original[offset + at + len(value) :])
        with pytest.raises(RecordError, match=rf"train\.rec#key 2 at byte {offset} is corrupt: .*{message}"):
            reader.encoded([0, 1])
        assert reader.sample(0) == (faces.face(1, 1), 0)
        assert RecordIO(rec).num_identities == 2


def test_an_image_of_zero_bytes(rec):
    faces.write_records(rec.with_suffix(""), [faces.payload(0.0, b"image"), faces.payload(0.0)])
    reader = RecordIO(rec)
    with pytest.raises(RecordError, match=r"key 1 .*no image"):
        reader.sample(1)


@pytest.mark.parametrize("index", [True, False])
def test_a_length_larger_than_the_file_is_not_believed(rec, index):
    rec.write_bytes(struct.pack("<II", faces.MAGIC, 500_000_000) + b"x" * 92)
    if index:
        rec.with_suffix(".idx").write_text("0\t0\n")
    with pytest.raises(RecordError, match="500000000 bytes"):
        RecordIO(rec)


def part(kind, content=b""):
    return struct.pack("<II", faces.MAGIC, kind << 29 | len(content)) + content


def test_an_offset_that_is_repeated_is_refused(rec):
    write_images(rec, [0.0, 1.0])
    lines = [f"{key}\t{0}\n" for key in range(2000)]
    rec.with_suffix(".idx").write_text("".join(lines))
    start = time.process_time()
    with pytest.raises(RecordError, match=r"train\.idx has the offset 0 twice, for the keys 0, 1"):
        RecordIO(rec)
    assert time.process_time() - start < 1


def test_records_that_share_their_parts_are_refused(rec):
    # 2 000 records of which each reaches to the same 2 000 parts: together 4 000 000 parts in 32 kB.
    count = 2000
    first = b"".join(struct.pack("<II", faces.MAGIC, 1 << 29 | 8 * (count - 1 - k)) for k in range(count))
    rec.write_bytes(first + part(2) * count + part(3, faces.payload(0.0, b"image")))
    rec.with_suffix(".idx").write_text("".join(f"{key}\t{8 * key}\n" for key in range(count)))
    start = time.process_time()
    with pytest.raises(RecordError, match=r"at byte 0 that reaches beyond byte 8"):
        RecordIO(rec)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("index", [True, False])
def test_the_parts_of_a_record_are_bounded(rec, index):
    head = faces.payload(0.0)
    for count, fits in [(MOST_PARTS, True), (MOST_PARTS + 1, False), (10**6, False)]:
        rec.write_bytes(part(1, head) + part(2) * (count - 2) + part(3, b"image"))
        if index:
            rec.with_suffix(".idx").write_text("0\t0\n")
        start = time.process_time()
        if fits:
            assert RecordIO(rec).sample(0) == (faces.MAGIC_BYTES * (count - 1) + b"image", 0)
        else:
            with pytest.raises(RecordError, match=r"record at byte 0 whose part at byte \d+ is corrupt"):
                RecordIO(rec)
        assert time.process_time() - start < 1


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("content", [b"short", struct.pack("<IfQQ", 5, 0.0, 0, 0), faces.payload([1.0])[:-1]])
def test_a_record_too_short_for_its_header_or_labels_names_the_file(rec, index, content):
    faces.write_records(rec.with_suffix(""), [faces.payload(0.0, b"image"), content], index)
    with pytest.raises(RecordError, match=r"train\.rec has a record at byte 40 that is corrupt: .*too short"):
        RecordIO(rec)
    faces.write_records(rec.with_suffix(""), [struct.pack("<IfQQff", 5, 0.0, 0, 0, 2, 3)], index)
    assert RecordIO(rec).identities == ["2"]


def test_more_labels_than_bytes(rec):
    content = struct.pack("<IfQQ", 2**31, 0.0, 0, 0) + struct.pack("<f", 3.0) + b"image"
    faces.write_records(rec.with_suffix(""), [content])
    with pytest.raises(RecordError, match="too short"):
        RecordIO(rec).sample(0)


def test_records_larger_than_the_guess_and_longer_than_a_megabyte(rec):
    images = [b"a" * 3_000_000, b"b", b"c" * 70_000]
    faces.write_records(rec.with_suffix(""), [faces.payload(0.0, image) for image in images])
    assert RecordIO(rec).encoded([2, 0, 1]) == [images[2], images[0], images[1]]


def test_a_million_records_take_few_bytes_and_open_fast(rec):
    number, step = 1_000_000, 6000
    contents = [faces.payload([float(number + 1), float(number + 11)])]
    contents += [faces.payload([1.0 + k * number / 10, 1.0 + (k + 1) * number / 10]) for k in range(10)]
    keys = np.r_[0, number + 1 : number + 11]
    with open(rec, "wb") as file:
        for key, content in zip(keys.tolist(), contents, strict=True):
            file.seek(key * step)
            file.write(faces.record(content))
        for k in range(10):
            file.seek((1 + k * number // 10) * step)
            file.write(faces.record(faces.payload(float(k), b"image")))
    rec.with_suffix(".idx").write_text("".join(f"{key}\t{key * step}\n" for key in range(number + 11)))
    start = time.perf_counter()
    reader = RecordIO(rec)
    assert time.perf_counter() - start < 10
    assert len(reader) == number
    assert reader.nbytes / number <= 20
    assert reader.sample(number // 2) == (b"image", 5)
    with pytest.raises(RecordError, match="key 3 "):
        reader.sample(2)


def test_many_threads_read_at_once(rec):
    expected = write(rec, people=4, images=10)
    reader = pickle.loads(pickle.dumps(RecordIO(rec)))
    orders = [np.random.default_rng(seed).integers(0, 40, 200) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for order, read in zip(orders, pool.map(reader.encoded, orders), strict=True):
            assert read == [expected[number][0] for number in order]


def _read_and_send(reader, connection):
    connection.send((os.getpid(), reader.encoded([3, 1])))


def test_reading_after_a_fork(rec):
    expected = write(rec)
    reader = RecordIO(rec)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_read_and_send, args=(reader, theirs))
    child.start()
    assert ours.poll(30)
    process, images = ours.recv()
    child.join()
    assert process != os.getpid()
    assert images == reader.encoded([3, 1]) == [expected[3][0], expected[1][0]]


def test_files_are_closed_with_the_reader(rec):
    def descriptors():
        return [entry for entry in Path("/proc/self/fd").iterdir() if os.path.realpath(entry) == os.fspath(rec)]

    write(rec)
    reader = RecordIO(rec)
    reader.encoded(range(5))
    assert len(descriptors()) == 1
    del reader
    assert descriptors() == []


def test_what_is_corrupt_is_named_by_a_dataset_too(rec):
    import tensorflow as tf

    faces.write_records(rec.with_suffix(""), [faces.payload(0.0, b"image"), faces.payload(0.0)])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"train\.rec#key 1 at byte 40 is corrupt"):
        list(RecordIO(rec).source())
