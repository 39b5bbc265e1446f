"""What the metric losses share: dtype, label shapes, and what happens to a NaN."""

import math

import keras
from keras import ops

from keras_normface.losses import labels
from keras_normface.losses.metric.distances import other_positions, pairwise_distance


class MetricLoss(keras.losses.Loss):
    """Base of the losses whose samples meet each other inside a batch: one value a sample, in float32.

    Keras hands labels to a loss in the loss's dtype. Ids past 2^24 are not exact in float32, and two of them
    may become one class: renumber them first. Other than that ids are only compared, so any numbers will do.

    Under several replicas each sees its own part of the batch: pairs are mined and counted inside the
    replica, and the result differs from that of one replica with the whole batch.

    Args:
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`. Halves are refused: they would round the class ids.

    Raises:
        ValueError: If `dtype` is another one.
    """

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype or "float32")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'`dtype` must be "float32" or "float64". Received: dtype={dtype!r}')

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dtype": self.dtype}


class EmbeddingLoss(MetricLoss):
    """Base of the losses on class ids and embeddings. A NaN in an anchor's distances makes its loss NaN."""

    def call(self, y_true, y_pred):
        """Return the loss of each sample as anchor.

        Args:
            y_true: Class ids `(B,)` or `(B, 1)`.
            y_pred: Embeddings `(B, dim)`.

        Returns:
            Tensor of shape `(B,)`.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        y_pred = ops.cast(y_pred, self.dtype)
        ids = flat_ids(y_true, y_pred)
        distances = self.distances(y_pred)
        if not _is_square(tuple(distances.shape), y_pred.shape[0]):
            raise ValueError(
                "`distance_metric` must return a tensor of shape (B, B). "
                f"Received: shape={tuple(distances.shape)} for y_pred.shape={tuple(y_pred.shape)}"
            )
        losses = self.loss_of_distances(same_class(ids), distances)
        is_nan = ops.any(ops.isnan(distances), axis=-1)
        return labels.nan_where_invalid(losses, ops.logical_not(is_nan))

    def distances(self, embeddings):
        """Return the distances `(B, B)` of embeddings `(B, dim)`: Euclidean ones."""
        return pairwise_distance(embeddings)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `loss_of_distances`.")


def flat_ids(y_true, y_pred):
    """Class ids of shape `(B,)`, checked against the rows that they belong to.

    Args:
        y_true: Tensor of shape `(B,)` or `(B, 1)`.
        y_pred: Tensor of shape `(B, n)`.

    Returns:
        Tensor `(B,)`, of the dtype of `y_true`.

    Raises:
        ValueError: If the shapes are others.

    Example:
    >>> from keras import ops
    >>> tuple(flat_ids(ops.array([[7], [9]]), ops.zeros((2, 3))).shape)
    (2,)
    """
    ids, rows = tuple(y_true.shape), tuple(y_pred.shape)
    ids_fit = len(ids) == 1 or (len(ids) == 2 and ids[1] in (1, None))
    if len(rows) != 2 or not ids_fit or (None not in (ids[0], rows[0]) and ids[0] != rows[0]):
        raise ValueError(
            "`y_true` must hold class ids of shape (B,) or (B, 1), and `y_pred` have shape (B, n). "
            f"Received: y_true.shape={ids}, y_pred.shape={rows}"
        )
    return ops.reshape(y_true, (-1,))


def same_class(ids):
    """Mask of the pairs of equal class.

    Args:
        ids: Tensor of shape `(B,)`.

    Returns:
        Bool tensor `(B, B)`, true on the diagonal.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(same_class(ops.array([5, 5, 8])))[0].tolist()
    [True, True, False]
    """
    return ops.equal(ops.expand_dims(ids, 1), ops.expand_dims(ids, 0))


def positive_pairs(is_same):
    """Mask of the pairs of equal class without the diagonal, and the factor B ÷ number of such pairs.

    With that factor on its sum over positives, the mean over anchors is the mean over pairs.

    Args:
        is_same: Bool tensor of shape `(B, B)`.

    Returns:
        `(mask, factor)`: bool `(B, B)` and a float32 scalar. Without positive pairs the factor is B.

    Example:
    >>> from keras import ops
    >>> mask, factor = positive_pairs(same_class(ops.array([5, 5, 8])))
    >>> ops.convert_to_numpy(mask)[0].tolist(), float(factor)
    ([False, True, False], 1.5)
    """
    mask = ops.logical_and(is_same, other_positions(is_same))
    pairs = ops.maximum(ops.sum(ops.cast(mask, "int32")), 1)
    return mask, ops.cast(ops.shape(is_same)[0], "float32") / ops.cast(pairs, "float32")


def finite(argument, number):
    """`number` as a float.

    Args:
        argument: Name of the argument, for the message.
        number: The number.

    Returns:
        The float.

    Raises:
        ValueError: If it is NaN or infinite.

    Example:
    >>> finite("margin", 1)
    1.0
    """
    if not math.isfinite(number):
        raise ValueError(f"`{argument}` must be a finite number. Received: {argument}={number!r}")
    return float(number)


def _is_square(shape, batch_size):
    return len(shape) == 2 and all(None in (n, batch_size) or n == batch_size for n in shape)
