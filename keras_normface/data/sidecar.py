"""`dataset.json`, which says what a directory of shards holds."""

import json
import os
import re
import reprlib

from keras_normface.preprocessing import Preprocessing
from keras_normface.written_beside import written_beside

SIDECAR_NAME = "dataset.json"
FORMAT, VERSION = "keras_normface.shards", 1
MOST_SHARDS = 2**16


class SidecarError(ValueError):
    """A directory of shards, or the `dataset.json` in it, is not what it should be."""


def write_sidecar(directory, sidecar):
    """Write `dataset.json`, so that it is either complete or not there.

    Args:
        directory: Directory of the shards.
        sidecar: Dictionary with the keys `format` ("keras_normface.shards"), `version` (1), `samples`,
            `num_identities`, `identities` (names by label), `image_size` (`[height, width]` in pixels or `None`),
            `preprocessing` (dictionary or `None`), `source` (dictionary), `excluded` (names), `skipped` (pairs of a
            name and a reason), `shards` (dictionaries of `name`, `samples`, `bytes`, `sha256`), and `created_by`.

    Raises:
        SidecarError: If it would not be read back.
        OSError: If it cannot be written.

    Example:
    >>> import tempfile
    >>> shard = {"name": "shard-00000-of-00001.tfrecord", "samples": 2, "bytes": 99, "sha256": "0" * 64}
    >>> directory = tempfile.mkdtemp()
    >>> write_sidecar(directory, {
    ...     "format": "keras_normface.shards", "version": 1, "samples": 2, "num_identities": 1,
    ...     "identities": ["0000045"], "image_size": [112, 112], "preprocessing": None, "source": {},
    ...     "excluded": [], "skipped": [], "shards": [shard], "created_by": "keras_normface"})
    >>> read_sidecar(directory)["samples"]
    2
    """
    check_sidecar(sidecar)
    text = json.dumps(sidecar, indent=1, allow_nan=False)
    with written_beside(os.path.join(directory, SIDECAR_NAME)) as beside, open(beside, "w", encoding="utf-8") as file:
        file.write(text)


def read_sidecar(directory):
    """Read and check `dataset.json`.

    Args:
        directory: Directory of the shards.

    Returns:
        The dictionary; see `write_sidecar`. Keys it does not know are left in it.

    Raises:
        SidecarError: If it is no JSON, or something in it is missing, of a wrong type, or contradicts the rest.
        OSError: If it cannot be read.
    """
    path = os.path.join(directory, SIDECAR_NAME)
    with open(path, "rb") as file:
        content = file.read()
    try:
        sidecar = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{path} is no JSON: {error}") from error
    try:
        check_sidecar(sidecar)
    except SidecarError as error:
        raise SidecarError(f"{path}: {error}") from error
    return sidecar


def preprocessing_of(sidecar):
    """Return the `Preprocessing` in a sidecar, or `None` if there is none.

    Args:
        sidecar: Dictionary from `read_sidecar`.

    Raises:
        SidecarError: If it describes none.
    """
    if sidecar["preprocessing"] is None:
        return None
    try:
        return Preprocessing.from_dict(sidecar["preprocessing"])
    except ValueError as error:
        raise SidecarError(f"`preprocessing` in dataset.json: {error}") from error


def check_sidecar(sidecar):
    """Raise SidecarError, with the name of the key, if a sidecar is not as `write_sidecar` describes it.

    Args:
        sidecar: Anything.
    """
    _require(isinstance(sidecar, dict), "the sidecar", "be a dictionary", sidecar)
    for key, (holds, expected) in CHECKS.items():
        if key not in sidecar:
            raise SidecarError(f"`{key}` is missing")
        _require(holds(sidecar[key]), f"`{key}`", f"be {expected}", sidecar[key])
    for number, shard in enumerate(sidecar["shards"]):
        for key, (holds, expected) in SHARD_CHECKS.items():
            where = f"`shards[{number}].{key}`"
            _require(isinstance(shard, dict) and key in shard, where, "be there", shard)
            _require(holds(shard[key]), where, f"be {expected}", shard[key])
    names = [shard["name"] for shard in sidecar["shards"]]
    _require(len(set(names)) == len(names), "`shards`", "have names that differ", names)
    identities, count = sidecar["identities"], sidecar["num_identities"]
    _require(len(identities) == count, "`num_identities`", f"be the length of `identities`, {len(identities)}", count)
    _require(len(set(identities)) == count, "`identities`", "differ", identities)
    total = sum(shard["samples"] for shard in sidecar["shards"])
    _require(sidecar["samples"] == total, "`samples`", f"be the sum over `shards`, {total}", sidecar["samples"])


def _require(holds, where, expected, received):
    if not holds:
        raise SidecarError(f"{where} must {expected}. Received: {reprlib.repr(received)}")


def _refuse_constant(name):
    raise ValueError(f"{name} is no number of JSON")


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _is_strings(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_size(value):
    return value is None or (isinstance(value, list) and len(value) == 2 and all(_is_count(v) and v for v in value))


def _is_pairs(value):
    return isinstance(value, list) and all(_is_strings(item) and len(item) == 2 for item in value)


def _is_file_name(value):
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value, re.ASCII) is not None and ".." not in value


_COUNT = (_is_count, "a whole number not below 0")
CHECKS = {
    "format": (lambda value: value == FORMAT, repr(FORMAT)),
    "version": (lambda value: _is_count(value) and value == VERSION, f"{VERSION}, the version that this package reads"),
    "samples": _COUNT,
    "num_identities": _COUNT,
    "identities": (_is_strings, "a list of strings"),
    "image_size": (_is_size, "null or [height, width]"),
    "preprocessing": (lambda value: value is None or isinstance(value, dict), "null or a dictionary"),
    "source": (lambda value: isinstance(value, dict), "a dictionary"),
    "excluded": (_is_strings, "a list of strings"),
    "skipped": (_is_pairs, "a list of pairs of strings, a name and a reason"),
    "shards": (lambda value: isinstance(value, list) and 1 <= len(value) <= MOST_SHARDS, "a list of shards"),
    "created_by": (lambda value: isinstance(value, str), "a string"),
}
SHARD_CHECKS = {
    "name": (_is_file_name, "the name of a file in the same directory"),
    "samples": _COUNT,
    "bytes": _COUNT,
    "sha256": (lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) is not None, "64 hexadecimal digits"),
}
