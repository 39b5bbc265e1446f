"""Checkpoints: all that training changes, one file each, the last few kept."""

import dataclasses
import hashlib
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
from keras import ops

from keras_normface import _validation
from keras_normface._arrays import DAMAGE
from keras_normface._io import UNFINISHED_SECONDS, atomic_write, remove_unfinished


def state_variables(model):
    """Variables of a compiled model by group: "model" (with seed generators), "optimizer", "metrics"."""
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def read_state(model, groups):
    """Entries (dictionaries of `group` and `path`) and NumPy arrays of the variables of some groups."""
    state, entries, arrays = state_variables(model), [], []
    for group in groups:
        for variable in state[group]:
            entries.append({"group": group, "path": variable.path})
            arrays.append(np.array(ops.convert_to_numpy(variable)))
    return entries, arrays


def first_non_finite(entries, arrays):
    """Return the path of the first weight or optimizer variable with a NaN or an infinity, or `None`."""
    for entry, array in zip(entries, arrays, strict=True):
        if entry["group"] != "metrics" and not np.isfinite(array).all():
            return entry["path"]
    return None


def restore_state(model, groups, entries, arrays):
    """Assign what `read_state` took, to all the groups or, where it does not fit (`ValueError`), to nothing."""
    for variable, array in pairs_of(model, groups, entries, arrays):
        variable.assign(array)


def pairs_of(model, groups, entries, arrays):
    """(variable, saved array) pairs; `ValueError` where path (without Keras's counters), shape or dtype differ."""
    state, pairs = state_variables(model), []
    for group in groups:
        saved = [(e, a) for e, a in zip(entries, arrays, strict=True) if e["group"] == group]
        wanted = state[group]
        for index in range(max(len(saved), len(wanted))):
            ours = _signature(wanted[index].path, wanted[index]) if index < len(wanted) else None
            theirs = _signature(saved[index][0]["path"], saved[index][1]) if index < len(saved) else None
            if _comparable(ours) != _comparable(theirs):
                raise ValueError(
                    f"The checkpoint is of another model. First difference, {group} variable {index}: "
                    f"the checkpoint has {_text(theirs)}, the model has {_text(ours)}"
                )
            pairs.append((wanted[index], saved[index][1]))
    return pairs


def _signature(path, value):
    return path, tuple(value.shape), str(value.dtype)


def _comparable(signature):
    """Drop Keras's counters from a path: they depend on what else the process has made."""
    if signature is None:
        return None
    path, *rest = signature
    return re.sub(r"_\d+(?=[_/]|$)", "", path), *rest


def _text(signature):
    if signature is None:
        return "none"
    path, shape, dtype = signature
    return f"`{path}` {shape} {dtype}"


MAGIC = b"KNFCKPT1"
DIGEST_BYTES = 32


class CorruptCheckpointError(ValueError):
    """A file is truncated, corrupt, or not a checkpoint."""


def write_checkpoint(path, header, arrays):
    """Write a JSON header and arrays with a checksum, atomically."""
    specs = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({**header, "arrays": specs}).encode()
    with atomic_write(path) as beside, open(beside, "wb") as file:
        digest = hashlib.sha256()
        for chunk in (MAGIC, len(text).to_bytes(8, "little"), text, *map(_bytes_of, arrays)):
            digest.update(chunk)
            file.write(chunk)
        file.write(digest.digest())


def read_checkpoint(path, *keys):
    """The header, of these keys, and arrays that `write_checkpoint` wrote; `CorruptCheckpointError` for others."""
    content = memoryview(Path(path).read_bytes())
    start = len(MAGIC) + 8
    if len(content) < start + DIGEST_BYTES or content[: len(MAGIC)] != MAGIC:
        raise CorruptCheckpointError(f"{path} is not a checkpoint, or is truncated")
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise CorruptCheckpointError(f"{path} is truncated or corrupt: its checksum is wrong")
    try:
        return _parsed(body, start, keys)
    # A header that was made up can be wrong in as many ways as JSON, and NumPy's names of types, have.
    except (*DAMAGE, IndexError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CorruptCheckpointError(f"{path} is not a valid checkpoint: its header is corrupt: {reason}") from error


def _parsed(body, start, keys):
    """The header at `start`, checked, and the arrays behind it."""
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    header = json.loads(bytes(body[start:end]))
    arrays = []
    for spec in header.pop("arrays"):
        dtype, shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
        count = math.prod(shape)
        if dtype.hasobject or min(shape, default=0) < 0 or count * dtype.itemsize > len(body) - end:
            raise ValueError(f"it has an array of shape {shape} and {dtype} with {len(body) - end} bytes")
        arrays.append(np.frombuffer(body, dtype, count, offset=end).reshape(shape))
        end += count * dtype.itemsize
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes follow its arrays")
    if keys and sorted(header) != sorted(keys):
        raise ValueError(f"it must have the keys {', '.join(keys)}. Received: {', '.join(header)}")
    for key, value in header.items():
        if key in _FITS and not _FITS[key](value, len(arrays)):
            raise ValueError(f"`{key}` is not as it was written. Received: {str(value)[:80]}")
    return header, arrays


def _is_position(value, _):
    return type(value) is int and value >= 0


def _are_entries(value, count):
    named = isinstance(value, list) and all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("group", "path")) for entry in value
    )
    return named and len(value) == count


