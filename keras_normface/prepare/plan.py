"""What a run is to make, written down before it begins, so that a later run can go on with it or refuse."""

import json
import os
import re

from keras_normface.data.shard_format import INDEX_NAME
from keras_normface.data.sidecar import MOST_SHARDS, SIDECAR_NAME, read_sidecar
from keras_normface.prepare.output import OutputError
from keras_normface.prepare.source_description import describe_source
from keras_normface.written_beside import UNFINISHED_PREFIX, written_beside

PLAN_NAME, INVALID_NAME = "plan.json", "invalid.jsonl"
OWN_NAMES = re.compile(r"shard-\d{5}-of-\d{5}\.tfrecord|\.shard-\d{5}\.entry\.json")
IN_SIDECAR = ("source", "preprocessing", "excluded")
UNFINISHED = re.compile(re.escape(UNFINISHED_PREFIX))
HELPERS = re.compile(rf"{UNFINISHED.pattern}|\.shard-\d{{5}}\.entry\.json|plan\.json$")


def number_of_shards(samples, images_per_shard, shards=None):
    """Return into how many shards images go.

    Args:
        samples: Number of images.
        images_per_shard: Most images in a shard; `shards` takes precedence.
        shards: Number of shards, or `None`.

    Raises:
        ValueError: If it would be none, more than the images, or more than 65536.

    Example:
    >>> number_of_shards(100, 30), number_of_shards(100, 30, shards=2)
    (4, 2)
    """
    for name, value in (("images_per_shard", images_per_shard), ("shards", shards)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"`{name}` must be a whole number from 1 on. Received: {value!r}")
    number = -(-samples // images_per_shard) if shards is None else shards
    if not 1 <= number <= min(samples, MOST_SHARDS):
        raise ValueError(f"There must be 1 to {min(samples, MOST_SHARDS)} shards, for {samples} images. Got: {number}")
    return number


def make_plan(reader, shards, shuffle_seed, preprocessing, validate, excluded):
    """Return the plan of a run, a dictionary that JSON can hold.

    Args:
        reader: A `Reader`.
        shards: Number of shards.
        shuffle_seed: Seed of the order, or `None`.
        preprocessing: A `Preprocessing`, or `None`.
        validate: Whether images are decoded.
        excluded: Names of identities that the reader leaves out.
    """
    return {
        "version": 1,
        "source": describe_source(reader),
        "shards": shards,
        "shuffle_seed": shuffle_seed,
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
        "validate": bool(validate),
        "excluded": sorted(excluded),
    }


def begin(directory, plan):
    """Enter a directory: new, begun by a run of the same plan, or complete.

    Args:
        directory: The output directory, which is there.
        plan: See `make_plan`.

    Returns:
        The sidecar if it is complete, else `None`; then `plan.json` has been written.

    Raises:
        OutputError: A ValueError. If it holds foreign files, or another plan was begun or completed there.
    """
    if os.path.exists(os.path.join(directory, SIDECAR_NAME)):
        sidecar = read_sidecar(directory)
        found = {**_dictionary(sidecar.get("plan")), **{key: sidecar[key] for key in IN_SIDECAR}}
        _refuse_other_plan(found, plan, f"{directory} is complete, but was made")
        return sidecar
    path, names = os.path.join(directory, PLAN_NAME), os.listdir(directory)
    begun = PLAN_NAME in names
    foreign = sorted(name for name in names if not name.startswith(UNFINISHED_PREFIX) and not (begun and _is_own(name)))
    if foreign:
        raise OutputError(f"{directory} must be empty, new, or hold what an earlier run began. Received: {foreign[:3]}")
    if begun:
        with open(path, "rb") as file:
            try:
                found = json.load(file)
            except (ValueError, RecursionError) as error:
                raise OutputError(f"{path} is no JSON: {error}") from error
        _refuse_other_plan(found, plan, f"{directory} was begun")
    clear(directory, UNFINISHED)
    if not begun:
        with written_beside(path) as beside, open(beside, "w", encoding="utf-8") as file:
            json.dump(plan, file, indent=1)
    return None


def clear(directory, pattern=HELPERS):
    """Remove the files that only a run at work needs, `plan.json` last.

    Args:
        directory: The output directory.
        pattern: Regular expression of how their names begin.
    """
    for name in sorted(os.listdir(directory)):
        if pattern.match(name):
            os.remove(os.path.join(directory, name))


def _is_own(name):
    return name in (PLAN_NAME, INDEX_NAME, INVALID_NAME) or OWN_NAMES.fullmatch(name) is not None


def _refuse_other_plan(found, plan, what):
    if found != plan:
        found = _dictionary(found)
        keys = [key for key in plan if found.get(key) != plan[key]] or ["keys that this version does not know"]
        inner = found.get("source")
        if keys[0] == "source" and isinstance(inner, dict):
            keys = [f"source.{key}" for key in plan["source"] if inner.get(key) != plan["source"][key]] or keys
        said = [f"{key}: then {_short(_at(found, key))}, now {_short(_at(plan, key))}" for key in keys]
        raise OutputError(f"{what} with other options or from another source. {'; '.join(said)}")


def _dictionary(value):
    return value if isinstance(value, dict) else {}


def _at(plan, key):
    for part in key.split("."):
        plan = plan.get(part) if isinstance(plan, dict) else None
    return plan


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
