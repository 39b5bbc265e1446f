"""Initial values of agents."""

import keras
from keras import ops

from keras_normface.sphere import normalize


@keras.saving.register_keras_serializable(package="keras_normface")
class UnitBall(keras.initializers.Initializer):
    """Rows drawn from N(0, 1) and scaled to unit length: uniform on the sphere ("gaussian_unitball").

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
        return ops.cast(normalize(self._normal(shape, dtype="float32")), dtype or keras.config.floatx())

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"seed": self._normal.get_config()["seed"]}
