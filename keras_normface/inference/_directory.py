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
    old = _interrupted(path)
    for left in _unfinished(path):
        if left != (old and old.parent) and time.time() - left.stat().st_ctime > UNFINISHED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    if old is not None:
        os.replace(old, path)
        shutil.rmtree(old.parent, ignore_errors=True)
        message = f"An export to {path} was interrupted: the earlier model, which it had moved to {old}, is there again"
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def check_replaceable(path):
    """Refuse to replace what is no exported model, such as the directory of a training."""
    if path.exists() and not (path.is_dir() and _is_model(path)):
        raise FileExistsError(f"`path` must hold an exported model if it is to be replaced. Received: path={path}")


def _is_model(path):
    """Whether a directory is an exported model, of now or of before there were cards, or is empty."""
    names = {entry.name for entry in os.scandir(path)}
    return not names or CARD_FILE in names or "saved_model.pb" in names


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
    return [left / "old" for left in _unfinished(path) if (left / "old").exists()]


def _unfinished(path):
    """Directories in which exports to `path`, and not to one whose name goes on after a dot, work or were killed."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*")
    return [left for left in found if left.is_dir() and left.name.rpartition(".")[0] == f".{path.name}"]
