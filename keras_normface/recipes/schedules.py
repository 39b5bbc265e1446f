"""What changes over the steps: learning rates and margins."""

import keras

from keras_normface.recipes import checks

FEATURE_NORMS = ("hard", "soft", "none")


def steps_at(milestones, values):
    """A schedule whose value changes AT each milestone, steps counted from 0, as Caffe and PyTorch do it.

    Keras's `PiecewiseConstantDecay` keeps the old value at its boundary; so the boundaries are one step earlier.

    Args:
        milestones: Increasing steps of at least 1.
        values: One more than milestones.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
    >>> schedule = steps_at([16000], [0.1, 0.01])
    >>> [round(float(schedule(step)), 3) for step in (15999, 16000)]
    [0.1, 0.01]
    """
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [milestone - 1 for milestone in milestones], [float(value) for value in values]
    )


def multistep(first, milestones, factor):
    """Caffe's "multistep": the value is multiplied by `factor` at each milestone.

    Args:
        first: The first value.
        milestones: Increasing steps of at least 1; there may be none.
        factor: What it is multiplied by.

    Returns:
        A schedule, or the number itself if there are no milestones.

    Example:
    >>> multistep(0.001, (), 0.1)
    0.001
    """
    if not milestones:
        return first
    return steps_at(milestones, [first * factor**drops for drops in range(len(milestones) + 1)])


def margin_schedule(description, feature_norm, margin=None):
    """Make the schedule of a margin from its description.

    Args:
        description: `{"kind": "ramp", "slope": a, "last": b}`, the margin min(b, a·step); or
            `{"kind": "steps", "first": a, "step": b, "milestones": [...]}`, a and then b more at each milestone. With
            `"feature_norms"`, a list, it holds under those alone.
        feature_norm: The one that is meant.
        margin: Where it must end, if that is said elsewhere too; `None` for anywhere.

    Returns:
        A schedule, or `None` if there is none under this `feature_norm`.

    Raises:
        ValueError: If the description does not fit, or ends at another margin.

    Example:
    >>> ramp = margin_schedule({"kind": "ramp", "slope": 5e-5, "last": 0.4}, "none")
    >>> [round(float(ramp(step)), 4) for step in (0, 4000, 9000)]
    [0.0, 0.2, 0.4]
    """
    known = {"ramp": {"slope", "last"}, "steps": {"first", "step", "milestones"}}
    if not isinstance(description, dict):
        raise ValueError(f"`margin_schedule` must be a dictionary. Received: margin_schedule={description!r}")
    description = dict(description)
    norms = description.pop("feature_norms", list(FEATURE_NORMS))
    if not isinstance(norms, list | tuple) or not norms or any(norm not in FEATURE_NORMS for norm in norms):
        raise ValueError(f"`feature_norms` must be a list of some of {list(FEATURE_NORMS)}. Received: {norms!r}")
    kind = checks.choice("margin_schedule kind", description.pop("kind", None), known)
    if set(description) != known[kind]:
        raise ValueError(f"`margin_schedule` of kind {kind!r} must have {sorted(known[kind])}. Received: {description}")
    schedule, last = (_ramp if kind == "ramp" else _rises)(**description)
    if feature_norm not in norms:
        return None
    if margin is not None and last != margin:
        raise ValueError(
            "`margin_schedule` must end at the margin; change both. "
            f"Received: a margin of {margin:g}, and a schedule that ends at {last:g}"
        )
    return schedule


def _ramp(slope, last):
    last, slope = checks.number("last", last, above=True), checks.number("slope", slope, above=True)
    return keras.optimizers.schedules.PolynomialDecay(0.0, last / slope, last), last


def _rises(first, step, milestones):
    milestones = checks.milestones("milestones", milestones)
    if not milestones:
        raise ValueError("`milestones` must hold at least one step. Received: milestones=[]")
    first, step = checks.number("first", first), checks.number("step", step)
    values = [round(first + rises * step, 9) for rises in range(len(milestones) + 1)]
    return steps_at(milestones, values), values[-1]
