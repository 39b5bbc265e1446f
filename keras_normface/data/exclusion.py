"""Identities that are left out, such as those that the test set shows too."""

import json
from importlib import resources

import numpy as np

from keras_normface.data.reader import read_only


def _shipped_names():
    text = resources.files("keras_normface.data").joinpath("casia_lfw_overlap.json").read_text("utf-8")
    return frozenset(json.loads(text)["names"])


CASIA_LFW_OVERLAP = _shipped_names()


def is_overlap(exclude):
    """Whether `exclude` is `CASIA_LFW_OVERLAP`, all of it and nothing else.

    Args:
        exclude: Collection of names.

    Example:
    >>> is_overlap(list(CASIA_LFW_OVERLAP)), is_overlap(["0000513"])
    (True, False)
    """
    return frozenset(exclude) == CASIA_LFW_OVERLAP


def excluded_names(exclude):
    """Return the argument `exclude` of a reader as a set of names.

    Args:
        exclude: Iterable of strings.

    Raises:
        ValueError: If it is one string, or holds something that is none.

    Example:
    >>> sorted(excluded_names(["b", "a"]))
    ['a', 'b']
    """
    if isinstance(exclude, (str, bytes)):
        raise ValueError(f"`exclude` must be several names of identities, not one string. Received: {exclude!r}")
    names = frozenset(exclude)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"`exclude` must hold names of identities, strings. Received: {wrong[0]!r}")
    return names


def kept_identities(identities, exclude):
    """Tell which identities stay.

    Args:
        identities: Sequence of names.
        exclude: Iterable of names to leave out. Each must occur, except those of `CASIA_LFW_OVERLAP` when it is
            exactly that set.

    Returns:
        Array of bool, one for each of `identities`.

    Raises:
        ValueError: If a name does not occur, or none would stay.

    Example:
    >>> kept_identities(["Ada", "Grace", "Mary"], ["Grace"]).tolist()
    [True, False, True]
    """
    names = excluded_names(exclude)
    if not names:
        return np.ones(len(identities), bool)
    kept = np.fromiter((name not in names for name in identities), bool, len(identities))
    if len(kept) - kept.sum() < len(names) and names != CASIA_LFW_OVERLAP:
        unknown = sorted(names.difference(identities))
        raise ValueError(
            f"`exclude` must hold names of identities that occur. Received: {unknown[:5]}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}, which do not"
        )
    if not kept.any():
        raise ValueError(f"`exclude` must leave an identity. Received: {len(names)} names, all there are")
    return kept


def without_excluded(labels, kept):
    """Make labels dense after identities are left out.

    Args:
        labels: Integers `(samples,)`.
        kept: Array of bool, one for each identity.

    Returns:
        Pair of an array of bool, which samples stay, and the labels of those that do, int32 and read-only.

    Example:
    >>> import numpy as np
    >>> stays, labels = without_excluded(np.array([0, 1, 2, 2]), np.array([True, False, True]))
    >>> stays.tolist(), labels.tolist()
    ([True, False, True, True], [0, 1, 1])
    """
    stays = kept[labels]
    renumbered = (np.cumsum(kept) - 1).astype("int32")
    return stays, read_only(renumbered[labels[stays]])
