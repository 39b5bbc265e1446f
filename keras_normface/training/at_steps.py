"""Callbacks that act at numbers of training steps, counted over all epochs."""

import keras


class AtSteps(keras.callbacks.Callback):
    """Counts training steps over epochs, from what `fit` and `fit_resumable` tell; a resume changes nothing.

    With several steps in one execution it acts at the first position at or past a step. Subclasses define
    `is_due` and `act`.

    Attributes:
        now: How many steps are trained.
    """

    def __init__(self):
        super().__init__()
        self.now, self._epoch, self._length = 0, 0, None

    def is_due(self, before, now):
        """Whether to act after step `now`, if the step looked at last was `before`; 1 is the first step."""
        raise NotImplementedError

    def act(self, before, now, logs):
        """Do it. `logs` may be added to."""
        raise NotImplementedError

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
        # With several steps in one execution, Keras counts on past the end of the epoch.
        before, self.now = self.now, self._epoch * self._length + min(batch + 1, self._length)
        if self.is_due(before, self.now):
            self.act(before, self.now, {} if logs is None else logs)
