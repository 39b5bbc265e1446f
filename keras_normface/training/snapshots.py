"""Weights at some steps of a training, and their mean."""

from pathlib import Path

import numpy as np

from keras_normface.models.replica_functions import is_chief, same_everywhere
from keras_normface.training import checkpoint_file, model_state
from keras_normface.training.at_steps import AtSteps


class Snapshots(AtSteps):
    """Keep the weights as they are after given training steps, for `average_snapshots`.

    Files are `step-000005000.snapshot`, with a checksum, without optimizer, and either complete or not there. A
    resumed training writes again what it repeats. Under several workers the first writes.

    Args:
        directory: Where they are; made if it does not exist.
        steps: Numbers of steps, counted over all epochs; 1 is after the first.

    Raises:
        ValueError: If there are no steps, or one is less than 1; in training, if the number of batches of an
            epoch is not known.

    Source: NormFace (arXiv 1704.06369), §5.1: five snapshots averaged.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> snapshots = Snapshots(tempfile.mkdtemp(), steps=[1, 3])
    >>> history = model.fit(np.ones((6, 2)), np.ones(6), batch_size=2, verbose=0, callbacks=[snapshots])
    >>> [path.name for path in snapshots.written()]
    ['step-000000001.snapshot', 'step-000000003.snapshot']
    """

    def __init__(self, directory, steps):
        super().__init__()
        self.directory, self.steps = Path(directory), sorted(set(steps))
        if not self.steps or self.steps[0] < 1:
            raise ValueError(f"`steps` must hold numbers of at least 1. Received: steps={steps}")
        self.directory.mkdir(parents=True, exist_ok=True)

    def written(self):
        """Return the paths of the snapshots of these steps that are there, in order."""
        return [path for path in map(self._path, self.steps) if path.is_file()]

    def is_due(self, before, now):
        """Whether a wanted step was passed."""
        return any(before < step <= now for step in self.steps)

    def act(self, before, now, logs):
        """Write the weights."""
        entries, arrays = model_state.read_state(self.model, ("model",))
        strategy = self.model.distribute_strategy
        for step in self.steps if is_chief(strategy) else ():
            if before < step <= now:
                checkpoint_file.write_checkpoint(self._path(step), {"step": step, "entries": entries}, arrays)
        same_everywhere(strategy, [now])  # no worker goes on before the file is there

    def _path(self, step):
        return self.directory / f"step-{step:09d}.snapshot"


def average_snapshots(model, paths):
    """Give a model the mean of snapshots, formed in float64.

    All variables of floating type are averaged: weights, agents, scales, and batch norm's moving means and
    variances. Those of the averaged network are others, strictly; passing some training data through it with
    small weights changed little is what justifies the mean. Whole numbers (the seeds of dropout layers) are
    taken from the last path. The optimizer is left alone.

    Args:
        model: A built `keras.Model` of the same structure.
        paths: Paths of snapshots, at least one.

    Raises:
        ValueError: If there is no path, one is damaged, or one is of another model; the model is then unchanged.
        OSError: If one cannot be read.

    Source: NormFace (arXiv 1704.06369), §5.1.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> snapshots = Snapshots(tempfile.mkdtemp(), steps=[1, 3])
    >>> history = model.fit(np.ones((6, 2)), np.ones(6), batch_size=2, verbose=0, callbacks=[snapshots])
    >>> average_snapshots(model, snapshots.written())
    """
    paths = list(paths)
    if not paths:
        raise ValueError("`paths` must hold at least one snapshot. Received: none")
    total = None
    for path in paths:
        header, arrays = checkpoint_file.read_checkpoint(path)
        model_state.pairs_of(model, ("model",), header.get("entries", []), arrays)  # refuses another model's
        floats = [np.asarray(array, "float64") if _is_float(array) else None for array in arrays]
        total = floats if total is None else [None if t is None else t + f for t, f in zip(total, floats, strict=True)]
    means = [a if t is None else (t / len(paths)).astype(a.dtype) for a, t in zip(arrays, total, strict=True)]
    model_state.restore_state(model, ("model",), header["entries"], means)


def _is_float(array):
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
