"""Distances of every embedding of a batch to every other, and which pairs are positive."""

from keras import ops

from keras_normface.losses._base import in_float32_at_least
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
    x = in_float32_at_least(embeddings)
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
    x = normalize(in_float32_at_least(embeddings))
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
    """(B, B) → (B, B) mask of everything but the diagonal; B may be unknown until the graph runs."""
    positions = ops.arange(ops.shape(matrix)[0], dtype="int32")
    return ops.not_equal(ops.expand_dims(positions, 1), ops.expand_dims(positions, 0))


def masked_max(values, mask):
    """(B, N) values, mask → (B, 1) largest chosen entry of each row, or the row's smallest where none is chosen."""
    chosen = ops.where(mask, values, ops.full_like(values, float("-inf")))
    found = ops.any(mask, axis=-1, keepdims=True)
    return ops.where(found, ops.max(chosen, axis=-1, keepdims=True), ops.min(values, axis=-1, keepdims=True))


def masked_min(values, mask):
    """(B, N) values, mask → (B, 1) smallest chosen entry of each row, or the row's largest where none is chosen."""
    return -masked_max(-values, mask)


def count_not_greater(rows, queries):
    """(B, N) ascending rows, (B, M) queries → (B, M) int32 counts of entries ≤ the query, by binary search."""
    rows, queries = ops.stop_gradient(rows), ops.stop_gradient(queries)
    size = ops.cast(ops.shape(rows)[1], "int32")
    low = ops.zeros_like(queries, dtype="int32")

    def halve(width, low, high):
        middle = (low + high) // 2
        is_open = low < high
        entry = _entries(rows, ops.minimum(middle, size - 1))
        goes_right = ops.logical_and(is_open, entry <= queries)
        goes_left = ops.logical_and(is_open, entry > queries)
        return width // 2, ops.where(goes_right, middle + 1, low), ops.where(goes_left, middle, high)

    _, count, _ = ops.while_loop(lambda width, low, high: width > 0, halve, (size, low, low + size))
    return count


def semi_hard_negatives(distances, is_negative):
    """(B, B) distances, mask → (B, B) nearest negative strictly farther than the sample, else the farthest one."""
    # Sorting each row takes O(B² log B) steps and O(B²) memory; each pair against each negative takes O(B³) of both.
    # Source: FaceNet (arXiv 1503.03832), §3.2.
    ascending = ops.sort(ops.where(is_negative, distances, ops.full_like(distances, float("inf"))), axis=-1)
    position = count_not_greater(ascending, distances)
    found = position < ops.sum(ops.cast(is_negative, "int32"), axis=-1, keepdims=True)
    nearest = _entries(ascending, ops.where(found, position, ops.zeros_like(position)))
    return ops.where(found, nearest, masked_max(distances, is_negative))


def _entries(rows, columns):
    """`take_along_axis` over axis 1, which Keras 3.8 cannot compile with XLA for an unknown batch size."""
    count, size = ops.shape(rows)[0], ops.shape(rows)[1]
    starts = ops.expand_dims(ops.arange(count, dtype="int32") * size, 1)
    return ops.take(ops.reshape(rows, (-1,)), columns + starts)
