"""MXNet's RecordIO files, in which InsightFace distributes its training sets, without MXNet."""

import math
import os
import re
import struct
from array import array

import numpy as np

from keras_normface._io import ContainedFiles, OpenFiles, regular_file
from keras_normface.data._reader import (
    PackedNames,
    Reader,
    excluded_names,
    is_overlap,
    kept_identities,
    read_only,
    without_excluded,
)

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
PREFIX = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
FLOAT = struct.Struct("<f")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)
HEAD_BYTES = PREFIX.size + HEADER.size + FLOAT.size
# A writer cuts a record only where the magic word stands in an image, which is rare: few images have three parts.
MOST_PARTS = 4096
LARGEST_READ = 1 << 20


class RecordError(ValueError):
    """A RecordIO file or its index is truncated, corrupt, or not in its format."""


class RecordFile:
    """A `.rec` file whose records are read by the position at which they begin."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._files = OpenFiles(os.path.dirname(self.path), [os.path.basename(self.path)])
        self.size = os.fstat(self._files.descriptor(0)).st_size

    def payload(self, offset, span=None):
        """Return the payload of the record at `offset`, its parts put together; `span` as in `spans`."""
        return next(self.payloads([offset], [self.size - offset if span is None else span]))

    def payloads(self, offsets, spans):
        """Yield the payloads of many records; as `payload`, but faster."""
        descriptor, unpack, pread, start = self._files.descriptor(0), PREFIX.unpack_from, os.pread, PREFIX.size
        for offset, span in zip(offsets, spans, strict=True):
            content = pread(descriptor, min(span, LARGEST_READ), offset)
            magic, word = unpack(content) if len(content) >= start else (None, 0)
            # A word above the length of the content is a longer record, or one in parts.
            if magic == MAGIC and word <= len(content) - start:
                yield content[start : start + word]
            else:
                yield MAGIC_BYTES.join(self._files.read(0, *part[:2]) for part in self.parts(offset, span))

    def label(self, offset, span=None):
        """Return the first label in the header of the record at `offset`, unchecked, without reading its image."""
        span = self.size - offset if span is None else span
        content = self._files.read(0, offset, min(span, HEAD_BYTES))
        whole = False
        if len(content) == HEAD_BYTES:
            magic, word = PREFIX.unpack_from(content)
            whole = magic == MAGIC and HEAD_BYTES - PREFIX.size <= word <= span - PREFIX.size
        payload = content[PREFIX.size :] if whole else self.payload(offset, span)
        return self.split(payload, offset, only_label=True)[1]

    def split(self, payload, offset, only_label=False):
        """Take the payload of the record at `offset` apart; errors name it."""
        try:
            return split_payload(payload, only_label)
        except RecordError as error:
            raise RecordError(f"{self.path} has a record at byte {offset} that is corrupt: {error}") from error

    def parts(self, offset, span=None):
        """Return the parts of the record at `offset`: list of triples of start, length, and end with the padding."""
        parts, position, expected = [], offset, (WHOLE, FIRST)
        end = self.size if span is None else offset + span
        while True:
            kind, length = self._prefix(position)
            if kind not in expected or len(parts) == MOST_PARTS:
                raise RecordError(f"{self.path} has a record at byte {offset} whose part at byte {position} is corrupt")
            start = position + PREFIX.size
            position = start + (length + 3) // 4 * 4
            if start + length > end:
                raise RecordError(
                    f"{self.path} has a record at byte {offset} that reaches beyond byte {end}, where its index begins "
                    "another"
                )
            parts.append((start, length, position))
            if kind in (WHOLE, LAST):
                return parts
            expected = (MIDDLE, LAST)

    def scan(self):
        """Return the offsets of all records, an int64 array, by going from each to the next."""
        offsets, position = array("q"), 0
        while position < self.size:
            offsets.append(position)
            kind, length = self._prefix(position)
            if kind == WHOLE:
                position += PREFIX.size + (length + 3) // 4 * 4
            else:
                position = self.parts(position)[-1][2]
        return np.frombuffer(offsets, "int64") if offsets else np.zeros(0, "int64")

    def _prefix(self, position):
        """Return what kind of part begins at `position`, and its length, which the file is sure to hold."""
        content = self._files.read(0, position, PREFIX.size)
        if len(content) < PREFIX.size:
            raise RecordError(f"{self.path} is truncated: it ends at byte {self.size}, in a record's first bytes")
        magic, word = PREFIX.unpack(content)
        if magic != MAGIC:
            raise RecordError(f"{self.path} has no record at byte {position}: wrong magic 0x{magic:08x}")
        length = word & LENGTH_MASK
        if length > self.size - position - PREFIX.size:
            raise RecordError(
                f"{self.path} is truncated or corrupt: a record at byte {position} has {length} bytes, "
                f"the file {self.size}"
            )
        return word >> LENGTH_BITS, length


def split_payload(payload, only_label=False):
    """Take a payload apart."""
    if len(payload) < HEADER.size:
        raise RecordError(f"a record of {len(payload)} bytes is too short for a header")
    flag, label, _, _ = HEADER.unpack_from(payload)
    start = HEADER.size + FLOAT.size * flag
    if flag:
        if len(payload) < (HEADER.size + FLOAT.size if only_label else start):
            raise RecordError(f"a record of {len(payload)} bytes is too short for its {flag} labels")
        (label,) = FLOAT.unpack_from(payload, HEADER.size)
    return flag, label, start


CHUNK_BYTES = 1 << 22
LARGEST_SPAN = (1 << 32) - 1


def record_offsets(file, index=None):
    """Return the keys and offsets of the records of a file."""
    if index is None:
        beside = os.path.splitext(file.path)[0] + ".idx"
        index = _beside(beside) if os.path.exists(beside) else None
    if index is None:
        offsets = file.scan()
        keys = np.arange(len(offsets))
    else:
        keys, offsets = read_index(index)
        _check_offsets(keys, offsets, index, file)
    if not len(offsets):
        raise RecordError(f"{file.path} holds no records")
    return keys, offsets


def _beside(path):
    """Return the path of a file that the user did not name, refused if a link leads out of its directory."""
    directory, name = os.path.split(path)
    return ContainedFiles(directory).checked_path(name)


def read_index(path):
    """Read an `.idx` file: a key, a tab and an offset in each line."""
    parts, lines = [np.zeros((0, 2), "int64")], 0
    with regular_file(path) as file:
        while chunk := file.read(CHUNK_BYTES) + file.readline():
            parts.append(_parsed(chunk, path, lines))
            lines += len(parts[-1])
    keys, offsets = np.concatenate(parts).T
    if not np.all(keys[1:] > keys[:-1]):
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            raise RecordError(f"{path} has the key {keys[twice[0]]} twice")
    if not np.all(offsets[1:] > offsets[:-1]):
        order = np.argsort(offsets, kind="stable")
        twice = np.flatnonzero(offsets[order][1:] == offsets[order][:-1])
        if len(twice):
            first, second = keys[order[twice[0] : twice[0] + 2]]
            raise RecordError(f"{path} has the offset {offsets[order[twice[0]]]} twice, for the keys {first}, {second}")
    return keys, np.ascontiguousarray(offsets)


def spans(offsets, size):
    """Return how many bytes there are from each record to the next in the file, uint32; no offset is repeated."""
    order = np.argsort(offsets, kind="stable")
    following = np.empty_like(offsets)
    following[order] = np.append(offsets[order[1:]], size)
    return np.minimum(following - offsets, LARGEST_SPAN).astype("uint32")


def compact(keys):
    """Return the keys as a range, or int32, if they can be: less memory for the same numbers."""
    first, last = int(keys[0]), int(keys[-1])
    if last - first == len(keys) - 1:
        return range(first, last + 1)
    return keys.astype("int32") if last < 2**31 else keys


def _parsed(chunk, path, lines_before):
    text = chunk.replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"
    lines = text.count(b"\n")
    if text.translate(None, b"0123456789") == b"\t\n" * lines and not re.search(rb"\d{19}", text):
        numbers = np.fromstring(text, "int64", sep=" ")
        if len(numbers) == 2 * lines:
            return numbers.reshape(lines, 2)
    found = text.split(b"\n")
    number = next(at for at, line in enumerate(found) if not re.fullmatch(rb"[0-9]{1,18}\t[0-9]{1,18}", line))
    raise RecordError(
        f"Line {lines_before + number + 1} of {path} must be two integers, a key and an offset, with a tab "
        f"between. Received: {os.fsdecode(found[number][:80])!r}"
    )


def _check_offsets(keys, offsets, index, file):
    wrong = np.flatnonzero((offsets > file.size - PREFIX.size) | (offsets % 4 != 0))
    if len(wrong):
        raise RecordError(
            f"{index} says that key {keys[wrong[0]]} begins at byte {offsets[wrong[0]]} of {file.path}, "
            f"which is past its end at {file.size} or in the middle of a record"
        )
    if len(offsets):
        file.parts(int(offsets.max()))


LARGEST_LABEL = 2**62
PAIR_BYTES = HEADER.size + 2 * FLOAT.size


def image_labels(file, keys, offsets, reach):
    """Find out which records are images, and their labels; `reach` holds the `spans` of the records."""
    bounds = _pair(file, keys, offsets, reach, 0) if keys[0] == 0 else None
    if bounds is None:
        images = slice(0, len(keys))
        return images, _labels_by_header(file, keys, offsets, reach)
    first, end = bounds
    if not 2 <= first <= end <= len(keys):
        raise RecordError(
            f"{file.path} says in record 0 that its images end at {first} and its identities at {end}; "
            f"it has {len(keys)} records"
        )
    if not np.array_equal(keys[:end], np.arange(end)):
        raise RecordError(f"{file.path} says in record 0 that it has the keys 0 to {end - 1}, but some are missing")
    images = slice(1, first)
    labels = _labels_by_identity(file, keys, offsets, reach, first, end)
    if labels is None:
        labels = _labels_by_header(file, keys[images], offsets[images], reach[images])
    return images, labels


def whole_label(label, where):
    """Return a float label as an int."""
    if not (math.isfinite(label) and 0 <= label <= LARGEST_LABEL and label == math.floor(label)):
        raise RecordError(f"The label of {where} must be a non-negative integer. Received: {label}")
    return int(label)


def _pair(file, keys, offsets, reach, number):
    """Return the two labels of a record that has two and no image, else `None`."""
    where, offset = f"{file.path}#key {keys[number]}", int(offsets[number])
    payload = file.payload(offset, int(reach[number]))
    if len(payload) != PAIR_BYTES or file.split(payload, offset, only_label=True)[0] != 2:
        return None
    first, second = (FLOAT.unpack_from(payload, HEADER.size + FLOAT.size * at)[0] for at in range(2))
    return whole_label(first, where), whole_label(second, where)


def _labels_by_header(file, keys, offsets, reach):
    """Return the label in the header of each record, int64."""
    labels = np.empty(len(offsets), "int64")
    for number, (offset, span) in enumerate(zip(offsets.tolist(), reach.tolist(), strict=True)):
        labels[number] = whole_label(file.label(offset, span), f"{file.path}#key {keys[number]}")
    return labels


def _labels_by_identity(file, keys, offsets, reach, first, end):
    """Return the labels of the images 1 to `first - 1`; `None` if the identity records do not determine them."""
    ranges = []
    for key in range(first, end):
        pair = _pair(file, keys, offsets, reach, key)
        if pair is None:
            raise RecordError(f"{file.path}#key {key} must be an identity's record: two labels and no image")
        if pair[0] != pair[1]:
            ranges.append(pair)
    ranges.sort()
    starts, ends = [pair[0] for pair in ranges], [pair[1] for pair in ranges]
    if [*starts, first] != [1, *ends] or any(start > stop for start, stop in ranges):
        return None
    labels = [
        whole_label(file.label(int(offsets[start]), int(reach[start])), f"{file.path}#key {start}") for start in starts
    ]
    if len(set(labels)) != len(labels):
        return None
    return np.repeat(np.array(labels, "int64"), np.subtract(ends, starts))


class RecordIO(Reader):
    """Images in a RecordIO file (`train.rec`, `train.idx`, `property`), MXNet's format.

    Two forms are read. If record 0 has two labels and no image, they tell where the images end and where the
    records of the identities end, which each tell the range of its images (InsightFace's form). Otherwise each
    record is an image. A label is the first one in an image's header; labels become dense. Opening reads the
    index, and of the images only what the labels need; a corrupt record shows when it is read.

    Args:
        path: The `.rec` file.
        index: The `.idx` file. `None`: that of the same name in the same directory; without one, the file is scanned.
        identities: `None`, or names, one for each label in the file from 0 on. Without them an identity is
            called by its label in the file, in decimal digits.
        exclude: Names of identities to exclude. `CASIA_LFW_OVERLAP` needs `identities`.

    Attributes:
        image_size: `(height, width)` if its directory holds a file `property`, else `None`.

    Raises:
        RecordError: A ValueError. If the file or its index is truncated or corrupt, or labels are not whole
            numbers from 0 on.
        ValueError: If the number of identities differs from that in `property`, or `identities` or `exclude` do
            not fit.
        OSError: If a file cannot be read.

    Source:
        The `recordio` of dmlc-core and `recordio.py` of MXNet (Apache); `face2rec2.py` of InsightFace.

    Example:
    >>> import os, struct, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "train.rec")
    >>> with open(path, "wb") as file:
    ...     for label, image in [(3.0, b"abcd"), (9.0, b"efgh")]:
    ...         header = struct.pack("<IfQQ", 0, label, 0, 0)
    ...         _ = file.write(struct.pack("<II", 0xCED7230A, len(header + image)) + header + image)
    >>> faces = RecordIO(path)
    >>> faces.labels.tolist(), list(faces.identities)
    ([0, 1], ['3', '9'])
    >>> faces.sample(1)
    (b'efgh', 1)
    """

    def __init__(self, path, index=None, identities=None, exclude=()):
        self.path = os.fspath(path)
        self._file = RecordFile(path)
        keys, offsets = record_offsets(self._file, index)
        reach = spans(offsets, self._file.size)
        images, stored = image_labels(self._file, keys, offsets, reach)
        self._stored, labels = np.unique(stored, return_inverse=True)
        self.image_size = _image_size(self.path, len(self._stored))
        names = _names(self._stored, identities)
        exclude = excluded_names(exclude)
        if is_overlap(exclude) and identities is None:
            raise ValueError(
                "`exclude` is CASIA_LFW_OVERLAP, names of folders, but a RecordIO file holds no folder names, only "
                "numbers: give the names as `identities`, one for each label in the file"
            )
        kept = kept_identities(names, exclude)
        if kept.all():
            stays, self.labels = slice(None), read_only(labels.astype("int32"))
        else:
            stays, self.labels = without_excluded(labels, kept)
        self.identities = PackedNames(name for name, stay in zip(names, kept.tolist(), strict=True) if stay)
        self._stored = self._stored[kept]
        self._keys = compact(keys[images][stays])
        # Copies: a view would keep the whole arrays alive.
        self._offsets, self._spans = offsets[images][stays].copy(), reach[images][stays].copy()

    def name(self, index):
        """Return what a sample is called: the file and the key.

        Args:
            index: Number of the sample.
        """
        return f"{os.path.basename(self.path)}#key {self._keys[self.checked_index(index)]}"

    def _read(self, indices):
        stored = self._stored[self.labels[indices]].tolist()
        payloads = self._file.payloads(self._offsets[indices].tolist(), self._spans[indices].tolist())
        images = []
        try:
            for content, label in zip(payloads, stored, strict=True):
                _, found, start = split_payload(content)
                if found != label:
                    raise RecordError(f"its label is {found}, and should be {label}")
                if start >= len(content):
                    raise RecordError("it holds no image, zero bytes")
                images.append(content[start:])
        except RecordError as error:
            index = int(indices[len(images)])
            raise RecordError(f"{self.name(index)} at byte {self._offsets[index]} is corrupt: {error}") from error
        return images


def _names(stored, identities):
    """Return the names of the identities of which `stored` are the labels in the file."""
    if identities is None:
        return [str(label) for label in stored.tolist()]
    if isinstance(identities, (str, bytes)):
        raise ValueError(f"`identities` must be several names, not one string. Received: {identities!r}")
    identities = list(identities)
    if len(identities) <= stored[-1]:
        raise ValueError(
            f"`identities` must hold a name for each label in the file, from 0 to {stored[-1]}. "
            f"Received: {len(identities)} names"
        )
    if len(set(identities)) != len(identities) or not all(isinstance(name, str) for name in identities):
        raise ValueError("`identities` must hold strings that differ. Received: something else, or a name twice")
    return [identities[label] for label in stored.tolist()]


def _image_size(path, num_identities):
    """Return `(height, width)` from the file `property` in the directory of `path`; `None` without one."""
    beside = os.path.join(os.path.dirname(path), "property")
    if not os.path.isfile(beside):
        return None
    with regular_file(_beside(beside)) as file:
        text = file.read(200).strip()
    if not re.fullmatch(rb"[0-9]{1,9}(\s*,\s*[0-9]{1,9}){2}", text):
        raise RecordError(f"{beside} must be `identities,height,width`. Received: {os.fsdecode(text[:80])!r}")
    classes, height, width = map(int, text.split(b","))
    if classes != num_identities:
        raise RecordError(f"{beside} says {classes} identities, but {path} holds {num_identities}")
    return height, width
