"""The settings that an alignment was begun with."""

import hashlib
import json
import os

from keras_normface.prepare.output import OutputError
from keras_normface.written_beside import UNFINISHED_PREFIX, written_beside

SETTINGS_NAME = "align.json"
FORMAT, VERSION = "keras_normface.align", 1


def settings_of(reader, **settings):
    """Return what must be the same when a run is taken up again, as a dictionary.

    Args:
        reader: The `Reader` of the photos. Their number and names count, not their pixels.
        **settings: What else counts.

    Example:
    >>> class Names(list):
    ...     name = list.__getitem__
    >>> settings_of(Names(["a.jpg"]), template="arcface_112x112")["source"]["samples"]
    1
    """
    digest = hashlib.sha256()
    for number in range(len(reader)):
        digest.update(os.fsencode(reader.name(number)) + b"\0")
    source = {"kind": type(reader).__name__, "samples": len(reader), "names_sha256": digest.hexdigest()}
    return {"format": FORMAT, "version": VERSION, **settings, "source": source}


def begin(out, settings):
    """Make the directory and write the settings to it, or compare them with those that are there.

    Args:
        out: The directory.
        settings: From `settings_of`.

    Raises:
        OutputError: A ValueError. If the directory was begun with other settings, or holds something else.
        OSError: If it cannot be written.

    Example:
    >>> import os, tempfile
    >>> out = os.path.join(tempfile.mkdtemp(), "out")
    >>> begin(out, {"template": "arcface_112x112"})
    >>> begin(out, {"template": "sphereface_112x96"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    keras_normface.prepare.output.OutputError: `out` was begun with other settings. template: then 'arcface_...
    """
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, SETTINGS_NAME)
    if os.path.lexists(path):
        _compare(path, settings)
        return
    found = [name for name in os.listdir(out) if not name.startswith(f"{UNFINISHED_PREFIX}{SETTINGS_NAME}")]
    if found:
        raise OutputError(
            f"`out` must be a new or empty directory, or one begun earlier. Received: {out} with {found[0]}"
        )
    with written_beside(path) as beside, open(beside, "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=1)


def _compare(path, settings):
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(2**16))
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path} is damaged: it must hold a dictionary. Received: {type(found).__name__}")
    now = json.loads(json.dumps(settings))
    differing = [key for key in {**found, **now} if found.get(key) != now.get(key)]
    if differing:
        sentences = "; ".join(f"{key}: then {found.get(key)!r}, now {now.get(key)!r}" for key in differing)
        raise OutputError(f"`out` was begun with other settings. {sentences[:1000]}")
