"""Which samples stand in which batch: pure functions of seed, epoch and step."""

import numpy as np


class ShuffledBatches:
    """Each sample once an epoch, in a new order each epoch.

    Args:
        samples: How many there are.
        batch_size: Samples in a batch.
        seed: Non-negative integer.
        drop_remainder: Whether a last batch that is not full is left out.

    Raises:
        ValueError: If there are not enough samples for a batch.

    Example:
    >>> plan = ShuffledBatches(5, 2, seed=0, drop_remainder=False)
    >>> batches = [plan.of_epoch(3)(step) for step in range(plan.steps_per_epoch)]
    >>> sorted(int(index) for batch in batches for index in batch)
    [0, 1, 2, 3, 4]
    """

    def __init__(self, samples, batch_size, seed, drop_remainder):
        if not 1 <= batch_size <= samples:
            raise ValueError(
                f"`batch_size` must be from 1 to the number of samples, {samples}. Received: batch_size={batch_size}"
            )
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
    """Batches of P identities with K samples each, drawn for each batch anew.

    Args:
        labels: int32 `(samples,)`, all from 0 to the largest present.
        batch_size: P·K.
        images_per_identity: K, at least 1. An identity with fewer samples repeats some.
        seed: Non-negative integer.

    Raises:
        ValueError: If K does not divide the batch size, or there are fewer than P identities.

    Example:
    >>> plan = IdentityBatches(np.array([0, 0, 0, 1, 1, 2]), 4, 2, seed=0)
    >>> len(set(np.array([0, 0, 0, 1, 1, 2])[plan.of_epoch(0)(0)].tolist()))
    2
    """

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
