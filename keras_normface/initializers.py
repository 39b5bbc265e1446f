"""Initial values of agents."""

import math

import keras
from keras import ops

from keras_normface.sphere import normalize

BLOCK_NUMBERS = 2**25
"""How many numbers are drawn at once."""


@keras.saving.register_keras_serializable(package="keras_normface")
class UnitBall(keras.initializers.Initializer):
    """Rows drawn from N(0, 1) and scaled to unit length: uniform on the sphere ("gaussian_unitball").

    More than 2^25 numbers are made in blocks of rows: at once, the temporary arrays would take three times the agents'
    memory beside them.

    Args:
        seed: Integer or `keras.random.SeedGenerator`, as for Keras's own initializers.

    Call shapes: any shape whose last axis is the dimension; returns a tensor of that shape.

    Source: the NormFace authors' Caffe code, filler of the agents (arXiv 1704.06369).

    Example:
    >>> from keras import ops
    >>> agents = UnitBall(seed=0)((5, 3))
    >>> ops.convert_to_numpy(ops.norm(agents, axis=-1)).round(5).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, seed=None):
        self._normal = keras.initializers.RandomNormal(mean=0.0, stddev=1.0, seed=seed)

    def __call__(self, shape, dtype=None):
        """Return a tensor of `shape` whose rows have unit length."""
        if len(shape) < 1:
            raise ValueError(f"`shape` must have at least one axis. Received: shape={tuple(shape)}")
        dtype = dtype or keras.config.floatx()
        rows = max(1, BLOCK_NUMBERS // max(1, math.prod(shape[1:])))
        if len(shape) == 1 or shape[0] <= rows:
            return ops.cast(normalize(self._normal(shape, dtype="float32")), dtype)
        parts = [min(rows, shape[0] - first) for first in range(0, shape[0], rows)]
        blocks = [
            ops.cast(normalize(self._numbers((part, *shape[1:]), number)), dtype) for number, part in enumerate(parts)
        ]
        return ops.concatenate(blocks, axis=0)

    def _numbers(self, shape, number):
        """N(0, 1) for one block: an integer seed gives the same numbers each time, so each block has its own."""
        seed = self._normal.seed
        seed = (seed * 1_000_003 + number) % 2**31 if isinstance(seed, int) else seed
        return keras.random.normal(shape, dtype="float32", seed=seed)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"seed": self._normal.get_config()["seed"]}
