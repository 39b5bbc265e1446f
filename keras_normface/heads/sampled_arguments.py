"""The arguments of the head with sampled agents, checked."""

import math

import keras

TRAINED_ELSEWHERE = (
    "A SampledMarginSoftmaxHead is trained by `EmbeddingModel.fit` on the TensorFlow backend. In a loop of "
    "your own, use its `sample`, `sampled_statistics` and `updated_rows`. Received: training=True elsewhere"
)
"""What is said where the agents would not be trained."""


def number_or_schedule(rate):
    """Return a learning rate as `None`, a float or a schedule; a dictionary is a schedule's config."""
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    if rate is None or isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    return number("learning_rate", rate)


def number(name, value):
    """Return an argument as a float, or raise a `ValueError` that names it."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a number. Received: {name}={value!r}") from None


def check_numbers(head):
    """Raise a `ValueError` that names the first attribute of a head with sampled agents that is out of its range."""
    rules = {
        "sample_rate": ("in (0, 1]", lambda v: 0 < v <= 1),
        "minimum_sample": ("a whole number of at least 1", lambda v: _is_whole(v, 1)),
        "seed": ("a whole number in [0, 2^31)", lambda v: _is_whole(v, 0)),
        "momentum": ("in [0, 1)", lambda v: 0 <= v < 1),
        "weight_decay": ("at least 0", lambda v: 0 <= v < math.inf),
        "learning_rate": (
            "None, a positive number or a schedule",
            lambda v: not isinstance(v, float) or 0 < v < math.inf,
        ),
        "rate_multiplier": ("positive", lambda v: 0 < v < math.inf),
    }
    for name, (expected, fits) in rules.items():
        value = getattr(head, name)
        if not fits(value):
            raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")


def _is_whole(number, least):
    return isinstance(number, int) and not isinstance(number, bool) and least <= number < 2**31
