"""The loops over epochs and executions: callbacks around the model's functions, as in Keras."""

import warnings

import keras
import numpy as np

from keras_normface.distribute import _functions, _step
from keras_normface.distribute._data import Batches, split_validation


class Epochs:
    """The iterator of each epoch: a fresh one, or, with a number of steps, one that continues."""

    def __init__(self, batches, strategy, steps_per_execution, steps=None):
        self.batches, self.steps, self.stride = batches, steps, steps_per_execution
        self.dataset, self.iterator = batches.distribute(strategy), None

    def executions(self):
        """Yield `(first step, last step, iterator)` until the epoch's steps are done."""
        if self.iterator is None or self.steps is None:
            self.iterator = iter(self.dataset)
        step = 0
        while self.steps is None or step < self.steps:
            yield step, step + self.stride - 1, self.iterator
            step += self.stride
        self.batches.end_epoch()

    def ran_out(self):
        """Note that the iterator is empty; with `steps_per_epoch` that is a surprise."""
        self.batches.end_epoch()
        self.iterator = None
        if self.steps is not None:
            warnings.warn(
                f"The data ran out before {self.steps} steps were done. Give a dataset that repeats, or a "
                "smaller `steps_per_epoch` (`steps`, `validation_steps`).",
                stacklevel=6,
            )


def train(model, source, validate, callbacks, epochs):
    """Train for some epochs."""
    model.stop_training = False
    callbacks.on_train_begin()
    logs = None
    for epoch in epochs:
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        logs = _train_epoch(model, source, callbacks)
        logs |= validate(epoch)
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if logs is not None:
        with model.distribute_strategy.scope():
            model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end(logs)


def _train_epoch(model, source, callbacks):
    begin, end = callbacks.on_train_batch_begin, callbacks.on_train_batch_end
    return _run_epoch(source, model.train_function, begin, end, lambda: model.stop_training)


def evaluate_epoch(model, batches, callbacks, steps):
    """Evaluate once."""
    callbacks.on_test_begin()
    model.stop_evaluating = False
    model.reset_metrics()
    source = Epochs(batches, model.distribute_strategy, model.steps_per_execution, steps)
    begin, end = callbacks.on_test_batch_begin, callbacks.on_test_batch_end
    logs = _run_epoch(source, model.test_function, begin, end, lambda: model.stop_evaluating)
    callbacks.on_test_end(logs)
    return logs


def _run_epoch(source, function, begin, end, is_stopped):
    """Call a function of the model for each execution of an epoch → the last logs."""
    logs = {}
    try:
        for first, last, iterator in source.executions():
            begin(first)
            logs = _floats(function(iterator))
            end(last, logs)
            if is_stopped():
                break
    except StopIteration:
        source.ran_out()
    return dict(logs)


def _floats(logs):
    """Scalars as Python floats, other results (a score a class) as arrays."""
    arrays = {name: np.asarray(value) for name, value in logs.items()}
    return {name: value if value.ndim else float(value) for name, value in arrays.items()}


def fit(
    model, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, validation_split=0.0,
    validation_data=None, shuffle=True, class_weight=None, sample_weight=None, initial_epoch=0,
    steps_per_epoch=None, validation_steps=None, validation_batch_size=None, validation_freq=1,
):  # fmt: skip
    """Train under the model's strategy; arguments and result as `keras.Model.fit`."""
    _require_compiled(model, "fit")
    strategy = model.distribute_strategy
    _refuse_backup(callbacks)
    if validation_split and validation_data is None:
        (x, y, sample_weight), validation_data = split_validation((x, y, sample_weight), validation_split)
    batches = Batches(
        x, y, sample_weight, batch_size=batch_size, shuffle=shuffle, class_weight=class_weight,
        seed=_common_seed(strategy) if shuffle else None, steps=steps_per_epoch,
    )  # fmt: skip
    validation = _validation_batches(validation_data, validation_batch_size or batch_size, validation_steps)
    _prepare(model, batches, training=True)
    callbacks = _callback_list(model, callbacks, verbose, epochs=epochs, steps=batches.num_batches, history=True)
    source = Epochs(batches, strategy, model.steps_per_execution, steps_per_epoch)

    def validate(epoch):
        if validation is None or not _is_due(epoch, validation_freq):
            return {}
        _prepare(model, validation, training=False)
        results = evaluate_epoch(model, validation, callbacks, validation_steps)
        return {f"val_{name}": value for name, value in results.items()}

    train(model, source, validate, callbacks, range(initial_epoch, epochs))
    return model.history


