"""One training over many calls of `fit`, one an epoch."""

import keras
import numpy as np

from keras_normface.models.replica_functions import is_chief, same_everywhere
from keras_normface.training import model_state


class EpochByEpoch(keras.callbacks.Callback):
    """Stands between `fit` and the user's callbacks: counts steps, saves, makes many `fit`s look like one.

    `fit` puts averaged weights (`use_ema`) in place when it ends; within `with run:` this waits for the end
    of the whole training, because weights changed at every epoch would be another training.

    Args:
        model: A built and compiled model; it is given the latest saved state.
        checkpoints: A `Checkpoints`.
        save_every: Steps between checkpoints.
        callbacks: The user's.

    Attributes:
        epoch: The epoch that is next or under way, from 0.
        step: Its next step.
        steps_left: How many steps of it are left to train; `prepare` sets it.
        stopped: Whether a callback has stopped the training.
        history: A `keras.callbacks.History` of all epochs.
    """

    def __init__(self, model, checkpoints, save_every, callbacks):
        super().__init__()
        self.checkpoints, self.save_every, self.callbacks = checkpoints, save_every, list(callbacks or ())
        self.epoch, self.step, self.steps_left, self.stopped = 0, 0, 0, False
        self._steps_not_wanted, self._metrics = 0, None
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
        saved.restore(self.model)
        self.epoch, self.step, self.stopped = saved.epoch, saved.step, saved.extra["stopped"]
        for epoch, logs in saved.extra["history"]:
            self._record(epoch, logs)

    def _require_one_position(self, strategy):
        """Workers that went on from different places would wait for each other for ever."""
        if not same_everywhere(strategy, [self.epoch, self.step]):
            raise ValueError(
                "`directory` must be on a disk that all workers share: they found different checkpoints. "
                f"Received: directory={self.checkpoints.directory}, here at epoch {self.epoch}, step {self.step}"
            )

    def prepare(self, left, wanted=None):
        """Say what the next `fit` trains.

        Args:
            left: How many steps of the epoch there are still.
            wanted: How many at most are to be trained, or `None`. If that is fewer, the position stays in the
                middle of the epoch, from where another call may go on.
        """
        self.steps_left = left if wanted is None else min(left, wanted)
        self._steps_not_wanted = left - self.steps_left

    def set_params(self, params):
        """Tell the callbacks; those hear of the steps of the whole epoch."""
        super().set_params(params)
        steps = self.step + self.steps_left + self._steps_not_wanted
        self._tell("set_params", {**params, "steps": steps})

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
        """Save when it is time.

        Here and not at the end of the step before, so that there are always steps left to go on with.
        """
        if self.step > self._first_step and self._is_time_to_save():
            self._save()
        self._tell("on_train_batch_begin", self.step, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Count."""
        steps = min(self.model.steps_per_execution, self.steps_left)
        self.step, self.steps_left = self.step + steps, self.steps_left - steps
        self._tell("on_train_batch_end", self.step - 1, logs)
        if self._steps_not_wanted and not self.steps_left:
            self._metrics = model_state.read_state(self.model, ("metrics",))  # before a validation resets them

    def on_epoch_end(self, epoch, logs=None):
        """Save, after the callbacks have had their say, and end this `fit`."""
        logs = {} if logs is None else logs
        self._tell("on_epoch_end", epoch, logs)
        self._record(epoch, logs)
        self.stopped = self.model.stop_training
        if self._metrics is None:
            self.epoch, self.step = epoch + 1, 0
        else:
            model_state.restore_state(self.model, ("metrics",), *self._metrics)
        # A callback may have stopped it in the middle; that is no state to go on from.
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
        """Drop the logs of an epoch that ended in its middle and now goes on."""
        logs = [entry for entry in self._logs_of_epochs if entry[0] != epoch]
        self._begin_history()
        for entry in logs:
            self._record(*entry)

    def _is_time_to_save(self):
        # With several steps in one execution, the first position at or past the multiple.
        return self.step % self.save_every < self.model.steps_per_execution

    def _save(self):
        extra = {"stopped": self.stopped, "history": self._logs_of_epochs}
        self.checkpoints.save(
            self.model,
            self.epoch,
            self.step,
            extra=extra,
            metrics=self.step > 0,
            write=is_chief(self.model.distribute_strategy),
        )


def _plain(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()
