"""Checks of arguments: each error names the argument, what was expected and what was received."""

import itertools
import json
import math
import re


def whole(field, value, least):
    """Return an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{field}` must be an integer of at least {least}. Received: {field}={value!r}")
    return value


def number(field, value, least=0.0, most=math.inf, above=False):
    """Return a finite number from `least` to `most` as a float."""
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
    """Return a value that is one of `known`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{field}` must be one of {', '.join(known)}. Received: {field}={value!r}")
    return value


def yes_or_no(field, value):
    """Return a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"`{field}` must be true or false. Received: {field}={value!r}")
    return value


def switches(field, value, names):
    """Refuse a dictionary in which a value that is to be true or false is something else, which would count as true."""
    for name in names:
        if name in value:
            yes_or_no(f"{field}.{name}", value[name])


def options(field, value):
    """Return a dictionary that JSON can hold as it comes back from JSON: a copy, lists in the place of tuples."""
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
    """Return increasing steps as a tuple."""
    steps = tuple(value) if isinstance(value, list | tuple) else (None,)
    whole_numbers = all(isinstance(step, int) and not isinstance(step, bool) and step >= 1 for step in steps)
    if not whole_numbers or any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"`{field}` must be increasing integers of at least 1. Received: {field}={value!r}")
    return steps


def multipliers(field, value):
    """Return the rules of `CoupledSGD`."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{field}` must be a list of triples. Received: {field}={value!r}")
    return checked_multipliers(value)


def names(field, value):
    """Return several strings as a sorted tuple."""
    several = isinstance(value, list | tuple | set | frozenset)
    if not several or not all(isinstance(name, str) for name in value):
        raise ValueError(f"`{field}` must be several names, strings. Received: {field}={str(value)[:200]}")
    return tuple(sorted(value))


def checked_multipliers(multipliers):
    """Return the argument `multipliers` of `CoupledSGD` as a tuple of tuples."""
    return tuple(_checked_rule(rule) for rule in multipliers)


def _checked_rule(rule):
    try:
        pattern, rate, decay = rule
        re.compile(pattern)
        rate, decay = float(rate), float(decay)
        fits = 0 <= rate < math.inf and 0 <= decay < math.inf
    except (TypeError, ValueError, ArithmeticError, RecursionError, re.error):
        fits = False
    if not fits:
        raise ValueError(
            "`multipliers` must hold triples of a regular expression and two numbers of at least 0, such as "
            f"('/bias$', 2.0, 0.0). Received: {rule!r}"
        )
    return pattern, rate, decay
