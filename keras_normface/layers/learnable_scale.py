"""The learnable scale between cosines and softmax."""

import keras
from keras import ops

from keras_normface.constraints import Minimum
from keras_normface.sphere import scale_for_probability


@keras.saving.register_keras_serializable(package="keras_normface")
class LearnableScale(keras.layers.Layer):
    """Multiply by one trainable scalar `s`, which never acts below its minimum.

    A constraint projects the stored scalar after each update; below the floor (a weight that was set by
    hand) the floor acts, while the gradient still reaches the scalar, so it can leave the floor again.

    Args:
        initial_value: First value of the scale, at least `minimum`.
        minimum: The floor. Positive.
        regularizer: Regularizer of the scale; the authors decay it like a weight.
        dtype: float32 by default, whatever the global policy: half precision would round the logits.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: any, the same. Weight: `scale`, a scalar.

    Raises:
        ValueError: If `minimum` is not positive, or `initial_value` lies below it.

    Source: NormFace (arXiv 1704.06369), §3.3 and Eq. 6; start and floor from the authors' code.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(LearnableScale(20.0)(ops.array([[0.5, -1.0]]))).tolist()
    [[10.0, -20.0]]
    """

    def __init__(self, initial_value=10.0, minimum=0.01, regularizer=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", **kwargs)
        if not minimum > 0:
            raise ValueError(f"`minimum` must be positive. Received: minimum={minimum!r}")
        if not initial_value >= minimum:
            raise ValueError(
                f"`initial_value` must be at least `minimum`, which is {minimum}. "
                f"Received: initial_value={initial_value!r}"
            )
        self.initial_value = float(initial_value)
        self.minimum = float(minimum)
        self.regularizer = keras.regularizers.get(regularizer)

    @classmethod
    def for_classes(cls, num_classes, probability, **kwargs):
        """Start at the smallest scale that lets the mean probability reach `probability`.

        Args:
            num_classes: Number of classes, at least 2.
            probability: The wanted mean probability of the right class, above chance and below 1.
            **kwargs: Other arguments of the constructor.

        Returns:
            A `LearnableScale`.

        Raises:
            ValueError: From `scale_for_probability`.

        Source: NormFace (arXiv 1704.06369), Proposition 2.

        Example:
        >>> round(LearnableScale.for_classes(10575, 0.9).initial_value, 2)
        11.46
        """
        return cls(initial_value=scale_for_probability(num_classes, probability), **kwargs)

    def build(self, input_shape):
        """Create the scalar."""
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=keras.initializers.Constant(self.initial_value),
            regularizer=self.regularizer,
            constraint=Minimum(self.minimum),
        )

    @property
    def value(self):
        """The scale that acts: the stored scalar, or the floor where that is lower (a scalar tensor)."""
        stored = ops.convert_to_tensor(self.scale)
        return stored + ops.stop_gradient(ops.relu(self.minimum - stored))

    def call(self, inputs):
        """Return `inputs` times the scale."""
        return inputs * ops.cast(self.value, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Return `input_shape`."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "initial_value": self.initial_value,
            "minimum": self.minimum,
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }
