"""The cosine layer: agents on the sphere."""

import keras

from keras_normface import sphere
from keras_normface.initializers import UnitBall


@keras.saving.register_keras_serializable(package="keras_normface")
class CosineDense(keras.layers.Layer):
    """Cosine between each input and each of `units` agents, `⟨x̃, W̃_j⟩`.

    The gradient goes through both normalisations, so it is orthogonal to the input and to the agents; it
    can only grow their norms, and weight decay (`kernel_regularizer`) is what holds them.
    The projected variant, which overwrites the stored agents with unit ones after each update, is
    `kernel_constraint=keras.constraints.UnitNorm(axis=1)`.

    Args:
        units: Number of agents, one a class. Positive integer.
        normalize_inputs: Whether the inputs are normalised. `False` is the paper's "weights only" row.
        normalize_kernel: Whether the agents are normalised. `False` is the paper's "features only" row.
        kernel_initializer: Initializer of the agents; `None` means `UnitBall()`.
        kernel_regularizer: Regularizer of the agents.
        kernel_constraint: Constraint of the agents.
        epsilon: Added to squared norms, so that zero vectors give finite outputs and gradients. Positive.
        dtype: float32 by default, whatever the global policy: half precision would round the cosines.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(..., dim)`. Output shape: `(..., units)`. Weight: `kernel`, `(units, dim)`, agents as rows.

    Raises:
        ValueError: If `units` is no positive integer, `epsilon` not positive, or the last axis unknown.

    Source: NormFace (arXiv 1704.06369), Eq. 6 and §3.2.

    Example:
    >>> import keras
    >>> cosines = CosineDense(10)(keras.ops.ones((2, 64)))
    >>> cosines.shape[0], cosines.shape[1]
    (2, 10)
    """

    def __init__(
        self,
        units,
        normalize_inputs=True,
        normalize_kernel=True,
        kernel_initializer=None,
        kernel_regularizer=None,
        kernel_constraint=None,
        epsilon=sphere.EPSILON,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype or "float32", **kwargs)
        if not isinstance(units, int) or isinstance(units, bool) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon!r}")
        self.units = units
        self.normalize_inputs = bool(normalize_inputs)
        self.normalize_kernel = bool(normalize_kernel)
        initializer = UnitBall() if kernel_initializer is None else kernel_initializer
        self.kernel_initializer = keras.initializers.get(initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.epsilon = float(epsilon)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        """Create the agents for inputs of `input_shape`."""
        dim = input_shape[-1]
        if dim is None:
            raise ValueError(
                "The last axis of the inputs of `CosineDense` must be known when it is built. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.units, dim),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: dim})

    def call(self, inputs):
        """Return the cosines of `inputs` with every agent."""
        return sphere.cosines(
            inputs,
            self.kernel,
            normalize_inputs=self.normalize_inputs,
            normalize_agents=self.normalize_kernel,
            epsilon=self.epsilon,
        )

    def compute_output_shape(self, input_shape):
        """Return `input_shape` with its last axis replaced by `units`."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "normalize_inputs": self.normalize_inputs,
            "normalize_kernel": self.normalize_kernel,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "epsilon": self.epsilon,
        }
