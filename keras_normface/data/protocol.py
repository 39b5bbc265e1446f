"""What `fit_resumable` asks of its data."""

from typing import Protocol


class ResumableData(Protocol):
    """Data that can be entered at any step: a callable `data(epoch, step)`.

    It returns a `tf.data.Dataset` of the batches of that epoch from that step on, both counted from 0. Called
    twice with the same numbers it must return the same batches; `data(epoch, 0)` without its first k batches
    must be `data(epoch, k)`. The dataset must know its number of batches, or the callable must have an
    attribute `steps_per_epoch` that tells it.

    With several workers, data that have `share(worker, workers)` and `batch_size` are asked for the rows of one worker:
    `share(w, n)` is such data again, whose batches are the w-th n-th of the rows of each batch.
    """

    def __call__(self, epoch, step):
        """Return the batches of `epoch` from `step` on, a `tf.data.Dataset`."""


def check_position(epoch, step, steps_per_epoch):
    """Refuse a place in the data that there is not.

    Args:
        epoch: Which epoch, from 0.
        step: Which of its batches is the first.
        steps_per_epoch: How many it has. `step` may be equal: then nothing is left.

    Raises:
        ValueError: If `epoch` is negative or `step` is not from 0 to `steps_per_epoch`.

    Example:
    >>> check_position(epoch=3, step=2, steps_per_epoch=10)
    """
    if epoch < 0 or not 0 <= step <= steps_per_epoch:
        raise ValueError(
            f"`epoch` must not be negative and `step` must be from 0 to {steps_per_epoch}. "
            f"Received: epoch={epoch}, step={step}"
        )
