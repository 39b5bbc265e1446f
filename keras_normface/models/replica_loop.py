"""The loops over epochs and executions: callbacks around the model's functions, as in Keras."""

import warnings


class Epochs:
    """The iterator of each epoch: a fresh one, or, with a number of steps, one that goes on.

    Args:
        batches: `Batches`.
        strategy: The strategy whose replicas share them.
        steps_per_execution: Batches that a call of the model's function takes.
        steps: Batches an epoch; `None` means all there are.
    """

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
    """Train for some epochs.

    Args:
        model: A compiled, built model with its `train_function` made.
        source: `Epochs`.
        validate: Function from the epoch to the logs of its validation.
        callbacks: A `keras.callbacks.CallbackList`.
        epochs: The epochs' numbers.
    """
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
    logs = {}
    try:
        for first, last, iterator in source.executions():
            callbacks.on_train_batch_begin(first)
            logs = _floats(model.train_function(iterator))
            callbacks.on_train_batch_end(last, logs)
            if model.stop_training:
                break
    except StopIteration:
        source.ran_out()
    return dict(logs)


def evaluate_epoch(model, batches, callbacks, steps):
    """Evaluate once.

    Args:
        model: A compiled, built model with its `test_function` made.
        batches: `Batches`.
        callbacks: A `keras.callbacks.CallbackList`.
        steps: Batches to take; `None` means all there are.

    Returns:
        Dict of the loss and the metrics.
    """
    callbacks.on_test_begin()
    model.stop_evaluating = False
    model.reset_metrics()
    logs, source = {}, Epochs(batches, model.distribute_strategy, model.steps_per_execution, steps)
    try:
        for first, last, iterator in source.executions():
            callbacks.on_test_batch_begin(first)
            logs = _floats(model.test_function(iterator))
            callbacks.on_test_batch_end(last, logs)
            if model.stop_evaluating:
                break
    except StopIteration:
        source.ran_out()
    callbacks.on_test_end(logs)
    return dict(logs)


def _floats(logs):
    """Scalars as Python floats, other results (a score a class) as arrays."""
    return {name: float(v) if v.shape.rank == 0 else v.numpy() for name, v in logs.items()}
