"""Checks of what protocols consist of: image keys, index lists, subjects."""

from numbers import Number

import numpy as np

from keras_normface import _validation
from keras_normface.metrics.bootstrap import UNKNOWN


def checked_keys(keys, name):
    """Text keys as a tuple, at least one and each once; otherwise a ValueError that names `name`."""
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    wrong = next((key for key in keys if not isinstance(key, str)), None)
    if not keys or wrong is not None:
        raise ValueError(f"`{name}` must hold at least one key, text only. Received: {wrong if keys else keys!r}")
    if len(set(keys)) != len(keys):
        seen = set()
        twice = next(key for key in keys if key in seen or seen.add(key))
        raise ValueError(f"`{name}` must hold each key once. Received: {twice!r} more than once")
    return keys


def whole_numbers(values, name, count=None):
    """`values` as a one-dimensional int64 array, of `count` entries unless that is None."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (count is not None and array.size != count):
        wanted = "" if count is None else f" of {count} entries"
        raise ValueError(
            f"`{name}` must be a list of integers{wanted}. Received: {name} of shape {array.shape}, dtype {array.dtype}"
        )
    return array.astype(np.int64)


def checked_indices(values, name, count, *, once=False):
    """(K,) indices, K >= 1, into `count` entries; with `once`, no index twice."""
    indices = whole_numbers(values, name)
    if not indices.size:
        raise ValueError(f"`{name}` must hold at least one index. Received: {name} is empty")
    bad = np.flatnonzero((indices < 0) | (indices >= count))
    if bad.size:
        raise ValueError(f"`{name}` must lie in 0..{count - 1}. Received: {name}[{bad[0]}]={indices[bad[0]]}")
    if once and np.unique(indices).size != indices.size:
        values, counts = np.unique(indices, return_counts=True)
        raise ValueError(f"`{name}` must hold each index once. Received: {values[counts > 1][0]} more than once")
    return indices


def checked_subjects(subjects, count, *, name="subjects", known=False):
    """(count,) subject numbers, `UNKNOWN` where not known; with `known`, all must be."""
    subjects = whole_numbers(subjects, name, count)
    bad = np.flatnonzero(subjects < (0 if known else UNKNOWN))
    if bad.size:
        wanted = "at least 0" if known else f"at least 0, or {UNKNOWN} for unknown"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}[{bad[0]}]={subjects[bad[0]]}")
    return subjects


def embeddings_of(embeddings, count, name):
    """`embeddings` as a matrix of `count` rows, of whatever type they are."""
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or len(rows) != count:
        raise ValueError(f"`{name}` must have shape ({count}, D), a row for each image. Received: shape {rows.shape}")
    return rows


def checked_ranks(ranks):
    """Ranks as a tuple, each an integer of at least 1, each once."""
    ranks = (ranks,) if isinstance(ranks, Number) else tuple(ranks)
    if not ranks:
        raise ValueError("`ranks` must hold at least one rank. Received: ranks=()")
    return tuple(dict.fromkeys(_validation.integer("ranks", rank, 1) for rank in ranks))


def checked_same(same, left, right):
    """Flags of (P,) pairs → (P,) bool; `left`, `right` and `same` must have the same length."""
    same = np.asarray(same)
    if right.shape != left.shape or same.shape != left.shape or not np.isin(same, (0, 1)).all():
        raise ValueError(
            f"`right` and `same` (0 or 1) must have one entry for each of the {left.size} of left. "
            f"Received: right of shape {right.shape}, same of shape {same.shape}"
        )
    return same.astype(bool)


def set_fields(record, changes):
    """Set fields of a frozen record."""
    for name, value in changes.items():
        object.__setattr__(record, name, value)


def check_agreement(subjects, left, right, same, name="subjects"):
    """(N,) subjects, (P,) left, right, same: refuse a pair whose known subjects contradict `same`."""
    known = (subjects[left] >= 0) & (subjects[right] >= 0)
    wrong = np.flatnonzero(known & ((subjects[left] == subjects[right]) != same))
    if wrong.size:
        pair = wrong[0]
        raise ValueError(
            f"`{name}` must be equal in genuine pairs and differ in impostor pairs. "
            f"Received: same[{pair}]={same[pair]} for subjects {subjects[left[pair]]} and {subjects[right[pair]]}"
        )


def template_rows(templates, template_ids):
    """(K,) places of template ids in the rising `templates`; an unknown id is a ValueError."""
    span = int(templates[-1]) - int(templates[0]) + 1
    if span <= 4 * (templates.size + template_ids.size):
        # A table is ten times faster than a search when there are millions of pairs.
        table = np.zeros(span, np.int32)
        table[templates - templates[0]] = np.arange(templates.size)
        rows = table[np.clip(template_ids, templates[0], templates[-1]) - templates[0]]
    else:
        rows = np.searchsorted(templates[:-1], template_ids)
    missing = np.flatnonzero(templates[rows] != template_ids)
    if missing.size:
        raise ValueError(
            f"`templates` must all have members. Received: template {template_ids[missing[0]]} without any"
        )
    return rows
