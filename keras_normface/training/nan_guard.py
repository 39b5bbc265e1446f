"""Stop a training that has gone wrong before it goes on for days."""

import math

import keras
from keras import ops

from keras_normface.training import model_state


class NanGuard(keras.callbacks.Callback):
    """Stop training at the first loss, weight or optimizer variable that is not finite, and say which.

    The loss is looked at after every step. A gradient that is not finite shows in the weight that it has
    changed, or in the optimizer's variable (a mixed-precision loss scale skips such gradients, rightly). It
    raises before anything is saved, so the last checkpoint is one of before.

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

    def __init__(self, every_steps=1):
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"`every_steps` must be at least 1. Received: every_steps={every_steps}")
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
        self._stop_at(broken)

    def on_epoch_end(self, epoch, logs=None):
        """Look at the variables once more: the next step may never come."""
        variable = self._first_broken_variable()
        self._stop_at([] if variable is None else [f"`{variable}`"])

    def _stop_at(self, broken):
        if broken:
            raise FloatingPointError(
                f"Not finite after step {self._step} of epoch {self._epoch}: {', '.join(broken)}. "
                "No checkpoint has it; lower the learning rate or clip the gradients, and check the input."
            )

    def _first_broken_variable(self):
        if self._watched is None:
            state = model_state.state_variables(self.model)
            floats = [v for g in ("model", "optimizer") for v in state[g] if "float" in str(v.dtype)]
            self._watched, self._flags = floats, _compiled(lambda: _finite_flags(floats))
        flags = ops.convert_to_numpy(self._flags())
        return None if flags.all() else self._watched[int(flags.argmin())].path


def _finite_flags(variables):
    return ops.stack([ops.all(ops.isfinite(variable)) for variable in variables])


def _compiled(function):
    """One call into TensorFlow for all variables, in place of two for each."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)
