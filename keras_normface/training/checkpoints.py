"""A directory of checkpoints: the last few whole states of a training."""

import dataclasses
import re
import warnings
from pathlib import Path

from keras_normface.training import checkpoint_file, model_state
from keras_normface.written_beside import UNFINISHED_PREFIX

_TRAINED = ("model", "optimizer")
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.ckpt")


@dataclasses.dataclass(frozen=True, eq=False)
class SavedState:
    """A checkpoint that was read.

    Attributes:
        path: Its file.
        epoch: The epoch to go on with, from 0.
        step: The step of that epoch to go on with, from 0.
        extra: What was given to `Checkpoints.save`, a dictionary.
        entries: What the arrays are, see `model_state.read_state`.
        arrays: The values.
    """

    path: Path
    epoch: int
    step: int
    extra: dict
    entries: list
    arrays: list

    def restore(self, model):
        """Give a model and its optimizer this state.

        Args:
            model: A built and compiled `keras.Model` with a built optimizer, under any strategy.

        Raises:
            ValueError: If this checkpoint is of another model; the model is then unchanged.
        """
        self._restore(model, _TRAINED)

    def restore_metrics(self, model):
        """Give the metrics their state; Keras resets them at the beginning of an epoch.

        Raises:
            ValueError: If the model was compiled with other metrics.
        """
        self._restore(model, ("metrics",))

    def _restore(self, model, groups):
        try:
            model_state.restore_state(model, groups, self.entries, self.arrays)
        except ValueError as error:
            raise ValueError(f"{self.path} does not fit. {error}") from error


class Checkpoints:
    """The last checkpoints of one training, for loops of your own; `fit_resumable` uses it itself.

    Args:
        directory: Where they are; made if it does not exist. One training, one directory.
        keep: How many of the latest stay.

    Raises:
        ValueError: If `keep` is less than 1.

    Example:
    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> model.optimizer.build(model.trainable_variables)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoints = Checkpoints(directory)
    ...     path = checkpoints.save(model, epoch=0, step=5)
    ...     saved = checkpoints.latest()
    >>> saved.restore(model)
    >>> saved.epoch, saved.step
    (0, 5)
    """

    def __init__(self, directory, keep=3):
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: keep={keep}")
        self.directory, self.keep = Path(directory), keep
        self.directory.mkdir(parents=True, exist_ok=True)

    def save(self, model, epoch, step, *, extra=None, metrics=False, write=True):
        """Save all state of a model, unless it is broken or the disk is full.

        Neither ends the training: there is a warning, and all that was saved before stays.

        Args:
            model: A built and compiled `keras.Model` with a built optimizer.
            epoch: The epoch to go on with.
            step: The step of that epoch to go on with.
            extra: Dictionary that JSON can hold.
            metrics: Whether the metrics' state is saved too. Under a strategy of several workers that is a
                common act: all of them must then call this.
            write: Whether this process writes. Of several workers, one.

        Returns:
            The path of the checkpoint, or `None` if none was written.
        """
        entries, arrays = model_state.read_state(model, (*_TRAINED, "metrics") if metrics else _TRAINED)
        broken = model_state.first_non_finite(entries, arrays)
        if broken is not None:
            _warn(f"No checkpoint at epoch {epoch}, step {step}: `{broken}` has values that are not finite")
            return None
        if not write:
            return None
        path = self.directory / f"epoch-{epoch:06d}-step-{step:09d}.ckpt"
        header = {"epoch": epoch, "step": step, "entries": entries, "extra": extra or {}}
        try:
            checkpoint_file.write_checkpoint(path, header, arrays)
        except OSError as error:
            _warn(f"No checkpoint at epoch {epoch}, step {step}: {path} could not be written: {error}")
            return None
        self._tidy((epoch, step))
        return path

    def latest(self):
        """Read the latest checkpoint; a damaged one is passed over, with a warning, for the one before.

        Returns:
            A `SavedState`, or `None` if the directory has no checkpoint.

        Raises:
            ValueError: If there are checkpoints, but all are damaged.
            OSError: If one cannot be read.
        """
        found = self._found()
        for _, path in reversed(found):
            try:
                header, arrays = checkpoint_file.read_checkpoint(path)
            except checkpoint_file.CorruptCheckpointError as error:
                _warn(f"Passed over a checkpoint: {error}")
                continue
            return SavedState(path=path, arrays=arrays, **header)
        if found:
            raise ValueError(
                "All checkpoints are damaged. Remove them to train from the beginning. "
                f"Received: directory={self.directory} with {[path.name for _, path in found]}"
            )
        return None

    def _found(self):
        """Positions and paths in the order of training."""
        matches = ((_NAME.fullmatch(path.name), path) for path in self.directory.iterdir())
        return sorted(((int(m[1]), int(m[2])), path) for m, path in matches if m)

    def _tidy(self, saved):
        """Remove what is older than the last `keep`, and what a killed process left half-written.

        A later position than the one just saved can only be a damaged one; it does not count.
        """
        paths = [path for position, path in self._found() if position <= saved]
        unfinished = self.directory.glob(f"{UNFINISHED_PREFIX}*")
        for path in (*paths[: -self.keep], *unfinished):
            path.unlink(missing_ok=True)


def _warn(message):
    warnings.warn(message, RuntimeWarning, stacklevel=3)
