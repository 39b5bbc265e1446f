"""Distillation: how far a pupil's embeddings are from a teacher's, in direction and in their relations."""

import keras
from keras import ops

from keras_normface.losses._base import in_float32_at_least
from keras_normface.losses._pairwise import other_positions
from keras_normface.sphere import normalize


def cosine_distillation(teacher, embeddings):
    """Half the squared distance of the normalised vectors, `1 − cos(t_i, x_i)`, of each sample.

    Args:
        teacher: The teacher's embeddings `(B, dim)`, of any norm.
        embeddings: The pupil's, of the same shape.

    Returns:
        Tensor `(B,)` in [0, 2], float32 at least. A zero vector on either side gives 1; one of the teacher's has no
        gradient.

    Raises:
        ValueError: If the shapes differ.

    Source: Romero et al., "FitNets" (arXiv 1412.6550), Eq. 3, for the regression of a teacher's features; on unit
    vectors its squared distance is this one. Their pupil passes through a regressor first, as a `DistillationHead` of
    another dimension does.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(cosine_distillation(ops.array([[2.0, 0.0]]), ops.array([[0.0, 5.0]]))).tolist()
    [1.0]
    """
    teacher, embeddings = in_float32_at_least(teacher), in_float32_at_least(embeddings)
    _check_rows(teacher, embeddings)
    if teacher.shape[-1] != embeddings.shape[-1]:
        raise ValueError(
            "`teacher` and `embeddings` must have one dimension. "
            f"Received: shapes {tuple(teacher.shape)} and {tuple(embeddings.shape)}"
        )
    return 1.0 - ops.sum(normalize(teacher) * normalize(embeddings), axis=-1)


def relational_distillation(teacher, embeddings):
    """How far each sample's cosines to the others of the batch are from those that the teacher gives.

    `mean over j ≠ i of (cos(x_i, x_j) − cos(t_i, t_j))²`: a pupil that is the teacher turned as a whole has loss 0, and
    the two need not be of one dimension. Under a strategy the others are those of the replica's own share.

    Args:
        teacher: The teacher's embeddings `(B, dim)`, of any norm.
        embeddings: The pupil's, `(B, own dim)`.

    Returns:
        Tensor `(B,)` in [0, 4], float32 at least; 0 for a batch of one. To a zero vector everything has the cosine 0.

    Raises:
        ValueError: If the numbers of rows differ.

    Source: Park et al., "Relational Knowledge Distillation" (arXiv 1904.05068), for relations within a batch; Tung and
    Mori, "Similarity-Preserving Knowledge Distillation" (arXiv 1907.09682), for the mean squared difference of two
    similarity matrices. The former divide distances by their mean, the latter rows by their norm. Neither is done
    here: cosines have a scale of their own, by which embeddings are compared and thresholds set.

    Example:
    >>> from keras import ops
    >>> turned = relational_distillation(ops.array([[1.0, 0.0], [0.0, 1.0]]), ops.array([[0.0, 3.0], [2.0, 0.0]]))
    >>> ops.convert_to_numpy(turned).tolist()
    [0.0, 0.0]
    """
    teacher, embeddings = in_float32_at_least(teacher), in_float32_at_least(embeddings)
    _check_rows(teacher, embeddings)
    dtype = keras.backend.result_type(teacher.dtype, embeddings.dtype)
    squares = ops.square(ops.subtract(_cosines(embeddings), _cosines(teacher)))
    others = ops.cast(other_positions(squares), dtype)
    return ops.sum(squares * others, axis=-1) / ops.maximum(ops.sum(others, axis=-1), 1.0)


def _cosines(x):
    x = normalize(x)
    return ops.matmul(x, ops.transpose(x))


def _check_rows(teacher, embeddings):
    """Refuse what are not two matrices of as many rows; rows may be unknown in a graph."""
    shapes = tuple(teacher.shape), tuple(embeddings.shape)
    rows = {shape[0] for shape in shapes if len(shape) == 2} - {None}
    if {len(shape) for shape in shapes} != {2} or len(rows) > 1:
        raise ValueError(
            "`teacher` and `embeddings` must be matrices with a row for each sample. "
            f"Received: shapes {shapes[0]} and {shapes[1]}"
        )
