"""Which samples are in which batch: plans that follow from a seed and can be entered at any step."""

import numpy as np

from keras_normface import _validation

ROWS_IN_FINGERPRINT = 1024


def check_position(epoch, step, steps_per_epoch):
    """Refuse a place in the data that there is not."""
    if epoch < 0 or not 0 <= step <= steps_per_epoch:
        raise ValueError(
            f"`epoch` must not be negative and `step` must be from 0 to {steps_per_epoch}. "
            f"Received: epoch={epoch}, step={step}"
        )


class ShuffledBatches:
    """Each sample once an epoch, in a new order each epoch."""

    def __init__(self, samples, batch_size, seed, drop_remainder):
        _validation.integer("batch_size", batch_size, 1, samples)
        self.samples, self.batch_size, self.seed, self.drop_remainder = samples, batch_size, seed, drop_remainder

    @property
    def steps_per_epoch(self):
        """Number of batches in an epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return full + (1 if rest and not self.drop_remainder else 0)

    def of_epoch(self, epoch):
        """Return the function from a step of that epoch to the numbers of its samples."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        order = order.astype("int32") if self.samples < 2**31 else order
        return lambda step: order[step * self.batch_size : (step + 1) * self.batch_size]


class IdentityBatches:
    """Batches of P identities with K samples each, drawn for each batch anew."""

    drop_remainder = True

    def __init__(self, labels, batch_size, images_per_identity, seed):
        identities = int(labels.max()) + 1
        if images_per_identity < 1 or batch_size % images_per_identity:
            raise ValueError(
                "`images_per_identity` must divide the batch size. "
                f"Received: images_per_identity={images_per_identity}, batch_size={batch_size}"
            )
        self.identities_per_batch = batch_size // images_per_identity
        if not 1 <= self.identities_per_batch <= identities:
            raise ValueError(
                f"A batch must hold from 1 to {identities} identities, as many as there are. Received: "
                f"batch_size={batch_size}, images_per_identity={images_per_identity}"
            )
        self.images_per_identity, self.seed, self.identities = images_per_identity, seed, identities
        self.steps_per_epoch = max(len(labels) // batch_size, 1)
        small = "int32" if len(labels) < 2**31 else "int64"
        self._by_identity = np.argsort(labels, kind="stable").astype(small)
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=identities))])

    def of_epoch(self, epoch):
        """Return the function from a step of that epoch to the numbers of its samples."""

        def batch(step):
            rng = np.random.default_rng([self.seed, epoch, step])
            chosen = rng.choice(self.identities, self.identities_per_batch, replace=False)
            return np.concatenate([self._images_of(identity, rng) for identity in chosen])

        return batch

    def _images_of(self, identity, rng):
        own = self._by_identity[self._starts[identity] : self._starts[identity + 1]]
        missing = self.images_per_identity - len(own)
        if missing > 0:
            return np.concatenate([own, rng.choice(own, missing)])
        return rng.choice(own, self.images_per_identity, replace=False)


def evenly(count):
    """Up to 1024 numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS_IN_FINGERPRINT)).astype("int64"))
