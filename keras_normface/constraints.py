"""Projections that the optimizer applies after each update."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_normface")
class Minimum(keras.constraints.Constraint):
    """Clamp a weight from below, `max(w, minimum)`, after each update.

    The clamp acts on the stored weight and not on its use, so the gradient stays alive at the floor and
    the weight can leave it again.

    Args:
        minimum: The least value that the weight may take.

    Source: the NormFace authors' Caffe code, floor of the scale (arXiv 1704.06369).

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(Minimum(0.5)(ops.array([-1.0, 2.0]))).tolist()
    [0.5, 2.0]
    """

    def __init__(self, minimum):
        self.minimum = float(minimum)

    def __call__(self, w):
        """Return the projected weight."""
        return ops.maximum(w, ops.cast(self.minimum, w.dtype))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"minimum": self.minimum}
