"""A recipe's fields as JSON can hold them, and back."""

import copy
import dataclasses

from keras_normface.data import Augmentation
from keras_normface.preprocessing import Preprocessing
from keras_normface.recipes import checks
from keras_normface.recipes.head_description import HeadDescription

PLAIN_AUGMENTATION = ("mirror", "crop", "brightness", "contrast")


def preprocessing(value):
    """Return a `Preprocessing`, which may come as its dictionary.

    Args:
        value: Either.

    Raises:
        ValueError: If it is neither.

    Example:
    >>> preprocessing(Preprocessing().to_dict()) == Preprocessing()
    True
    """
    return value if isinstance(value, Preprocessing) else Preprocessing.from_dict(value)


def augmentation(value):
    """Return an `Augmentation` or `None`; the former may come as a dictionary.

    Args:
        value: One of them.

    Raises:
        ValueError: If it is none of them, or holds a function, which JSON cannot.

    Example:
    >>> augmentation({"mirror": False}).mirror
    False
    """
    if isinstance(value, dict):
        unknown = sorted(set(value) - set(PLAIN_AUGMENTATION))
        if unknown:
            raise ValueError(f"`augmentation` must have keys of {PLAIN_AUGMENTATION}. Received: {unknown}")
        checks.switches("augmentation", value, ["mirror"])
        try:
            value = Augmentation(**{**value, "crop": checks.whole("augmentation.crop", value.get("crop", 0), 0)})
        except TypeError as error:
            raise ValueError(f"`augmentation` must hold numbers. Received: {value}") from error
    if value is not None and (not isinstance(value, Augmentation) or value.image is not None):
        raise ValueError(
            "`augmentation` must be an Augmentation without a function, or None; give a function to `data`. "
            f"Received: augmentation={value!r}"
        )
    return value


def heads(value):
    """Return a tuple of `HeadDescription`, which may come as dictionaries.

    Args:
        value: Sequence of them, at least one.

    Raises:
        ValueError: If one is neither.

    Example:
    >>> heads([{"kind": "agent_contrastive"}])[0].weight
    1.0
    """
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"`heads` must hold at least one HeadDescription. Received: heads={value!r}")
    return tuple(_head(one) for one in value)


def _head(value):
    if isinstance(value, HeadDescription):
        return value
    known = [field.name for field in dataclasses.fields(HeadDescription)]
    if not isinstance(value, dict) or not set(value) <= set(known) or "kind" not in value:
        raise ValueError(f"`heads` must hold HeadDescriptions or dictionaries of {known}. Received: {value!r}")
    return HeadDescription(**value)


def jsonable(value):
    """Return dictionaries, lists and scalars in the place of this package's objects and of tuples.

    Args:
        value: A value of a field, or a nest of them.

    Example:
    >>> jsonable({"milestones": (1, 2), "heads": (HeadDescription("agent_contrastive"),)})["heads"]
    [{'kind': 'agent_contrastive', 'options': {}, 'weight': 1.0}]
    """
    if isinstance(value, Preprocessing):
        return value.to_dict()
    if isinstance(value, Augmentation):
        value = augmentation(value)
        return {name: getattr(value, name) for name in PLAIN_AUGMENTATION}
    if isinstance(value, HeadDescription):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, tuple | list | set | frozenset) else value


def changed(fields, changes):
    """Return a copy of `fields` with some values changed.

    Args:
        fields: From `Recipe.to_fields`.
        changes: New values by dotted names.

    Raises:
        ValueError: If a name is not known, with those that are.

    Example:
    >>> changed({"options": {"depth": 20}, "steps": 3}, {"options.depth": 4})
    {'options': {'depth': 4}, 'steps': 3}
    """
    fields = copy.deepcopy(fields)
    for name, value in changes.items():
        place = fields
        *outer, last = name.split(".")
        if name.split(".")[0] not in fields:
            raise ValueError(f"a recipe has the fields {', '.join(fields)}. Received: {name!r}")
        for part in outer:
            place = place[_key(name, place, part)]
        place[last if isinstance(place, dict) else _key(name, place, last)] = jsonable(value)
    return fields


def _key(name, place, part):
    if isinstance(place, dict) and part in place:
        return part
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return int(part)
    known = list(place) if isinstance(place, dict) else f"{len(place)} parts" if isinstance(place, list) else "no parts"
    raise ValueError(f"{name!r} must name a part of a recipe: {part!r} is none, there are {known}")