_FITS = {
    "epoch": _is_position,
    "step": _is_position,
    "entries": _are_entries,
    "extra": lambda value, _: isinstance(value, dict),
}


def _bytes_of(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


_TRAINED = ("model", "optimizer")
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.ckpt")


@dataclasses.dataclass(frozen=True, eq=False)
class SavedState:
    """A checkpoint that was read: resume at `step` of `epoch` (from 0), with `extra` as given to `save`."""

    path: Path
    epoch: int
    step: int
    extra: dict
    entries: list
    arrays: list

    def restore(self, model):
        """Give a model with a built optimizer this state; `ValueError`, and no change, if it is another model's."""
        self._restore(model, _TRAINED)

    def restore_metrics(self, model):
        """Give the metrics their state, which Keras resets at the beginning of an epoch; `ValueError` for others."""
        self._restore(model, ("metrics",))

    def _restore(self, model, groups):
        try:
            restore_state(model, groups, self.entries, self.arrays)
        except ValueError as error:
            raise ValueError(f"{self.path} does not fit. {error}") from error


class CheckpointStore:
    """The last checkpoints of one training, for loops of your own; `fit_resumable` uses it itself.

    Args:
        directory: Where they are; made if it does not exist. One training, one directory: of two that save there, each
            removes what it takes for the other's older checkpoints. `fit_resumable` holds a lock on it.
        keep: How many of the latest stay.

    Raises:
        ValueError: If `keep` is less than 1.

    Example:
    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> model.optimizer.build(model.trainable_variables)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoints = CheckpointStore(directory)
    ...     path = checkpoints.save(model, epoch=0, step=5)
    ...     saved = checkpoints.latest()
    >>> saved.restore(model)
    >>> saved.epoch, saved.step
    (0, 5)
    """

    def __init__(self, directory, *, keep=3):
        self.directory, self.keep = Path(directory), _validation.integer("keep", keep, 1)
        self.directory.mkdir(parents=True, exist_ok=True)

    def save(self, model, epoch, step, *, extra=None, metrics=False, write=True):
        """Save all state of a model, unless it is broken or the disk is full.

        Neither ends the training: there is a warning, and all that was saved before stays.

        Args:
            model: A built and compiled `keras.Model` with a built optimizer.
            epoch: The epoch to resume with.
            step: The step of that epoch to resume with.
            extra: Dictionary that JSON can hold.
            metrics: Whether the metrics' state is saved too. Under a strategy of several workers that is a
                common act: all of them must then call this.
            write: Whether this process writes. Of several workers, one.

        Returns:
            The path of the checkpoint, or `None` if none was written.
        """
        entries, arrays = read_state(model, (*_TRAINED, "metrics") if metrics else _TRAINED)
        broken = first_non_finite(entries, arrays)
        if broken is not None:
            _warn(f"No checkpoint at epoch {epoch}, step {step}: `{broken}` has values that are not finite")
            return None
        if not write:
            return None
        path = self.directory / f"epoch-{epoch:06d}-step-{step:09d}.ckpt"
        header = {"epoch": epoch, "step": step, "entries": entries, "extra": extra or {}}
        try:
            write_checkpoint(path, header, arrays)
        except OSError as error:
            _warn(f"No checkpoint at epoch {epoch}, step {step}: {path} could not be written: {error}")
            return None
        self._tidy((epoch, step))
        return path

    def latest(self):
        """Read the latest checkpoint; a corrupt one is skipped, with a warning, for the one before.

        Returns:
            A `SavedState`, or `None` if the directory has no checkpoint.

        Raises:
            ValueError: If there are checkpoints, but all are corrupt.
            OSError: If one cannot be read.
        """
        found = self._found()
        for _, path in reversed(found):
            try:
                header, arrays = read_checkpoint(path, "epoch", "step", "entries", "extra")
            except CorruptCheckpointError as error:
                _warn(f"Skipped a checkpoint: {error}")
                continue
            return SavedState(path=path, arrays=arrays, **header)
        if found:
            raise ValueError(
                "All checkpoints are corrupt. Remove them to train from the beginning. "
                f"Received: directory={self.directory} with {[path.name for _, path in found]}"
            )
        return None

    def remove_after(self, epoch, step):
        """Remove the checkpoints of later positions, which a training that began again before them left behind.

        Args:
            epoch: The epoch of the position.
            step: The step of that epoch.
        """
        for position, path in self._found():
            if position > (epoch, step):
                path.unlink(missing_ok=True)

    def _found(self):
        """Positions and paths in the order of training."""
        matches = ((_NAME.fullmatch(path.name), path) for path in self.directory.iterdir())
        return sorted(((int(m[1]), int(m[2])), path) for m, path in matches if m)

    def _tidy(self, saved):
        """Remove what is older than the last `keep`; a later position than that saved can only be a corrupt one."""
        paths = [path for position, path in self._found() if position <= saved]
        for path in paths[: -self.keep]:
            path.unlink(missing_ok=True)
        remove_unfinished(self.directory, UNFINISHED_SECONDS)


def _warn(message):
    warnings.warn(message, RuntimeWarning, stacklevel=3)
