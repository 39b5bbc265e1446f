"""Distances of every embedding of a batch to every other: B × B matrices, never B × B × D."""

import keras
from keras import ops

from keras_normface.sphere import normalize


def pairwise_squared_distance(embeddings):
    """Squared Euclidean distance of every pair, `‖x_i‖² + ‖x_j‖² − 2⟨x_i, x_j⟩`.

    Rounding leaves about `1e-7·‖x‖²`, so distances far under the norms are noise; what falls below zero is
    zero, with a gradient of zero. On hardware that multiplies matrices in less than float32 (TF32, bfloat16)
    the noise is larger.

    Args:
        embeddings: Tensor of shape `(B, dim)`; computed in float32 at least.

    Returns:
        Tensor `(B, B)`, at least 0, with a diagonal of exact zeros; NaN in the row and column of a NaN.

    Source: Lifted structure (arXiv 1511.06452), §4.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(pairwise_squared_distance(ops.array([[3.0, 0.0], [0.0, 4.0]]))).tolist()
    [[0.0, 25.0], [25.0, 0.0]]
    """
    x = ops.cast(embeddings, keras.backend.result_type(embeddings.dtype, "float32"))
    norms = ops.sum(ops.square(x), axis=-1, keepdims=True)
    squared = norms + ops.transpose(norms) - 2.0 * ops.matmul(x, ops.transpose(x))
    squared = ops.where(squared <= 0, ops.zeros_like(squared), squared)
    return squared * ops.cast(other_positions(squared), squared.dtype)


def pairwise_distance(embeddings):
    """Euclidean distance of every pair, the root of `pairwise_squared_distance`.

    The root has no derivative at zero; there the gradient is zero, so that duplicates do no harm.

    Args:
        embeddings: Tensor of shape `(B, dim)`; computed in float32 at least.

    Returns:
        Tensor `(B, B)`, at least 0, with a diagonal of exact zeros; NaN in the row and column of a NaN.

    Source: Lifted structure (arXiv 1511.06452), §4.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(pairwise_distance(ops.array([[3.0, 0.0], [0.0, 4.0]]))).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    squared = pairwise_squared_distance(embeddings)
    is_zero = squared <= 0  # not `squared > 0`, which would turn NaN into zero
    root = ops.sqrt(ops.where(is_zero, ops.ones_like(squared), squared))
    return ops.where(is_zero, ops.zeros_like(root), root)


def pairwise_angular_distance(embeddings):
    """Cosine distance of every pair, `1 − cos(x_i, x_j)`: addons' "angular", although it is no angle.

    Args:
        embeddings: Tensor of shape `(B, dim)`; computed in float32 at least.

    Returns:
        Tensor `(B, B)` in [0, 2]. A zero vector has distance 1 to everything, itself included.

    Source: NormFace (arXiv 1704.06369), §4: half the squared distance of the normalised vectors.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(pairwise_angular_distance(ops.array([[2.0, 0.0], [0.0, 3.0]]))).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    x = normalize(ops.cast(embeddings, keras.backend.result_type(embeddings.dtype, "float32")))
    distance = 1.0 - ops.matmul(x, ops.transpose(x))
    return ops.where(distance <= 0, ops.zeros_like(distance), distance)


DISTANCES = {
    "L2": pairwise_distance,
    "squared-L2": pairwise_squared_distance,
    "angular": pairwise_angular_distance,
}
"""What the names of `distance_metric` stand for."""


def resolve_distance(distance_metric):
    """The function that a `distance_metric` argument stands for.

    Args:
        distance_metric: `"L2"`, `"squared-L2"`, `"angular"`, or a callable that takes embeddings `(B, dim)`
            and returns a `(B, B)` tensor, row i holding the distances from i.

    Returns:
        The callable.

    Raises:
        ValueError: If it is neither one of the names nor a callable.

    Example:
    >>> resolve_distance("squared-L2") is pairwise_squared_distance
    True
    """
    if callable(distance_metric):
        return distance_metric
    if not isinstance(distance_metric, str) or distance_metric not in DISTANCES:
        raise ValueError(
            f"`distance_metric` must be one of {sorted(DISTANCES)} or a callable. "
            f"Received: distance_metric={distance_metric!r}"
        )
    return DISTANCES[distance_metric]


def other_positions(matrix):
    """Mask of everything but the diagonal.

    Args:
        matrix: Tensor of shape `(B, B)`; B may be unknown until the graph runs.

    Returns:
        Bool tensor `(B, B)`.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(other_positions(ops.zeros((2, 2)))).tolist()
    [[False, True], [True, False]]
    """
    positions = ops.arange(ops.shape(matrix)[0], dtype="int32")
    return ops.not_equal(ops.expand_dims(positions, 1), ops.expand_dims(positions, 0))
