"""Checks of arguments: what fits comes back in a plain type, and each message names argument, expectation, value."""

import math
from fractions import Fraction

import numpy as np
import pytest

from keras_normface import _validation


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_an_integer_comes_back_as_an_int(value):
    found = _validation.integer("steps", value, 1, 3)
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, np.float32(1), "1", None, math.nan, [1]])
def test_what_is_not_an_integer_is_refused(value):
    with pytest.raises(ValueError, match=r"`steps` must be an integer. Received: steps="):
        _validation.integer("steps", value)


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ((1,), 0, "a positive integer"),
        ((0,), -1, "a non-negative integer"),
        ((2,), 1, "an integer of at least 2"),
        ((1, 100), 101, "an integer from 1 to 100"),
        ((1, 100), 0, "an integer from 1 to 100"),
    ],
)
def test_the_message_says_which_integers(bounds, value, expected):
    with pytest.raises(ValueError, match=f"`jobs` must be {expected}. Received: jobs={value}$"):
        _validation.integer("jobs", value, *bounds)
    assert _validation.integer("jobs", bounds[-1], *bounds) == bounds[-1]


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int8(1), Fraction(1, 2)])
def test_a_number_comes_back_as_a_float(value):
    found = _validation.number("rate", value, above=0, at_most=1)
    assert (type(found), found) == (float, float(value))


def type_name(value):
    return type(value).__name__


@pytest.mark.parametrize(
    "value", [True, "1", None, math.nan, math.inf, -math.inf, 1j, np.ones(1), 10**400, 10**5000], ids=type_name
)
def test_what_is_not_a_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"`rate` must be a finite number. Received: rate="):
        _validation.number("rate", value)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ({"at_least": 0, "below": 1}, 0, 1, ">= 0 and < 1"),
        ({"above": 0, "at_most": 1}, 1, 0, "> 0 and <= 1"),
        ({"at_least": -1}, -1, -1.5, ">= -1"),
    ],
)
def test_bounds_of_numbers(bounds, inside, outside, words):
    assert _validation.number("rate", inside, **bounds) == inside
    with pytest.raises(ValueError, match=f"`rate` must be a finite number {words}. Received: rate={outside}$"):
        _validation.number("rate", outside, **bounds)


@pytest.mark.parametrize("value", [0, 1, "no", None])
def test_only_bools_are_boolean(value):
    assert _validation.boolean("validate", False) is False
    with pytest.raises(ValueError, match="`validate` must be True or False"):
        _validation.boolean("validate", value)
    with pytest.raises(ValueError, match=r"`options.validate` must be True or False"):
        _validation.booleans("options", {"validate": value}, ["validate", "other"])


def test_a_choice():
    assert _validation.choice("mode", "buffer", ("buffer", "stream")) == "buffer"
    for value in ("", "buf", 3, ["buffer"]):
        with pytest.raises(ValueError, match=r"`mode` must be one of buffer, stream. Received: mode="):
            _validation.choice("mode", value, ("buffer", "stream"))


def test_a_long_value_is_shortened():
    assert len(_validation.received("names", "a" * 10_000)) < 250


def test_increasing_integers():
    assert _validation.increasing_integers("milestones", [1, np.int64(5)]) == (1, 5)
    for value in ([5, 5], [0], [True], [1.5], 3, "12"):
        with pytest.raises(ValueError, match="`milestones` must be increasing positive integers"):
            _validation.increasing_integers("milestones", value)


def test_a_dictionary_is_copied_as_json_returns_it():
    value = {"size": (1, 2), "nested": {"a": [1.5, None]}}
    copy = _validation.json_dictionary("options", value)
    assert copy == {"size": [1, 2], "nested": {"a": [1.5, None]}}
    copy["nested"]["a"].append(1)
    assert value["nested"]["a"] == [1.5, None]
    for wrong in ([], {1: 2}, {"a": {1, 2}}, {"a": math.nan}):
        with pytest.raises(ValueError, match="`options` must be a dictionary that JSON can hold"):
            _validation.json_dictionary("options", wrong)
