"""One training over many calls of `fit`, one an epoch."""

import contextlib
import json

import keras
import numpy as np

from keras_normface._io import locked, remove_unfinished
from keras_normface.checks import check_model
from keras_normface.distribute import is_chief, is_multi_worker, same_everywhere
from keras_normface.training import _checkpoint
from keras_normface.training._checkpoint import CheckpointStore


class EpochByEpoch(keras.callbacks.Callback):
    """Stands between `fit` and the user's callbacks: counts steps, saves, makes many `fit`s look like one."""

    # `fit` puts averaged weights (`use_ema`) in place when it ends; within `with run:` this waits for the end of the
    # whole training, because weights changed at every epoch would be another training.

    def __init__(self, model, checkpoints, save_every, callbacks, fingerprint, allow_other_data):
        super().__init__()
        self.fingerprint, self.allow_other_data = fingerprint, allow_other_data
        self.checkpoints, self.save_every, self.callbacks = checkpoints, save_every, list(callbacks or ())
        self.epoch, self.step, self.steps_left, self.stopped = 0, 0, 0, False
        self._steps_not_wanted, self._metrics, self._restarted = 0, None, False
        self.set_model(model)
        self._optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._use_ema, self._begun, self._first_step = self._optimizer.use_ema, False, 0
        self._begin_history()
        self._cut = checkpoints.latest()
        if self._cut is not None:
            self._go_on_from(self._cut)
        self._require_one_position(model.distribute_strategy)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self._optimizer.use_ema = self._use_ema
        if kind is None:
            self._optimizer.finalize_variable_values(self.model.trainable_variables)
            if self._begun:
                self._tell("on_train_end", dict(self._logs_of_epochs[-1][1]))

    def _begin_history(self):
        self._logs_of_epochs, self.history = [], keras.callbacks.History()
        self.history.set_model(self.model)
        self.history.on_train_begin()

    def restore(self):
        """Give the model the state that was saved, again."""
        self._cut.restore(self.model)

    def _go_on_from(self, saved):
        other_data = _differences(saved.extra.get("data"), self.fingerprint)
        if other_data and not self.allow_other_data:
            raise ValueError(
                f"{self.checkpoints.directory} holds a training on other data. {'; '.join(other_data)}. Give another "
                "directory, or, to resume it on these data all the same, allow_other_data=True"
            )
        saved.restore(self.model)
        self.epoch, self.step, self.stopped = saved.epoch, saved.step, saved.extra.get("stopped", False)
        for epoch, logs in saved.extra.get("history", []):
            self._record(epoch, logs)
        if other_data and self.step:
            self.step, self._restarted = 0, True
            self._forget(self.epoch)

    def _require_one_position(self, strategy):
        """Workers that went on from different places would wait for each other for ever."""
        if not same_everywhere(strategy, [self.epoch, self.step]):
            raise ValueError(
                "`directory` must be on a disk that all workers share: they found different checkpoints. "
                f"Received: directory={self.checkpoints.directory}, here at epoch {self.epoch}, step {self.step}"
            )

    def prepare(self, left, wanted=None):
        """Set what the next `fit` trains: `left` steps of the epoch, or `wanted`, if that is fewer."""
        self.steps_left = left if wanted is None else min(left, wanted)
        self._steps_not_wanted = left - self.steps_left

    def set_params(self, params):
        """Tell the callbacks; those hear of the steps of the whole epoch, and of the last that is wanted now."""
        super().set_params(params)
        last = self.step + self.steps_left
        self._tell("set_params", {**params, "steps": last + self._steps_not_wanted, "last_step": last})

    def set_model(self, model):
        """Tell the callbacks."""
        super().set_model(model)
        self._tell("set_model", model)

    def on_train_begin(self, logs=None):
        """Tell the callbacks, the first time."""
        self._optimizer.use_ema = self._use_ema
        if not self._begun:
            self._begun = True
            self._tell("on_train_begin", logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Give an epoch that was cut its metrics back; Keras has just reset them."""
        if self._cut is not None and self.step:
            self._cut.restore_metrics(self.model)
            self._forget(epoch)
        self._first_step, self._cut = self.step, None
        self._tell("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        """Save when it is time."""
        # Here and not at the end of the step before, so that there are always steps left to resume with.
        if self.step > self._first_step and self._is_time_to_save():
            self._save()
        self._tell("on_train_batch_begin", self.step, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Count."""
        steps = min(self.model.steps_per_execution, self.steps_left)
        self.step, self.steps_left = self.step + steps, self.steps_left - steps
        self._tell("on_train_batch_end", self.step - 1, logs)
        if self._steps_not_wanted and not self.steps_left:
            self._metrics = _checkpoint.read_state(self.model, ("metrics",))  # before a validation resets them

    def on_epoch_end(self, epoch, logs=None):
        """Save, after the callbacks have had their say, and end this `fit`."""
        logs = {} if logs is None else logs
        self._tell("on_epoch_end", epoch, logs)
        self._record(epoch, logs)
        self.stopped = self.model.stop_training
        if self._metrics is None:
            self.epoch, self.step = epoch + 1, 0
        else:
            _checkpoint.restore_state(self.model, ("metrics",), *self._metrics)
        # A callback may have stopped it in the middle; that is not a state to resume from.
        if not self.steps_left:
            self._save()
        self.model.stop_training = True
        self._optimizer.use_ema = False

    def on_test_begin(self, logs=None):
        """Tell the callbacks."""
        self._tell("on_test_begin", logs)

    def on_test_end(self, logs=None):
        """Tell the callbacks."""
        self._tell("on_test_end", logs)

    def on_test_batch_begin(self, batch, logs=None):
        """Tell the callbacks."""
        self._tell("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        """Tell the callbacks."""
        self._tell("on_test_batch_end", batch, logs)

    def _tell(self, hook, *arguments):
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def _record(self, epoch, logs):
        self._logs_of_epochs.append((epoch, {name: _plain(value) for name, value in logs.items()}))
        self.history.on_epoch_end(epoch, self._logs_of_epochs[-1][1])

    def _forget(self, epoch):
        """Drop the logs of an epoch that ended in its middle and is now resumed."""
        logs = [entry for entry in self._logs_of_epochs if entry[0] != epoch]
        self._begin_history()
        for entry in logs:
            self._record(*entry)

    def _is_time_to_save(self):
        # With several steps in one execution, the first position at or past the multiple.
        return self.step % self.save_every < self.model.steps_per_execution

    def _save(self):
        extra = {"stopped": self.stopped, "history": self._logs_of_epochs, "data": self.fingerprint}
        saved = self.checkpoints.save(
            self.model,
            self.epoch,
            self.step,
            extra=extra,
            metrics=self.step > 0,
            write=is_chief(self.model.distribute_strategy),
        )
        if saved is not None and self._restarted:  # later ones are of the other data
            self.checkpoints.remove_after(self.epoch, self.step)
            self._restarted = False


def _plain(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()


def fit_resumable(
    model,
    data,
    epochs,
    directory,
    *,
    steps=None,
    save_every=1000,
    keep=3,
    callbacks=(),
    validation_data=None,
    verbose="auto",
    allow_other_data=False,
):
    """Train with `model.fit`, save all state at intervals, and resume from it when called again.

    After a crash, the same call in a new process ends with the same weights, bit for bit, as an
    uninterrupted run (same versions, same device; on a GPU, `tf.config.experimental.enable_op_determinism`). Saved
    are the model's variables with its dropout seeds, the optimizer, the metrics of the epoch that is cut,
    the history, and the position. Not saved: what callbacks hold (the waiting of `EarlyStopping`), Keras's
    global random seed, and the state of a second optimizer.

    A run that is complete, or that a callback stopped at the end of an epoch, is only restored.

    Args:
        model: A compiled `keras.Model`, made in the scope of its strategy if it has one.
        data: See `keras_normface.data.ResumableData`; `ArrayBatches` and `ImageBatches` are such. Their `fingerprint`
            is saved; of data without one, the number of steps of an epoch and the form of a batch. Of several workers,
            each asks for its share if the data have `share(worker, workers)`; otherwise each reads everything
            and trains on its part.
        epochs: How many epochs in all; `None` for as many as `steps` need.
        directory: Of the checkpoints, of this training alone.
        steps: How many training steps in all, or `None`. The last epoch then ends in its middle, as far as callbacks
            and history are concerned; another call with more steps resumes there. All epochs must have as many
            steps as the first.
        save_every: Steps between checkpoints within an epoch; the end of each epoch is saved too.
        keep: How many checkpoints stay.
        callbacks: Keras callbacks. They see true epoch and step numbers, the steps of a whole epoch in
            `params["steps"]`, `on_train_begin` and `on_train_end` once a call.
        validation_data: As in `fit`.
        verbose: As in `fit`.
        allow_other_data: Whether a training resumes although the fingerprint of the data differs from that of the
            checkpoint. An interrupted epoch then starts again.

    Returns:
        A `keras.callbacks.History` with all epochs, those before the resume included.

    Raises:
        ValueError: If the latest checkpoint is of another model (with the first difference) or of other data (with
            all differences), all checkpoints are corrupt, another process trains in `directory` (naming it), an
            argument does not fit, or model, losses and data do not belong together (see `check_model`).

    Example:
    >>> import keras, numpy as np, tempfile
    >>> from keras_normface.data import ArrayBatches
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> data = ArrayBatches(np.eye(4), np.ones(4), batch_size=2, seed=0)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     history = fit_resumable(model, data, 1, directory, verbose=0)
    ...     history = fit_resumable(model, data, 3, directory, verbose=0)
    >>> history.epoch
    [0, 1, 2]
    """
    _check(model, data, epochs, steps, save_every)
    _build(model, data)
    checkpoints, fingerprint = CheckpointStore(directory, keep=keep), _fingerprint(data)
    with locked(directory) if is_chief(model.distribute_strategy) else contextlib.nullcontext(None) as own:
        if own is not None:
            remove_unfinished(directory)
        run = EpochByEpoch(model, checkpoints, save_every, callbacks, fingerprint, allow_other_data)
        wanted = _Wanted(data, epochs, steps)
        if run.step and not run.stopped and wanted.has_more(run):
            _make_metrics(model, _rest_of_epoch(data, run.epoch, run.step)[0])
            run.restore()
        with run:
            while not run.stopped and wanted.has_more(run):
                rest, left = _rest_of_epoch(data, run.epoch, run.step)
                run.prepare(left, wanted.steps_after(run))
                rest = rest.take(run.steps_left) if run.steps_left < left else rest
                shared = _shared(model.distribute_strategy, data, run)
                model.fit(
                    rest if shared is None else shared,
                    steps_per_epoch=None if shared is None else run.steps_left,
                    initial_epoch=run.epoch,
                    epochs=wanted.epochs,
                    shuffle=False,
                    callbacks=[run],
                    validation_data=validation_data,
                    verbose=verbose,
                )
    return run.history


class _Wanted:
    """Where the training ends."""

    def __init__(self, data, epochs, steps):
        self.epochs, self.steps = epochs, steps
        if steps is not None:
            self.steps_per_epoch = _rest_of_epoch(data, 0, 0)[1]
            needed = -(-steps // self.steps_per_epoch)
            self.epochs = needed if epochs is None else min(epochs, needed)

    def steps_after(self, run):
        """How many steps are wanted after the position of `run`; `None` if their number is not limited."""
        if self.steps is None:
            return None
        return self.steps - run.epoch * self.steps_per_epoch - run.step

    def has_more(self, run):
        """Whether anything is to be trained after the position of `run`."""
        return run.epoch < self.epochs and (self.steps is None or self.steps_after(run) > 0)


def _check(model, data, epochs, steps, save_every):
    if not model.compiled or save_every < 1:
        raise ValueError(
            "`model` must be compiled and `save_every` at least 1. "
            f"Received: model.compiled={model.compiled}, save_every={save_every}"
        )
    if (epochs is None and steps is None) or (steps is not None and steps < 1):
        raise ValueError(f"`epochs` or `steps`, from 1, must be given. Received: epochs={epochs}, steps={steps}")
    check_model(model, data)


def _fingerprint(data):
    """What tells other data apart, as JSON gives it back: the data's own, or what can be seen of an epoch."""
    import tensorflow as tf

    found = getattr(data, "fingerprint", None)
    if found is None:
        rest, steps = _rest_of_epoch(data, 0, 0)
        form = [[str(spec.dtype), str(spec.shape)] for spec in tf.nest.flatten(rest.element_spec)]
        found = {"steps_per_epoch": steps, "batch": form}
    return json.loads(json.dumps(found))


def _differences(saved, ours):
    """Sentences, one for each entry in which two fingerprints differ."""
    if not isinstance(saved, dict):
        return ["The checkpoint does not record its data"]
    differing = [key for key in {**saved, **ours} if saved.get(key) != ours.get(key)]
    return [f"{key}: there {saved.get(key)!r}, here {ours.get(key)!r}" for key in differing]


def _build(model, data):
    if not model.built:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(next(iter(data(0, 0))))
        with model.distribute_strategy.scope():
            model(x)
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


def _make_metrics(model, rest):
    """Train a step whose effect is to be undone: Keras makes a metric's variables no sooner."""
    model.fit(rest.take(model.steps_per_execution), shuffle=False, verbose=0)


def _shared(strategy, data, run):
    """The batches of this worker alone, cut for its replicas; `None` if there is one worker, or no way to share."""
    if not is_multi_worker(strategy) or not hasattr(data, "share"):
        return None

    def own(context):
        part = data.share(context.input_pipeline_id, context.num_input_pipelines)
        rows = data.batch_size // context.num_replicas_in_sync
        return part(run.epoch, run.step).take(run.steps_left).rebatch(rows, drop_remainder=True)

    return strategy.distribute_datasets_from_function(own)


def _rest_of_epoch(data, epoch, step):
    """The dataset with a known number of batches, so that `fit` never begins a step that is not there."""
    import tensorflow as tf

    rest = data(epoch, step)
    steps = int(rest.cardinality())
    if steps < 0:
        if getattr(data, "steps_per_epoch", None) is None:
            raise ValueError(
                "`data` must return datasets that know their number of batches, or have `steps_per_epoch`. "
                f"Received: a dataset of cardinality {steps}"
            )
        infinite, steps = steps == tf.data.INFINITE_CARDINALITY, data.steps_per_epoch - step
        rest = rest.take(steps) if infinite else rest.apply(tf.data.experimental.assert_cardinality(steps))
    if steps < 1:
        raise ValueError(f"`data` has no batch at epoch={epoch}, step={step}")
    return rest, steps
