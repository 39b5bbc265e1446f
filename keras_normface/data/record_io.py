"""MXNet's RecordIO files, in which InsightFace distributes its training sets, without MXNet."""

import os
import re

import numpy as np

from keras_normface.data.exclusion import excluded_names, is_overlap, kept_identities, without_excluded
from keras_normface.data.packed_names import PackedNames
from keras_normface.data.reader import Reader, read_only
from keras_normface.data.record_file import RecordError, RecordFile, split_payload
from keras_normface.data.record_io_index import compact, record_offsets, spans
from keras_normface.data.record_io_labels import image_labels


class RecordIO(Reader):
    """Images in a RecordIO file (`train.rec`, `train.idx`, `property`), MXNet's format.

    Two forms are read. If record 0 has two labels and no image, they tell where the images end and where the
    records of the identities end, which each tell the range of its images (InsightFace's form). Otherwise each
    record is an image. A label is the first one in an image's header; labels become dense. Opening reads the
    index, and of the images only what the labels need; garbage inside a record shows when it is read.

    Args:
        path: The `.rec` file.
        index: The `.idx` file. `None`: the one beside it; if there is none, the records are searched.
        identities: `None`, or names, one for each label in the file from 0 on. Without them an identity is
            called by its label in the file, in decimal digits.
        exclude: Names of identities to leave out. `CASIA_LFW_OVERLAP` needs `identities`.

    Attributes:
        image_size: `(height, width)` if there is a file `property` beside it, else `None`.

    Raises:
        RecordError: A ValueError. If the file or its index is truncated or garbled, or labels are not whole
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
        images, stored = image_labels(self._file, keys, offsets)
        reach = spans(offsets, self._file.size)
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
            raise RecordError(f"{self.name(index)} at byte {self._offsets[index]} is garbled: {error}") from error
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
    """Return `(height, width)` from the file `property` beside `path`; `None` without one."""
    beside = os.path.join(os.path.dirname(path), "property")
    if not os.path.isfile(beside):
        return None
    with open(beside, "rb") as file:
        text = file.read(200).strip()
    if not re.fullmatch(rb"[0-9]{1,9}(\s*,\s*[0-9]{1,9}){2}", text):
        raise RecordError(f"{beside} must be `identities,height,width`. Received: {os.fsdecode(text[:80])!r}")
    classes, height, width = map(int, text.split(b","))
    if classes != num_identities:
        raise RecordError(f"{beside} says {classes} identities, but {path} holds {num_identities}")
    return height, width
