"""L2-constrained softmax: features on a sphere of radius α before an ordinary dense layer."""

import warnings

import keras

from keras_normface.layers.learnable_scale import LearnableScale
from keras_normface.sphere import EPSILON, normalize, scale_for_probability

USEFUL_PROBABILITY = 0.9


@keras.saving.register_keras_serializable(package="keras_normface")
class L2Constraint(keras.layers.Layer):
    """Project features on the sphere of radius α: `α · x / ‖x‖`. An ordinary `Dense` follows.

    Args:
        alpha: The radius α, first value if it is learnable. Positive; 16 to 32 is sensible.
        learnable: Whether α is trained, with the floor and gradient of `LearnableScale`.
        num_classes: If given, an α below the least useful one for a mean probability of 0.9 gives a warning.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(..., dim)`. Weight: `alpha`, a scalar, if learnable.

    Raises:
        ValueError: If `alpha` is not positive, or `num_classes` under 3.

    Warns:
        UserWarning: If `alpha` lies under the bound for `num_classes`; it names both.

    Source: L2-softmax (arXiv 1703.09507), §3 and α_low.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(L2Constraint(10.0)(ops.array([[3.0, 4.0]]))).round(4).tolist()
    [[6.0, 8.0]]
    """

    def __init__(self, alpha=16.0, learnable=False, num_classes=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", **kwargs)
        if not alpha > 0:
            raise ValueError(f"`alpha` must be positive. Received: alpha={alpha!r}")
        self.alpha = float(alpha)
        self.learnable = bool(learnable)
        self.num_classes = num_classes
        self.scale = None
        if learnable:
            minimum = min(0.01, self.alpha)
            self.scale = LearnableScale(self.alpha, minimum=minimum, dtype=self.dtype_policy, name="alpha")
        if num_classes is not None:
            self._warn_below_bound()

    @classmethod
    def for_classes(cls, num_classes, probability, **kwargs):
        """Take the least useful α for a mean probability of the right class.

        Args:
            num_classes: Number of classes, at least 3.
            probability: The wanted mean probability, above chance and below 1.
            **kwargs: Other arguments of the constructor.

        Returns:
            An `L2Constraint`.

        Raises:
            ValueError: From `scale_for_probability`.

        Source: L2-softmax (arXiv 1703.09507), α_low.

        Example:
        >>> round(L2Constraint.for_classes(13403, 0.9).alpha, 2)
        11.7
        """
        return cls(alpha=scale_for_probability(num_classes, probability, geometry="orthogonal"), **kwargs)

    def _warn_below_bound(self):
        least = scale_for_probability(self.num_classes, USEFUL_PROBABILITY, geometry="orthogonal")
        if self.alpha < least:
            warnings.warn(
                f"alpha={self.alpha:g} lies under {least:.4g}, the least that lets {self.num_classes} classes "
                f"reach a mean probability of {USEFUL_PROBABILITY:g}.",
                stacklevel=3,
            )

    def build(self, input_shape):
        """Create α, if it is learnable."""
        if self.scale is not None:
            self.scale.build(input_shape)

    def call(self, inputs):
        """Return the projected features."""
        unit = normalize(inputs, epsilon=EPSILON)
        return unit * self.alpha if self.scale is None else self.scale(unit)

    def compute_output_shape(self, input_shape):
        """Return `input_shape`."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "learnable": self.learnable,
            "num_classes": self.num_classes,
        }
