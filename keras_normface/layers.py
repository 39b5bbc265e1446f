"""Layers on the sphere: cosines with class centres, the scale, features of one length; and pixels scaled."""

import math
import warnings

import keras
from keras import ops

from keras_normface import _validation, sphere
from keras_normface.preprocessing import Preprocessing
from keras_normface.sphere import normalize, scale_for_probability

_BLOCK_NUMBERS = 2**25
"""How many numbers are drawn at once."""


@keras.saving.register_keras_serializable(package="keras_normface")
class UnitSphere(keras.initializers.Initializer):
    """Rows drawn from N(0, 1) and scaled to unit length: uniform on the sphere ("gaussian_unitball").

    More than 2^25 numbers are made in blocks of rows: at once, the temporary arrays would take three times the kernel's
    memory beside it.

    Args:
        seed: Integer or `keras.random.SeedGenerator`, as for Keras's own initializers.

    Call shapes: any shape whose last axis is the dimension; returns a tensor of that shape.

    Source: the NormFace authors' Caffe code, filler of the class centres (arXiv 1704.06369).

    Example:
    >>> from keras import ops
    >>> kernel = UnitSphere(seed=0)((5, 3))
    >>> ops.convert_to_numpy(ops.norm(kernel, axis=-1)).round(5).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, seed=None):
        self._normal = keras.initializers.RandomNormal(mean=0.0, stddev=1.0, seed=seed)

    def __call__(self, shape, dtype=None):
        """Return a tensor of `shape` whose rows have unit length."""
        if len(shape) < 1:
            raise ValueError(f"`shape` must have at least one axis. Received: shape={tuple(shape)}")
        dtype = dtype or keras.config.floatx()
        rows = max(1, _BLOCK_NUMBERS // max(1, math.prod(shape[1:])))
        if len(shape) == 1 or shape[0] <= rows:
            return _unit_rows(self._normal(shape, dtype="float32"), dtype)
        parts = [min(rows, shape[0] - first) for first in range(0, shape[0], rows)]
        blocks = [_unit_rows(self._numbers((part, *shape[1:]), number), dtype) for number, part in enumerate(parts)]
        return ops.concatenate(blocks, axis=0)

    def _numbers(self, shape, number):
        """N(0, 1) for one block: an integer seed gives the same numbers each time, so each block has its own."""
        seed = self._normal.seed
        seed = (seed * 1_000_003 + number) % 2**31 if isinstance(seed, int) else seed
        return keras.random.normal(shape, dtype="float32", seed=seed)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"seed": self._normal.get_config()["seed"]}


def _unit_rows(numbers, dtype):
    """float32 rows → unit rows of `dtype`, as exact as it is: drawn in float32, so that a seed means one direction."""
    wide = ops.cast(numbers, keras.backend.result_type(dtype, "float32"))
    return ops.cast(normalize(wide), dtype)


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
        return ops.maximum(w, ops.convert_to_tensor(self.minimum, dtype=w.dtype))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"minimum": self.minimum}


@keras.saving.register_keras_serializable(package="keras_normface")
class CosineDense(keras.layers.Layer):
    """Cosine between each input and each of `units` class centres, `⟨x̃, W̃_j⟩`.

    A class centre is a row of `kernel` (NormFace's agent; elsewhere proxy or prototype).

    The gradient goes through both normalisations, so it is orthogonal to the input and to the centres; it
    can only grow their norms, and weight decay (`kernel_regularizer`) is what holds them.
    The projected variant, which overwrites the stored centres with unit ones after each update, is
    `kernel_constraint=keras.constraints.UnitNorm(axis=1)`.

    Args:
        units: Number of classes. Positive integer.
        normalize_inputs: Whether the inputs are normalised. `False` is the paper's "weights only" row.
        normalize_kernel: Whether the class centres are normalised. `False` is the paper's "features only" row.
        kernel_initializer: Initializer of the kernel; `None` means `UnitSphere()`.
        kernel_regularizer: Regularizer of the kernel.
        kernel_constraint: Constraint of the kernel.
        epsilon: Added to squared norms, so that zero vectors give finite outputs and gradients. Positive.
        dtype: float32 by default, whatever the global policy: half precision would round the cosines.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(..., dim)`. Output shape: `(..., units)`; a mask of the inputs is passed on. Weight: `kernel`,
    `(units, dim)`, a class centre a row.

    Raises:
        ValueError: If `units` is not a positive integer, `epsilon` not positive, or the last axis unknown.

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
        *,
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
        self.supports_masking = True
        self.units = _validation.integer("units", units, 1)
        self.normalize_inputs = bool(normalize_inputs)
        self.normalize_kernel = bool(normalize_kernel)
        initializer = UnitSphere() if kernel_initializer is None else kernel_initializer
        self.kernel_initializer = keras.initializers.get(initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.epsilon = _validation.number("epsilon", epsilon, above=0)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        """Create the kernel for inputs of `input_shape`."""
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
        """Return the cosines of `inputs` with every class centre."""
        return sphere.cosines(
            inputs,
            self.kernel,
            normalize_inputs=self.normalize_inputs,
            normalize_kernel=self.normalize_kernel,
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


@keras.saving.register_keras_serializable(package="keras_normface")
class LearnableScale(keras.layers.Layer):
    """Multiply by one trainable scalar `s`, which never acts below its minimum.

    A constraint projects the stored scalar after each update; below the floor (a weight set by
    hand) the floor acts, while the gradient still reaches the scalar, so it can leave the floor again.

    Args:
        initial_value: First value of the scale, at least `minimum`.
        minimum: The floor. Positive.
        regularizer: Regularizer of the scale; the authors decay it like a weight.
        dtype: float32 by default, whatever the global policy: half precision would round the logits.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: any, the same; a mask is passed on. Weight: `scale`, a scalar.

    Raises:
        ValueError: If `minimum` is not positive, or `initial_value` lies below it.

    Source: NormFace (arXiv 1704.06369), §3.3 and Eq. 6; start and floor from the authors' code.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(LearnableScale(20.0)(ops.array([[0.5, -1.0]]))).tolist()
    [[10.0, -20.0]]
    """

    def __init__(self, initial_value=10.0, *, minimum=0.01, regularizer=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", **kwargs)
        self.supports_masking = True
        self.minimum = _validation.number("minimum", minimum, above=0)
        self.initial_value = _validation.number("initial_value", initial_value, at_least=self.minimum)
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
            initializer=self._initial,
            regularizer=self.regularizer,
            constraint=Minimum(self.minimum),
        )

    def _initial(self, shape, dtype=None):
        # Keras's `Constant` would round the number to float32 on its way to float64.
        return ops.full(shape, self.initial_value, dtype=dtype)

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


_USEFUL_PROBABILITY = 0.9


@keras.saving.register_keras_serializable(package="keras_normface")
class L2Constraint(keras.layers.Layer):
    """Project features on the sphere of radius α: `α · x / ‖x‖`. An ordinary `Dense` follows.

    Args:
        alpha: The radius α, the initial value if it is learnable. Positive; 16 to 32 is sensible.
        learnable: Whether α is trained, with the floor and gradient of `LearnableScale`.
        num_classes: If given, an α below the least useful one for a mean probability of 0.9 gives a warning.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(..., dim)`; a mask is passed on. Weight: `alpha`, a scalar, if learnable.

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

    def __init__(self, alpha=16.0, *, learnable=False, num_classes=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", **kwargs)
        self.supports_masking = True
        self.alpha = _validation.number("alpha", alpha, above=0)
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
        least = scale_for_probability(self.num_classes, _USEFUL_PROBABILITY, geometry="orthogonal")
        if self.alpha < least:
            warnings.warn(
                f"alpha={self.alpha:g} lies under {least:.4g}, the least that lets {self.num_classes} classes "
                f"reach a mean probability of {_USEFUL_PROBABILITY:g}.",
                stacklevel=3,
            )

    def build(self, input_shape):
        """Create α, if it is learnable."""
        if self.scale is not None:
            self.scale.build(input_shape)

    def call(self, inputs):
        """Return the projected features."""
        unit = normalize(inputs, epsilon=sphere.EPSILON)
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


@keras.saving.register_keras_serializable(package="keras_normface")
class PixelScaling(keras.layers.Layer):
    """A `Preprocessing` as a layer, for models that take raw images.

    Args:
        preprocessing: A `Preprocessing`, or its dictionary.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, 3)`, RGB, 0..255. Output shape: `(batch, height, width, channels)`.

    Raises:
        ValueError: If the dictionary does not fit, or the input has another shape.

    Example:
    >>> from keras_normface.preprocessing import Preprocessing
    >>> layer = PixelScaling(Preprocessing(size=(4, 3), channels="GRAY"))
    >>> layer(keras.Input((4, 3, 3), dtype="uint8")).shape
    (None, 4, 3, 1)
    """

    def __init__(self, preprocessing, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", autocast=False, **kwargs)
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing.from_dict(preprocessing)
        self.preprocessing = preprocessing
        self.built = True

    def call(self, inputs):
        """Return the preprocessed images."""
        return ops.cast(self.preprocessing(inputs), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return `(batch, height, width, channels)`."""
        return (input_shape[0], *self.preprocessing.output_shape)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "preprocessing": self.preprocessing.to_dict()}
