"""The labels of a RecordIO file, from its identity records or from the header of each image."""

import math

import numpy as np

from keras_normface.data.record_file import FLOAT, HEADER, RecordError, split_payload

LARGEST_LABEL = 2**62
PAIR_SPAN = 64


def image_labels(file, keys, offsets):
    """Find out which records are images, and their labels.

    Args:
        file: A `RecordFile`.
        keys: Int64 `(records,)`, increasing.
        offsets: Int64 `(records,)`.

    Returns:
        Pair of a slice, which of the records are images, and their labels as stored, int64.

    Raises:
        RecordError: If labels or identity records make no sense.
    """
    bounds = _pair(file, keys, offsets, 0) if keys[0] == 0 else None
    if bounds is None:
        images = slice(0, len(keys))
        return images, _labels_by_header(file, keys, offsets)
    first, end = bounds
    if not 2 <= first <= end <= len(keys):
        raise RecordError(
            f"{file.path} says in record 0 that its images end at {first} and its identities at {end}; "
            f"it has {len(keys)} records"
        )
    if not np.array_equal(keys[:end], np.arange(end)):
        raise RecordError(f"{file.path} says in record 0 that it has the keys 0 to {end - 1}, but some are missing")
    images = slice(1, first)
    labels = _labels_by_identity(file, keys, offsets, first, end)
    return images, _labels_by_header(file, keys[images], offsets[images]) if labels is None else labels


def whole_label(label, where):
    """Return a float label as an int.

    Args:
        label: The float.
        where: What to call its record in the message.

    Raises:
        RecordError: If it is not a whole number from 0 on.

    Example:
    >>> whole_label(17.0, "record 3")
    17
    """
    if not (math.isfinite(label) and 0 <= label <= LARGEST_LABEL and label == math.floor(label)):
        raise RecordError(f"The label of {where} must be a whole number not below 0. Received: {label}")
    return int(label)


def _pair(file, keys, offsets, number):
    """Return the two labels of a record that has two and no image, else `None`."""
    where = f"{file.path}#key {keys[number]}"
    payload = file.payload(int(offsets[number]), PAIR_SPAN)
    if len(payload) != HEADER.size + 2 * FLOAT.size or split_payload(payload)[0] != 2:
        return None
    first, second = (FLOAT.unpack_from(payload, HEADER.size + FLOAT.size * at)[0] for at in range(2))
    return whole_label(first, where), whole_label(second, where)


def _labels_by_header(file, keys, offsets):
    labels = np.empty(len(offsets), "int64")
    for number, offset in enumerate(offsets.tolist()):
        labels[number] = whole_label(file.label(offset), f"{file.path}#key {keys[number]}")
    return labels


def _labels_by_identity(file, keys, offsets, first, end):
    """Return the labels of the images 1 to `first - 1`; `None` if the identity records do not tell them for sure."""
    ranges = []
    for key in range(first, end):
        pair = _pair(file, keys, offsets, key)
        if pair is None:
            raise RecordError(f"{file.path}#key {key} must be an identity's record: two labels and no image")
        if pair[0] != pair[1]:
            ranges.append(pair)
    ranges.sort()
    starts, ends = [pair[0] for pair in ranges], [pair[1] for pair in ranges]
    if [*starts, first] != [1, *ends] or any(start > stop for start, stop in ranges):
        return None
    labels = [whole_label(file.label(int(offsets[start])), f"{file.path}#key {start}") for start in starts]
    if len(set(labels)) != len(labels):
        return None
    return np.repeat(np.array(labels, "int64"), np.subtract(ends, starts))