def evaluate(
    model, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None, callbacks=None,
    return_dict=False,
):  # fmt: skip
    """Evaluate under the model's strategy; arguments and result as `keras.Model.evaluate`."""
    _require_compiled(model, "evaluate")
    batches = Batches(x, y, sample_weight, batch_size=batch_size, steps=steps)
    _prepare(model, batches, training=False)
    callbacks = _callback_list(model, callbacks, verbose, epochs=1, steps=batches.num_batches)
    logs = evaluate_epoch(model, batches, callbacks, steps)
    return logs if return_dict else _in_order(model, logs)


def predict(model, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
    """Predict under the model's strategy; arguments and result as `keras.Model.predict`."""
    import tensorflow as tf

    batches = Batches(x, batch_size=batch_size, steps=steps)
    if not model.built:
        first = batches.first_row(model.distribute_strategy)
        _step.build(model, keras.utils.unpack_x_y_sample_weight(first)[0])
    model.make_predict_function()
    callbacks = _callback_list(model, callbacks, verbose, epochs=1, steps=batches.num_batches)
    callbacks.on_predict_begin()
    model.stop_predicting = False
    outputs = []
    for step, batch in enumerate(batches.distribute(model.distribute_strategy)):
        if steps is not None and step == steps:
            break
        callbacks.on_predict_batch_begin(step)
        outputs.append(model.predict_function([batch]))
        callbacks.on_predict_batch_end(step, {"outputs": outputs[-1]})
        if model.stop_predicting:
            break
    callbacks.on_predict_end()
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0).numpy(), *outputs)


def predict_on_batch(model, x):
    """Predict one batch under the model's strategy; arguments and result as `keras.Model.predict_on_batch`."""
    data = _functions.split_rows(model.distribute_strategy, (x,))
    _step.build(model, x)
    outputs = model.make_predict_function()([data])
    return keras.tree.map_structure(lambda output: output.numpy(), outputs)


def set_monitor_modes(model, callbacks):
    """Give callbacks of mode "auto" the direction that the model, or another callback, knows of what they monitor."""
    callbacks = list(_each_callback(callbacks))
    modes = dict(getattr(model, "monitor_modes", {}))
    for callback in callbacks:
        modes |= getattr(callback, "monitor_modes", {})
    for callback in callbacks:
        if getattr(callback, "mode", None) == "auto" and hasattr(callback, "monitor"):
            callback.mode = modes.get(str(callback.monitor).removeprefix("val_"), "auto")


def _each_callback(callbacks):
    """The callbacks of a list, a `CallbackList`, or one callback, with those that they hold."""
    if isinstance(callbacks, list | tuple):
        for callback in callbacks:
            yield from _each_callback(callback)
    elif callbacks is not None:
        yield callbacks
        yield from _each_callback(getattr(callbacks, "callbacks", None))


def _prepare(model, batches, training):
    """Make the function, after what Keras creates on first use has been created."""
    if (model.train_function if training else model.test_function) is None:
        _step.build_state(model, batches.first_row(model.distribute_strategy))
    model.make_train_function() if training else model.make_test_function()


def _validation_batches(data, batch_size, steps):
    if data is None:
        return None
    if isinstance(data, list | tuple):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(data))
        return Batches(x, y, sample_weight, batch_size=batch_size, steps=steps)
    return Batches(data, steps=steps)


def _callback_list(model, callbacks, verbose, history=False, **parameters):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    verbose = verbose if _functions.is_chief(model.distribute_strategy) else 0
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=history,
        add_progbar=verbose != 0,
        verbose=1 if verbose == "auto" else verbose,
        model=model,
        **parameters,
    )


def _common_seed(strategy):
    """A random seed that all workers share: the chief's."""
    import tensorflow as tf

    seed = tf.round(tf.random.uniform([], maxval=2.0**20))  # float32, since GPUs reduce no int32
    if not _functions.is_multi_worker(strategy):
        return int(seed)
    own = seed if _functions.is_chief(strategy) else tf.zeros_like(seed)
    total = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", own))
    return int(strategy.experimental_local_results(total)[0])


def _refuse_backup(callbacks):
    for callback in keras.tree.flatten(callbacks) if callbacks else []:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "`callbacks` must not hold a BackupAndRestore under a strategy or with sampled class centres: it would "
                "restore the weights but not the epoch. Use ModelCheckpoint and `initial_epoch`, or `fit_resumable`. "
                "Received: a BackupAndRestore"
            )


def _require_compiled(model, method):
    if not model.compiled:
        raise ValueError(f"`compile` must be called before `{method}`. Received: compiled={model.compiled}")


def _is_due(epoch, frequency):
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else (epoch + 1) in frequency


def _in_order(model, logs):
    """The values in the order of Keras's `evaluate`; a single one bare."""
    names = [part.name for metric in model.metrics for part in (getattr(metric, "metrics", None) or [metric])]
    known = [name for name in dict.fromkeys(names) if name in logs]
    values = [logs[name] for name in known + sorted(set(logs) - set(known))]
    return values[0] if len(values) == 1 else values
