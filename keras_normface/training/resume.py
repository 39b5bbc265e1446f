"""`fit` that a crash does not undo: the same command goes on where the last checkpoint was."""

import keras

from keras_normface.models.checks import check_preprocessing
from keras_normface.models.replica_functions import is_multi_worker
from keras_normface.training.checkpoints import Checkpoints
from keras_normface.training.epoch_by_epoch import EpochByEpoch


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
):
    """Train with `model.fit`, save all state now and then, and go on from there when called again.

    After a crash, the same call in a new process ends with the same weights, bit for bit, as a run that was
    never cut (same versions, same device; on a GPU, `tf.config.experimental.enable_op_determinism`). Saved
    are the model's variables with its dropout seeds, the optimizer, the metrics of the epoch that is cut,
    the history, and the position. Not saved: what callbacks hold (the waiting of `EarlyStopping`), Keras's
    global random seed, and the state of a second optimizer.

    A run that is complete, or that a callback stopped at the end of an epoch, is only restored.

    Args:
        model: A compiled `keras.Model`, made in the scope of its strategy if it has one.
        data: See `keras_normface.data.ResumableData`; `InMemory` and `ImageBatches` are such. Of several workers,
            each asks for its share if the data have `share(worker, workers)`; otherwise each reads everything
            and trains on its part.
        epochs: How many epochs in all; `None` for as many as `steps` need.
        directory: Of the checkpoints, of this training alone.
        steps: How many training steps in all, or `None`. The last epoch then ends in its middle, as far as callbacks
            and history are concerned; another call with more steps goes on there. All epochs must have as many
            steps as the first.
        save_every: Steps between checkpoints within an epoch; the end of each epoch is saved too.
        keep: How many checkpoints stay.
        callbacks: Keras callbacks. They see true epoch and step numbers, the steps of a whole epoch in
            `params["steps"]`, `on_train_begin` and `on_train_end` once a call.
        validation_data: As in `fit`.
        verbose: As in `fit`.

    Returns:
        A `keras.callbacks.History` with all epochs, those before the resume included.

    Raises:
        ValueError: If the latest checkpoint is of another model (with the first difference), all checkpoints
            are damaged, an argument does not fit, or model and data treat pixels differently (see
            `check_preprocessing`).

    Example:
    >>> import keras, numpy as np, tempfile
    >>> from keras_normface.data import InMemory
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> data = InMemory(np.eye(4), np.ones(4), batch_size=2, seed=0)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     history = fit_resumable(model, data, 1, directory, verbose=0)
    ...     history = fit_resumable(model, data, 3, directory, verbose=0)
    >>> history.epoch
    [0, 1, 2]
    """
    _check(model, data, epochs, steps, save_every)
    _build(model, data)
    run = EpochByEpoch(model, Checkpoints(directory, keep), save_every, callbacks)
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
    if hasattr(data, "preprocessing") and hasattr(data, "scale"):
        check_preprocessing(model, data)


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
