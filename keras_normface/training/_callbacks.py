"""Callbacks: logs, snapshots of the weights, and two guards."""

import math
import os
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_normface import _validation
from keras_normface._walk import all_layers
from keras_normface.distribute import is_chief, same_everywhere
from keras_normface.heads import Head, MarginSoftmaxHead
from keras_normface.layers import CosineDense, LearnableScale
from keras_normface.losses import NormFaceLoss
from keras_normface.sphere import softmax_loss_lower_bound
from keras_normface.training import _checkpoint


class AtSteps(keras.callbacks.Callback):
    """Counts training steps over epochs and resumes in `now`; acts at the first position at or past a due step."""

    def __init__(self):
        super().__init__()
        self.now, self._epoch, self._length = 0, 0, None

    def is_due(self, before, now):
        """Whether to act after step `now`, if the step looked at last was `before`; 1 is the first step."""
        raise NotImplementedError(f"{type(self).__name__} must implement `is_due`.")

    def act(self, before, now, logs):
        """Do it. `logs` may be added to."""
        raise NotImplementedError(f"{type(self).__name__} must implement `act`.")

    def on_epoch_begin(self, epoch, logs=None):
        """Find where in the training this is."""
        self._length = self.params.get("steps")
        if self._length is None:
            raise ValueError(
                f"{type(self).__name__} needs data with a known number of batches. Received: params={self.params}"
            )
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Note the position."""
        self.now = self._epoch * self._length + batch

    def on_train_batch_end(self, batch, logs=None):
        """Act if it is time."""
        # With several steps in one execution, `batch` is the first of them before Keras 3.11, later the last, which may
        # lie past the end of the epoch.
        before, last = self.now, self.params.get("last_step", self._length)
        self.now = min(before + self.model.steps_per_execution, self._epoch * self._length + last)
        if self.is_due(before, self.now):
            self.act(before, self.now, {} if logs is None else logs)


class ScalarLog(AtSteps):
    """Write the logs and the learning rate as scalars into an event file, for `tensorboard --logdir`.

    `keras.callbacks.TensorBoard` needs the package `tensorboard` to write; this does not, only looking does. The
    horizontal axis is the number of training steps, so a resumed training continues the curve. Under several
    workers the first writes. Put it behind callbacks that add to the logs.

    Args:
        directory: Where the files are; made if it does not exist.
        every_steps: After how many training steps the logs of the batch are written, as `batch_<name>`. Those of an
            epoch are written at its end.

    Raises:
        ValueError: If `every_steps` is less than 1; in training, if the number of batches of an epoch is not known.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[ScalarLog(directory)])
    >>> len(os.listdir(directory))
    1
    """

    def __init__(self, directory, *, every_steps=100):
        super().__init__()
        _validation.integer("every_steps", every_steps, 1)
        self.directory, self.every_steps, self._writer = os.fspath(directory), every_steps, None

    def on_train_begin(self, logs=None):
        """Open the file."""
        import tensorflow as tf

        if is_chief(self.model.distribute_strategy):
            self._writer = tf.summary.create_file_writer(self.directory)

    def is_due(self, before, now):
        """Whether a multiple of `every_steps` was passed."""
        return now // self.every_steps > before // self.every_steps

    def act(self, before, now, logs):
        """Write the logs of a batch."""
        self._write("batch_", logs)

    def on_epoch_end(self, epoch, logs=None):
        """Write the logs of the epoch."""
        self._write("", logs or {})
        if self._writer is not None:
            self._writer.flush()

    def on_train_end(self, logs=None):
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, prefix, logs):
        import tensorflow as tf

        if self._writer is None:
            return
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        metadata.data_class = 1  # DATA_CLASS_SCALAR
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        with self._writer.as_default():
            for name, value in {**logs, "learning_rate": rate}.items():
                if np.ndim(value) == 0:
                    scalar = tf.constant(float(value), "float32")
                    tf.summary.write(prefix + name, scalar, step=self.now, metadata=metadata)


class WeightSnapshots(AtSteps):
    """Keep the weights as they are after given training steps, for `average_snapshots`.

    Files are `step-000005000.snapshot`, with a checksum, without optimizer, and either complete or not there. A
    resumed training writes again what it repeats. Under several workers the first writes. If one cannot be written, as
    on a full disk, there is a warning and training continues.

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
    >>> snapshots = WeightSnapshots(tempfile.mkdtemp(), steps=[1, 3])
    >>> history = model.fit(np.ones((6, 2)), np.ones(6), batch_size=2, verbose=0, callbacks=[snapshots])
    >>> [path.name for path in snapshots.written()]
    ['step-000000001.snapshot', 'step-000000003.snapshot']
    """

    def __init__(self, directory, steps):
        super().__init__()
        self.directory, self.steps = Path(directory), sorted({_validation.integer("steps", step, 1) for step in steps})
        if not self.steps:
            raise ValueError(f"`steps` must hold at least one step. Received: steps={steps}")
        self.directory.mkdir(parents=True, exist_ok=True)

    def written(self):
        """Return the paths of the snapshots of these steps that are there, in order."""
        return [path for path in map(self._path, self.steps) if path.is_file()]

    def is_due(self, before, now):
        """Whether a wanted step was passed."""
        return any(before < step <= now for step in self.steps)

    def act(self, before, now, logs):
        """Write the weights."""
        entries, arrays = _checkpoint.read_state(self.model, ("model",))
        strategy = self.model.distribute_strategy
        for step in self.steps if is_chief(strategy) else ():
            if before < step <= now:
                self._write(step, entries, arrays)
        same_everywhere(strategy, [now])  # no worker continues before the file is there

    def _write(self, step, entries, arrays):
        try:
            _checkpoint.write_checkpoint(self._path(step), {"step": step, "entries": entries}, arrays)
        except OSError as error:
            message = f"No snapshot of step {step}: {self._path(step)} could not be written: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _path(self, step):
        return self.directory / f"step-{step:09d}.snapshot"


def average_snapshots(model, paths):
    """Give a model the mean of snapshots, formed in float64.

    All variables of floating type are averaged: weights, class centres, scales, and batch norm's moving means and
    variances. Those of the averaged network are others, strictly; passing some training data through it with
    small weights changed little is what justifies the mean. Whole numbers (the seeds of dropout layers) are
    taken from the last path. The optimizer is left alone.

    Args:
        model: A built `keras.Model` of the same structure.
        paths: Paths of snapshots, at least one.

    Raises:
        ValueError: If there is no path, one is corrupt, or one is of another model; the model is then unchanged.
        OSError: If one cannot be read.

    Source: NormFace (arXiv 1704.06369), §5.1.

    Example:
    >>> import keras, numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> snapshots = WeightSnapshots(tempfile.mkdtemp(), steps=[1, 3])
    >>> history = model.fit(np.ones((6, 2)), np.ones(6), batch_size=2, verbose=0, callbacks=[snapshots])
    >>> average_snapshots(model, snapshots.written())
    """
    paths = list(paths)
    if not paths:
        raise ValueError("`paths` must hold at least one snapshot. Received: none")
    total = None
    for path in paths:
        header, arrays = _checkpoint.read_checkpoint(path)
        _checkpoint.pairs_of(model, ("model",), header.get("entries", []), arrays)  # refuses another model's
        floats = [np.asarray(array, "float64") if _is_float(array) else None for array in arrays]
        total = floats if total is None else [None if t is None else t + f for t, f in zip(total, floats, strict=True)]
    means = [a if t is None else (t / len(paths)).astype(a.dtype) for a, t in zip(arrays, total, strict=True)]
    _checkpoint.restore_state(model, ("model",), header["entries"], means)


def _is_float(array):
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


class NanGuard(keras.callbacks.Callback):
    """Stop training at the first loss, weight or optimizer variable that is not finite, and say which.

    The loss is looked at after every step. A label out of range makes the losses of this package NaN, so after a NaN
    the message names the labels first. A gradient that is not finite shows in the weight that it has changed, or in
    the optimizer's variable (a mixed-precision loss scale skips such gradients, rightly). It raises before anything is
    saved, so the last checkpoint is one of before.

    Args:
        every_steps: After how many steps the weights are looked at. Each look reads all of them once.

    Raises:
        FloatingPointError: While training, with the name of the first broken tensor, the epoch and the step,
            both counted from 0.
        ValueError: If `every_steps` is less than 1.

    Example:
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = np.full((4, 2), np.inf)
    >>> try:
    ...     history = model.fit(x, np.ones(4), verbose=0, callbacks=[NanGuard()])
    ... except FloatingPointError as error:
    ...     print(str(error)[:44])
    Not finite after step 0 of epoch 0: loss, `s
    """

    def __init__(self, *, every_steps=1):
        super().__init__()
        _validation.integer("every_steps", every_steps, 1)
        self.every_steps = every_steps
        self._epoch, self._step, self._watched = 0, 0, None

    def on_train_begin(self, logs=None):
        """Forget the variables of another model."""
        self._watched = None

    def on_epoch_begin(self, epoch, logs=None):
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Look at the losses in `logs`, and at the variables when it is time."""
        self._step = batch
        losses = {k: v for k, v in (logs or {}).items() if k == "loss" or k.endswith("_loss")}
        broken = [name for name, value in losses.items() if not math.isfinite(float(value))]
        if broken or (batch + 1) % self.every_steps == 0:
            variable = self._first_broken_variable()
            broken += [] if variable is None else [f"`{variable}`"]
        self._stop_at(broken, any(math.isnan(float(value)) for value in losses.values()))

    def on_epoch_end(self, epoch, logs=None):
        """Look at the variables once more: the next step may never come."""
        variable = self._first_broken_variable()
        self._stop_at([] if variable is None else [f"`{variable}`"])

    def _stop_at(self, broken, loss_is_nan=False):
        if broken:
            classes = _number_of_classes(self.model) if loss_is_nan else None
            labels = "" if classes is None else f"Check the labels: one outside [0, {classes}) makes the loss NaN. "
            raise FloatingPointError(
                f"Not finite after step {self._step} of epoch {self._epoch}: {', '.join(broken)}. {labels}"
                "No checkpoint has it; lower the learning rate or clip the gradients, and check the input."
            )

    def _first_broken_variable(self):
        if self._watched is None:
            state = _checkpoint.state_variables(self.model)
            floats = [v for g in ("model", "optimizer") for v in state[g] if "float" in str(v.dtype)]
            self._watched, self._flags = floats, _compiled(lambda: _finite_flags(floats))
        flags = ops.convert_to_numpy(self._flags())
        return None if flags.all() else self._watched[int(flags.argmin())].path


def _number_of_classes(model):
    """The smallest number of classes of the model's heads and cosine layers; None without any."""
    units = [layer.units for layer in all_layers(model) if isinstance(layer, Head | CosineDense)]
    return min(units, default=None)


def _finite_flags(variables):
    return ops.stack([ops.all(ops.isfinite(variable)) for variable in variables])


def _compiled(function):
    """One call into TensorFlow for all variables, in place of two for each."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


class ScaleMonitor(keras.callbacks.Callback):
    """Log the scale and the least loss it allows each epoch, and warn when training sits on that bound.

    Adds `scale` and `loss_lower_bound` to the logs, so they show in the history and the progress bar's
    summary. Warns, once, when the bound is above 0.1 and the loss is within 5 % of it: the scale is then too
    small for the loss to fall, whatever the network learns.

    Args:
        num_classes: Number of classes; `None` takes the units of the model's only `CosineDense`, or
            `MarginSoftmaxHead` with a hard feature norm.
        loss_name: Which entry of the logs is the softmax loss. With several outputs, Keras calls it
            `<output>_loss`.

    Raises:
        ValueError: When training starts, if the number of classes or the scale is ambiguous.

    Source: NormFace (arXiv 1704.06369), §3.3 and Proposition 2.

    Example:
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), CosineDense(3), LearnableScale(20.0)])
    >>> model.compile(loss=NormFaceLoss())
    >>> data = np.eye(4)[:3], np.arange(3)
    >>> history = model.fit(*data, verbose=0, callbacks=[ScaleMonitor()])
    >>> sorted(history.history)
    ['loss', 'loss_lower_bound', 'scale']
    """

    BOUND_THAT_MATTERS = 0.1
    NEARNESS = 1.05

    def __init__(self, num_classes=None, *, loss_name="loss"):
        super().__init__()
        self.num_classes = num_classes
        self.loss_name = loss_name
        self._warned = False

    def on_train_begin(self, logs=None):
        """Find the number of classes and the scale in the model."""
        layers = list(all_layers(self.model))
        heads = [layer for layer in layers if isinstance(layer, MarginSoftmaxHead) and layer.feature_norm == "hard"]
        cosine_layers = heads or [layer for layer in layers if isinstance(layer, CosineDense)]
        if self.num_classes is None:
            if len(cosine_layers) != 1:
                raise ValueError(
                    "`num_classes` must be given unless the model has exactly one CosineDense, or one "
                    f"MarginSoftmaxHead. Received: num_classes=None and {len(cosine_layers)} such layers"
                )
            self.num_classes = cosine_layers[0].units
        self._weight = heads[0].loss_weight if heads else 1.0
        scales = [head.scale for head in heads] or [layer for layer in layers if isinstance(layer, LearnableScale)]
        if not scales and isinstance(self.model.loss, NormFaceLoss) and self.model.loss.scale is not None:
            scales = [self.model.loss.scale]
        if len(scales) != 1:
            raise ValueError(
                "The model must have exactly one LearnableScale, one NormFaceLoss with a fixed scale, or one "
                f"MarginSoftmaxHead. Received: {len(scales)} scales and loss={self.model.loss!r}"
            )
        (self._scale,) = scales

    def on_epoch_end(self, epoch, logs=None):
        """Add the scale and the bound to `logs`, and warn where training is stuck."""
        learnable = isinstance(self._scale, LearnableScale)
        scale = float(ops.convert_to_numpy(self._scale.value)) if learnable else self._scale
        bound = self._weight * softmax_loss_lower_bound(self.num_classes, scale)
        if logs is None:
            return
        loss = logs.get(self.loss_name)
        logs["scale"], logs["loss_lower_bound"] = scale, bound
        stuck = loss is not None and bound > self.BOUND_THAT_MATTERS and loss <= self.NEARNESS * bound
        if stuck and not self._warned:
            self._warned = True
            warnings.warn(
                f"Epoch {epoch + 1}: the loss {loss:.4g} sits on {bound:.4g}, the least that "
                f"{self.num_classes} classes allow at scale {scale:.4g}. The scale is too small; start at 20 "
                "or more, or use LearnableScale.for_classes.",
                stacklevel=2,
            )
