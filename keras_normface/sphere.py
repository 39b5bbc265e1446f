"""Geometry of the unit hypersphere: normalisation, cosines, squared distances and the bounds of the papers.

Every distance in this package is the SQUARED Euclidean one. Nothing here has state.
"""

import math

import keras
from keras import ops

from keras_normface import _validation

EPSILON = 1e-12
"""Added to the squared norm before its root, so that a zero vector has a finite image and gradient."""


def normalize(x, *, epsilon=EPSILON):
    """Project vectors on the unit sphere, `x / sqrt(Σ x² + ε)`.

    The gradient is `(g - x̃⟨g, x̃⟩) / ‖x‖`, orthogonal to `x`: this Jacobian is part of the method.

    Args:
        x: Tensor of shape `(..., dim)`.
        epsilon: Added to the squared norm.

    Returns:
        Tensor of the shape and dtype of `x`; norms are taken in float32 at least. A zero vector stays zero.

    Source: NormFace (arXiv 1704.06369), §3.2.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(normalize(ops.array([[3.0, 4.0]]))).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    x = ops.convert_to_tensor(x)
    exact = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    inverse_norm = ops.rsqrt(ops.sum(ops.square(exact), axis=-1, keepdims=True) + epsilon)
    return ops.cast(exact * inverse_norm, x.dtype)


def cosines(x, kernel, *, normalize_inputs=True, normalize_kernel=True, epsilon=EPSILON):
    """Cosine between every vector and every class centre, `⟨x̃, W̃_j⟩`.

    Args:
        x: Tensor of shape `(..., dim)`.
        kernel: Tensor of shape `(num_classes, dim)`, one class centre a row.
        normalize_inputs: Whether to normalise `x`; without it the result is `‖x‖·cos`.
        normalize_kernel: Whether to normalise the class centres.
        epsilon: See `normalize`.

    Returns:
        Tensor of shape `(..., num_classes)`.

    Source: NormFace (arXiv 1704.06369), Eq. 6.

    Example:
    >>> from keras import ops
    >>> c = cosines(ops.array([[2.0, 0.0]]), ops.array([[1.0, 0.0], [0.0, 5.0], [-3.0, 0.0]]))
    >>> ops.convert_to_numpy(c).round(4).tolist()
    [[1.0, 0.0, -1.0]]
    """
    x = normalize(x, epsilon=epsilon) if normalize_inputs else ops.convert_to_tensor(x)
    kernel = normalize(kernel, epsilon=epsilon) if normalize_kernel else kernel
    return ops.matmul(x, ops.transpose(kernel))


def squared_distance(cosine):
    """Squared Euclidean distance of two unit vectors, `‖a − b‖² = 2 − 2 cos`.

    Args:
        cosine: Tensor or number in [-1, 1].

    Returns:
        The distance, in [0, 4], with the shape of `cosine`.

    Source: NormFace (arXiv 1704.06369), §4.

    Example:
    >>> squared_distance(0.5)
    1.0
    """
    return 2.0 - 2.0 * cosine


def softmax_loss_lower_bound(num_classes, scale):
    """Least mean softmax loss that unit vectors can reach, `log(1 + (n−1)·exp(−s·n/(n−1)))`.

    It bounds the mean over class-balanced samples; a single sample can lie under it. Equality needs all
    class centres equally far from each other, so at most `dim + 1` classes.

    Args:
        num_classes: Number of classes n, at least 1.
        scale: The factor s on the cosines; the paper's ℓ² for vectors of norm ℓ. Not negative.

    Returns:
        The bound in nats, a float.

    Raises:
        ValueError: If an argument is out of its range.

    Source: NormFace (arXiv 1704.06369), Proposition 2.

    Example:
    >>> round(softmax_loss_lower_bound(10575, 1.0), 3), round(softmax_loss_lower_bound(10575, 10.0), 3)
    (8.266, 0.392)
    """
    _check_num_classes(num_classes, least=1)
    if not scale >= 0:
        raise ValueError(f"`scale` must be a number of at least 0. Received: scale={scale}")
    if num_classes == 1:
        return 0.0
    others = num_classes - 1
    return math.log1p(others * math.exp(-scale * num_classes / others))


def scale_for_probability(num_classes, probability, *, geometry="simplex"):
    """Smallest scale at which the mean probability of the right class can reach `probability`.

    Args:
        num_classes: Number of classes n; at least 2 for `"simplex"`, at least 3 for `"orthogonal"`.
        probability: The mean probability p to reach, above chance (1/n) and below 1.
        geometry: How the class centres lie at best. `"simplex"`: all equally far from each other, NormFace's
            equality case, `(n−1)/n · log(p(n−1)/(1−p))`. `"orthogonal"`: one centre opposite, the others
            orthogonal, L2-softmax's bound, `log(p(n−2)/(1−p))`.

    Returns:
        The scale, a float.

    Raises:
        ValueError: If an argument is out of its range, or the probability is reached at any scale.

    Source: NormFace (arXiv 1704.06369), Proposition 2, solved for ℓ²; L2-softmax (arXiv 1703.09507), α_low.

    Example:
    >>> round(scale_for_probability(10572, 0.9, geometry="orthogonal"), 2)
    11.46
    """
    if geometry not in ("simplex", "orthogonal"):
        raise ValueError(f'`geometry` must be "simplex" or "orthogonal". Received: geometry={geometry!r}')
    _check_num_classes(num_classes, least=2 if geometry == "simplex" else 3)
    others = num_classes - 1 if geometry == "simplex" else num_classes - 2
    chance = 1.0 / (1 + others)
    if not chance < probability < 1.0:
        raise ValueError(
            f"`probability` must lie between {chance:.6g}, which scale 0 reaches, and 1, exclusive. "
            f"Received: probability={probability}"
        )
    log_odds = math.log(probability * others / (1.0 - probability))
    return log_odds * others / num_classes if geometry == "simplex" else log_odds


def _check_num_classes(num_classes, *, least):
    _validation.integer("num_classes", num_classes, least)
