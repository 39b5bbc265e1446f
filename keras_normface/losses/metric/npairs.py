"""N-pairs losses on a similarity matrix."""

import keras
from keras import ops

from keras_normface.losses import labels
from keras_normface.losses.metric.base import MetricLoss, flat_ids, same_class


class SimilarityLoss(MetricLoss):
    """Base of the losses on a similarity matrix: cross-entropy of each row with its matches."""

    def cross_entropy(self, matches, similarities):
        """Return the cross-entropy of each row of similarities with its matches, shared out to sum to 1.

        Args:
            matches: How well the column fits the row, `(B, B)`, not negative.
            similarities: Logits `(B, B)`.

        Returns:
            Tensor of shape `(B,)`, 0 for a row without matches.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        shape = tuple(similarities.shape)
        if len(shape) != 2 or (None not in shape and shape[0] != shape[1]):
            raise ValueError(
                "`y_pred` must be a similarity matrix of shape (B, B), as of matmul(a, transpose(b)). "
                f"Received: y_pred.shape={shape}"
            )
        similarities = ops.cast(similarities, self.dtype)
        matches = ops.cast(matches, self.dtype)
        total = ops.sum(matches, axis=-1, keepdims=True)
        targets = matches / ops.where(ops.equal(total, 0), ops.ones_like(total), total)
        losses = ops.categorical_crossentropy(targets, similarities, from_logits=True)
        is_nan = ops.any(ops.isnan(similarities), axis=-1)
        # TensorFlow's gradient of the cross-entropy presumes targets that sum to 1, hence the mask.
        losses = ops.where(ops.equal(total[:, 0], 0), ops.zeros_like(losses), losses)
        return labels.nan_where_invalid(losses, ops.logical_not(is_nan))


@keras.saving.register_keras_serializable(package="keras_normface")
class NpairsLoss(SimilarityLoss):
    """N-pairs loss: each row of a similarity matrix is the logits of "which column is of my class?".

    Cross-entropy of `softmax(y_pred[i])` with a target spread evenly over the columns of i's class, i itself
    included. The paper's regularisation of the norms is left to the model, as in tensorflow-addons.

    Args:
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`; `y_pred` similarities `(B, B)`, row i of anchor i.

    Raises:
        ValueError: If the shapes are others.

    Source: Sohn, Improved deep metric learning with multi-class N-pair loss objective, NIPS 2016, Eq. 5.

    Example:
    >>> import numpy as np
    >>> loss = NpairsLoss()
    >>> round(float(loss(np.array([3, 4]), np.zeros((2, 2)))), 4)  # log 2
    0.6931
    """

    def __init__(self, name="npairs_loss", reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each row, `(B,)`; see the class for the shapes."""
        return self.cross_entropy(same_class(flat_ids(y_true, y_pred)), y_pred)


@keras.saving.register_keras_serializable(package="keras_normface")
class NpairsMultilabelLoss(SimilarityLoss):
    """N-pairs loss of samples with several labels: a column counts by the labels that it shares with the row.

    Cross-entropy of `softmax(y_pred[i])` with `|labels_i ∩ labels_j|`, divided by its sum over j. A sample
    without labels has loss 0 (addons: the whole batch is NaN).

    Args:
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` zeros and ones `(B, num_classes)`, dense; `y_pred` similarities `(B, B)`.

    Raises:
        ValueError: If the shapes are others, or `y_true` is sparse.

    Source: Sohn, Improved deep metric learning with multi-class N-pair loss objective, NIPS 2016, Eq. 5; the
    weights by shared labels are tensorflow-addons'.

    Example:
    >>> import numpy as np
    >>> loss = NpairsMultilabelLoss()
    >>> round(float(loss(np.array([[1, 1, 0], [0, 1, 0]]), np.zeros((2, 2)))), 4)  # log 2
    0.6931
    """

    def __init__(self, name="npairs_multilabel_loss", reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Return the reduced loss; sparse labels are refused before Keras converts them."""
        _refuse_sparse(y_true)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        """Return the loss of each row, `(B,)`; see the class for the shapes."""
        _refuse_sparse(y_true)
        shape, rows = tuple(y_true.shape), y_pred.shape[0]
        if len(shape) != 2 or (None not in (shape[0], rows) and shape[0] != rows):
            raise ValueError(
                "`y_true` must have shape (B, num_classes) to go with `y_pred` of shape (B, B). "
                f"Received: y_true.shape={shape}, y_pred.shape={tuple(y_pred.shape)}"
            )
        y_true = ops.cast(y_true, self.dtype)
        return self.cross_entropy(ops.matmul(y_true, ops.transpose(y_true)), y_pred)


def _refuse_sparse(y_true):
    """TensorFlow's and JAX's sparse tensors, told by their own attributes: neither is imported here."""
    if hasattr(y_true, "dense_shape") or hasattr(y_true, "todense"):
        raise ValueError(
            "`y_true` must be a dense tensor (`tf.sparse.to_dense` makes one). "
            f"Received: y_true of type {type(y_true).__name__}"
        )
