"""The records of an MXNet RecordIO file.

A record is a magic word, a word with its length in the lower 29 bits, the payload, and zeros up to a multiple of
four bytes; words are little-endian. A payload that holds the magic word itself, aligned, is cut there into parts:
the upper three bits say whether a record is whole (0), a first (1), middle (2) or last part (3). Between parts
that are put together the magic word comes back.

The payload begins with `flag`, a label, and two ids. If `flag` is not 0, so many float labels follow and take the
place of the one label. The rest is the encoded image.
"""

import os
import struct
from array import array

import numpy as np

from keras_normface.data.open_files import OpenFiles

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
PREFIX = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
FLOAT = struct.Struct("<f")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)
HEAD_BYTES = PREFIX.size + HEADER.size + FLOAT.size


class RecordError(ValueError):
    """A RecordIO file or its index is truncated, damaged, or not what it should be."""


class RecordFile:
    """A `.rec` file whose records are read by the position at which they begin.

    Args:
        path: The file.

    Attributes:
        size: Its length in bytes.

    Raises:
        OSError: If it cannot be read.

    Example:
    >>> import os, struct, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "train.rec")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(struct.pack("<II5s3x", 0xCED7230A, 5, b"hello"))
    >>> RecordFile(path).payload(0)
    b'hello'
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self._files = OpenFiles([self.path])
        self.size = os.fstat(self._files.descriptor(0)).st_size

    def payload(self, offset, span=1 << 14):
        """Return the payload of the record at `offset`, its parts put together.

        Args:
            offset: Position of its first byte.
            span: About how many bytes it takes with its magic and length; a bad guess costs a second reading.

        Raises:
            RecordError: If there is no record, or not all of it.
        """
        return next(self.payloads([offset], [span]))

    def payloads(self, offsets, spans):
        """Yield the payloads of many records; as `payload`, but faster.

        Args:
            offsets: List of the positions of their first bytes.
            spans: List of about how many bytes they take.
        """
        descriptor, unpack, pread, start = self._files.descriptor(0), PREFIX.unpack_from, os.pread, PREFIX.size
        for offset, span in zip(offsets, spans, strict=True):
            content = pread(descriptor, span, offset)
            magic, word = unpack(content) if len(content) >= start else (None, 0)
            # A word above the length of the content is a longer record, or one in parts.
            if magic == MAGIC and word <= len(content) - start:
                yield content[start : start + word]
            else:
                yield MAGIC_BYTES.join(self._files.read(0, *part[:2]) for part in self.parts(offset))

    def label(self, offset):
        """Return the first label in the header of the record at `offset`, unchecked, without reading its image."""
        content = self._files.read(0, offset, HEAD_BYTES)
        if len(content) == HEAD_BYTES:
            magic, word = PREFIX.unpack_from(content)
            if magic == MAGIC and HEAD_BYTES - PREFIX.size <= word <= self.size - offset - PREFIX.size:
                return split_payload(content[PREFIX.size :], only_label=True)[1]
        return split_payload(self.payload(offset), only_label=True)[1]

    def parts(self, offset):
        """Return the parts of the record at `offset`: list of triples of start, length, and end with the padding.

        Raises:
            RecordError: If there is no record, or not all of it.
        """
        parts, position, expected = [], offset, (WHOLE, FIRST)
        while True:
            kind, length = self._prefix(position)
            if kind not in expected:
                raise RecordError(f"{self.path} has a record at byte {offset} whose part at byte {position} is garbled")
            start = position + PREFIX.size
            position = start + (length + 3) // 4 * 4
            parts.append((start, length, position))
            if kind in (WHOLE, LAST):
                return parts
            expected = (MIDDLE, LAST)

    def scan(self):
        """Return the offsets of all records, an int64 array, by going from each to the next.

        Raises:
            RecordError: If anything in the file is no record.
        """
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
                f"{self.path} is truncated or garbled: a record at byte {position} has {length} bytes, "
                f"the file {self.size}"
            )
        return word >> LENGTH_BITS, length


def split_payload(payload, only_label=False):
    """Take a payload apart.

    Args:
        payload: Bytes.
        only_label: Whether `payload` may be cut off after its first label.

    Returns:
        Triple of the number of labels in its vector (0: one, in the header), the first label, a float, and the
        position of the image. Nothing of these is checked further.

    Raises:
        RecordError: If it is shorter than its labels.

    Example:
    >>> import struct
    >>> split_payload(struct.pack("<IfQQ2f", 2, 0.0, 0, 0, 7.0, 8.0))
    (2, 7.0, 32)
    """
    if len(payload) < HEADER.size:
        raise RecordError(f"a record of {len(payload)} bytes is too short for a header")
    flag, label, _, _ = HEADER.unpack_from(payload)
    start = HEADER.size + FLOAT.size * flag
    if flag:
        if len(payload) < (HEADER.size + FLOAT.size if only_label else start):
            raise RecordError(f"a record of {len(payload)} bytes is too short for its {flag} labels")
        (label,) = FLOAT.unpack_from(payload, HEADER.size)
    return flag, label, start
