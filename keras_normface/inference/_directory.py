"""The directory of an exported model: replaced as a whole, found again after an export that was killed."""

import glob
import os
import shutil
import time
import warnings
from pathlib import Path

from keras_normface._io import UNFINISHED_SECONDS

CARD_FILE = "model.json"


def model_directory(path):
    """The path of an exported model; FileNotFoundError, which names what an interrupted export left, if it is none."""
    path = Path(path)
    if not (path / CARD_FILE).is_file():
        old = _interrupted(path)
        hint = "" if old is None else f". An export to it was interrupted: the earlier model is in {old}; export again"
        raise FileNotFoundError(
            f"`path` must be the directory of an exported model, with {CARD_FILE} in it. Received: path={path}{hint}"
        )
    return path


def restore_interrupted(path):
    """Put the model that was in `path` back there, with a warning, if an export was killed between its two renames."""
    for left in _moved_away(path) if path.exists() else ():  # of an export that was killed when all but this was done
        if time.time() - left.stat().st_ctime > UNFINISHED_SECONDS:
            shutil.rmtree(left.parent, ignore_errors=True)
    old = _interrupted(path)
    if old is not None:
        os.replace(old, path)
        shutil.rmtree(old.parent, ignore_errors=True)
        message = f"An export to {path} was interrupted: the earlier model, which it had moved to {old}, is there again"
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def replace_directory(new, path, old):
    """Rename `new` to `path`; what is there moves to `old` first, and back if that fails."""
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise


def _interrupted(path):
    """Where an export that was killed between its two renames left the model that was in `path`, or `None`."""
    return None if path.exists() else max(_moved_away(path), key=lambda old: old.stat().st_ctime, default=None)


def _moved_away(path):
    """What exports to `path`, and not to one whose name goes on after a dot, have moved out of their way."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*/old")
    return [old for old in found if old.parent.name.rpartition(".")[0] == f".{path.name}"]
