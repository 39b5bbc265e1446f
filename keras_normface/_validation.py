"""Checks of arguments: each error names the argument, what was expected and what was received."""

import itertools
import json
import math
import numbers
import operator
import re


def integer(name, value, at_least=None, at_most=None):
    """Return an integer, which may be NumPy's, as an int; bools are none."""
    try:
        number = None if _is_bool(value) else operator.index(value)
    except TypeError:
        number = None
    too_small = number is None or (at_least is not None and number < at_least)
    if too_small or (at_most is not None and number > at_most):
        raise ValueError(f"`{name}` must be {_integers(at_least, at_most)}. {received(name, value)}")
    return number


def _integers(at_least, at_most):
    if at_most is not None:
        return f"an integer from {at_least} to {at_most}"
    known = {None: "an integer", 0: "a non-negative integer", 1: "a positive integer"}
    return known.get(at_least, f"an integer of at least {at_least}")


def number(name, value, *, at_least=None, above=None, at_most=None, below=None):
    """Return a finite real number, which may be NumPy's, as a float; bools are none."""
    bounds = ((">=", at_least), (">", above), ("<=", at_most), ("<", below))
    bounds = [(sign, bound) for sign, bound in bounds if bound is not None]
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)
    if not fits or not all(_HOLDS[sign](value, bound) for sign, bound in bounds):
        words = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds)
        raise ValueError(f"`{name}` must be a finite number{words and ' '}{words}. {received(name, value)}")
    return float(value)


_HOLDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def _is_bool(value):
    """Whether it is a bool, Python's or NumPy's, which counts as an integer up to NumPy 1."""
    return isinstance(value, bool) or getattr(value, "dtype", None) == "bool"


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def received(name, value):
    """Say at the end of a message what an argument was, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer of too many digits
        text = f"a {type(value).__name__} that is too long to print"
    return f"Received: {name}={text if len(text) <= 200 else text[:197] + '...'}"


def choice(name, value, known):
    """Return a string that is one of `known`."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}. {received(name, value)}")
    return value


def boolean(name, value):
    """Return a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False. {received(name, value)}")
    return value


def booleans(name, value, keys):
    """Refuse a dictionary in which one of `keys` holds anything but a bool, such as "no", which would count as true."""
    for key in keys:
        if key in value:
            boolean(f"{name}.{key}", value[key])


def json_dictionary(name, value):
    """Return a dictionary that JSON can hold as it comes back from JSON: a copy, lists in the place of tuples."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
        fits = isinstance(copy, dict) and copy == _listed(value)
    except (TypeError, ValueError, RecursionError):
        fits = False
    if not fits:
        raise ValueError(f"`{name}` must be a dictionary that JSON can hold. {received(name, value)}")
    return copy


def _listed(value):
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def increasing_integers(name, value):
    """Return increasing integers from 1 on as a tuple."""
    try:
        steps = tuple(integer(name, step, 1) for step in value) if isinstance(value, list | tuple) else None
    except ValueError:
        steps = None
    if steps is None or any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"`{name}` must be increasing positive integers. {received(name, value)}")
    return steps


def strings(name, value):
    """Return several strings as a sorted tuple."""
    several = isinstance(value, list | tuple | set | frozenset)
    if not several or not all(isinstance(item, str) for item in value):
        raise ValueError(f"`{name}` must be a list of strings. {received(name, value)}")
    return tuple(sorted(value))


def multipliers(value):
    """Return the rules of `CoupledSGD`, (regular expression, learning rate, decay) each, as a tuple of tuples."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"`multipliers` must be a list of triples. {received('multipliers', value)}")
    return tuple(_checked_rule(rule) for rule in value)


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
