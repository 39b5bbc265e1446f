"""Checks of arguments: each error names the argument, what was expected and what was received."""

import itertools
import json
import math

from keras_normface.optimizers import checked_multipliers


def whole(field, value, least):
    """Return an integer of at least `least`.

    Args:
        field: Name of the field.
        value: What it was given.
        least: The least that fits.

    Raises:
        ValueError: If it does not fit.

    Example:
    >>> whole("steps", 3, 1)
    3
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{field}` must be an integer of at least {least}. Received: {field}={value!r}")
    return value


def number(field, value, least=0.0, most=math.inf, above=False):
    """Return a finite number from `least` to `most` as a float.

    Args:
        field: Name of the field.
        value: What it was given.
        least: The least that fits.
        most: The largest that fits.
        above: Whether `least` itself does not fit.

    Raises:
        ValueError: If it does not fit.

    Example:
    >>> number("momentum", 1, most=1.0)
    1.0
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if not fits or not least <= value <= most or (above and value == least):
        bounds = f"{'above' if above else 'from'} {least:g}" + ("" if most == math.inf else f" to {most:g}")
        raise ValueError(f"`{field}` must be a number {bounds}. Received: {field}={value!r}")
    return float(value)


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def choice(field, value, known):
    """Return a value that is one of `known`.

    Args:
        field: Name of the field.
        value: What it was given.
        known: What there is.

    Raises:
        ValueError: If it is none of them; the message lists them.

    Example:
    >>> choice("feature_norm", "hard", ("hard", "none"))
    'hard'
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{field}` must be one of {', '.join(known)}. Received: {field}={value!r}")
    return value


def yes_or_no(field, value):
    """Return a bool.

    Args:
        field: Name of the field.
        value: What it was given.

    Raises:
        ValueError: If it is none.

    Example:
    >>> yes_or_no("initial_weights_needed", True)
    True
    """
    if not isinstance(value, bool):
        raise ValueError(f"`{field}` must be true or false. Received: {field}={value!r}")
    return value


def switches(field, value, names):
    """Refuse a dictionary in which a value that is to be true or false is something else, which would count as true.

    Args:
        field: Name of the field.
        value: A dictionary.
        names: Keys that need not be there.

    Raises:
        ValueError: If one is neither.

    Example:
    >>> switches("augmentation", {"mirror": True, "crop": 3}, ["mirror"])
    """
    for name in names:
        if name in value:
            yes_or_no(f"{field}.{name}", value[name])


def options(field, value):
    """Return a dictionary that JSON can hold as it comes back from JSON: a copy, lists in the place of tuples.

    Args:
        field: Name of the field.
        value: What it was given.

    Raises:
        ValueError: If it is none.

    Example:
    >>> options("backbone_options", {"depth": 4})
    {'depth': 4}
    """
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        copy = None
    if not isinstance(value, dict) or copy != _listed(value):
        raise ValueError(f"`{field}` must be a dictionary that JSON can hold. Received: {field}={str(value)[:200]}")
    return copy


def _listed(value):
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def milestones(field, value):
    """Return increasing steps as a tuple.

    Args:
        field: Name of the field.
        value: What it was given: integers of at least 1.

    Raises:
        ValueError: If they do not fit.

    Example:
    >>> milestones("milestones", [16000, 24000])
    (16000, 24000)
    """
    steps = tuple(value) if isinstance(value, list | tuple) else (None,)
    whole_numbers = all(isinstance(step, int) and not isinstance(step, bool) and step >= 1 for step in steps)
    if not whole_numbers or any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"`{field}` must be increasing integers of at least 1. Received: {field}={value!r}")
    return steps


def multipliers(field, value):
    """Return the rules of `CoupledSGD`.

    Args:
        field: Name of the field.
        value: What it was given.

    Raises:
        ValueError: If they do not fit.

    Example:
    >>> multipliers("multipliers", [["/bias$", 2, 0]])
    (('/bias$', 2.0, 0.0),)
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{field}` must be a list of triples. Received: {field}={value!r}")
    return checked_multipliers(value)


def names(field, value):
    """Return several strings as a sorted tuple.

    Args:
        field: Name of the field.
        value: What it was given.

    Raises:
        ValueError: If it is one string, or one is none.

    Example:
    >>> names("excluded_identities", {"b", "a"})
    ('a', 'b')
    """
    several = isinstance(value, list | tuple | set | frozenset)
    if not several or not all(isinstance(name, str) for name in value):
        raise ValueError(f"`{field}` must be several names, strings. Received: {field}={str(value)[:200]}")
    return tuple(sorted(value))
