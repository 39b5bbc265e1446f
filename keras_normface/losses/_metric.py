"""Metric losses on the pairs inside a batch, under tensorflow-addons' names."""

import math

import keras
from keras import ops

from keras_normface import _labels
from keras_normface.losses._base import CheckedLoss
from keras_normface.losses._pairwise import other_positions, pairwise_distance


class MetricLoss(CheckedLoss):
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
        y_true, y_pred = self.tensors(y_true, y_pred)
        ids = flat_ids(y_true, y_pred)
        distances = self.distances(y_pred)
        if not _is_square(tuple(distances.shape), y_pred.shape[0]):
            raise ValueError(
                "`distance_metric` must return a tensor of shape (B, B). "
                f"Received: shape={tuple(distances.shape)} for y_pred.shape={tuple(y_pred.shape)}"
            )
        losses = self.loss_of_distances(same_class(ids), distances)
        is_nan = ops.any(ops.isnan(distances), axis=-1)
        return _labels.nan_where_invalid(losses, ops.logical_not(is_nan))

    def distances(self, embeddings):
        """Return the distances `(B, B)` of embeddings `(B, dim)`: Euclidean ones."""
        return pairwise_distance(embeddings)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `loss_of_distances`.")


def flat_ids(y_true, y_pred):
    """(B,) or (B, 1) class ids, with (B, n) rows → (B,) ids of the same dtype; refuses other shapes."""
    ids, rows = tuple(y_true.shape), tuple(y_pred.shape)
    ids_fit = len(ids) == 1 or (len(ids) == 2 and ids[1] in (1, None))
    if len(rows) != 2 or not ids_fit or (None not in (ids[0], rows[0]) and ids[0] != rows[0]):
        raise ValueError(
            "`y_true` must hold class ids of shape (B,) or (B, 1), and `y_pred` have shape (B, n). "
            f"Received: y_true.shape={ids}, y_pred.shape={rows}"
        )
    return ops.reshape(y_true, (-1,))


def same_class(ids):
    """(B,) ids → (B, B) mask of the pairs of equal class, true on the diagonal."""
    return ops.equal(ops.expand_dims(ids, 1), ops.expand_dims(ids, 0))


def positive_pairs(is_same, dtype):
    """(B, B) mask of equal classes → mask without the diagonal, and B ÷ number of such pairs (B without any)."""
    mask = ops.logical_and(is_same, other_positions(is_same))
    pairs = ops.maximum(ops.sum(ops.cast(mask, "int32")), 1)
    return mask, ops.cast(ops.shape(is_same)[0], dtype) / ops.cast(pairs, dtype)


def finite(argument, number):
    """A finite `number` as a float; `ValueError` naming `argument` for any other."""
    if not math.isfinite(number):
        raise ValueError(f"`{argument}` must be a finite number. Received: {argument}={number!r}")
    return float(number)


def _is_square(shape, batch_size):
    return len(shape) == 2 and all(None in (n, batch_size) or n == batch_size for n in shape)


@keras.saving.register_keras_serializable(package="keras_normface")
class ContrastiveLoss(MetricLoss):
    """Contrastive loss of pairs: pull equal ones together, push others a margin apart.

    `L_i = y_i·d_i² + (1 − y_i)·max(0, m − d_i)²`, with `y_i = 1` for a pair of one class. Pairs do not meet
    each other here, so replicas change nothing.

    Args:
        margin: m, the distance above which a pair of two classes is not pushed any more. Finite.
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` `(B,)` or `(B, 1)`, in [0, 1] (another value makes the loss of that pair NaN);
    `y_pred` the Euclidean (not squared) distances of the pairs, `(B,)` or `(B, 1)`.

    Raises:
        ValueError: If the margin is not finite, or the shapes are others.

    Source: Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping, CVPR 2006,
    without its factor 1/2, as in tensorflow-addons.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> loss = ContrastiveLoss(margin=1.0, reduction="none")
    >>> ops.convert_to_numpy(loss(np.array([1, 0, 0]), np.array([0.5, 0.5, 3.0]))).tolist()
    [0.25, 0.25, 0.0]
    """

    def __init__(self, margin=1.0, *, reduction="sum_over_batch_size", name="contrastive_loss", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = finite("margin", margin)

    def call(self, y_true, y_pred):
        """Return the loss of each pair, `(B,)`; see the class for the shapes."""
        y_true, y_pred = self.tensors(y_true, y_pred)
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        fit = [len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) for shape in shapes]
        sizes = [shape[0] for shape in shapes if shape and shape[0] is not None]
        if not all(fit) or len(set(sizes)) > 1:
            raise ValueError(
                "`y_true` and `y_pred` must both have shape (B,) or (B, 1). "
                f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
            )
        is_pair = ops.cast(ops.reshape(y_true, (-1,)), self.dtype)
        distance = ops.reshape(y_pred, (-1,))
        gap = ops.maximum(self.margin - distance, 0.0)
        losses = is_pair * ops.square(distance) + (1.0 - is_pair) * ops.square(gap)
        return _labels.nan_where_invalid(losses, ops.logical_and(is_pair >= 0, is_pair <= 1))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="keras_normface")
class LiftedStructLoss(EmbeddingLoss):
    """Lifted structured loss: every positive pair against all negatives of both its ends, smoothly.

    `J_ij = log(Σ_{k∉class} e^{m − d_ik} + Σ_{k∉class} e^{m − d_jk}) + d_ij` for each positive pair, on
    Euclidean distances; `L_i = B/(2P) · Σ_j max(0, J_ij)²` over the positives j of i, with P ordered positive
    pairs in the batch. The mean over the batch is the paper's. An anchor without positives has loss 0, and
    so have all where the batch holds one class (addons: NaN).

    The count P is that of the batch, or of the replica's part of it; see `MetricLoss`.

    Args:
        margin: m. Finite.
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`; `y_pred` embeddings `(B, dim)`, which the paper does
    not normalise.

    Raises:
        ValueError: If the margin is not finite, or the shapes are others.

    Source: Lifted structure (arXiv 1511.06452), Eq. 4.

    Example:
    >>> import numpy as np
    >>> loss = LiftedStructLoss(margin=1.0)
    >>> embeddings = np.array([[0.0], [1.0], [2.0]])  # J = log(e^(1 − 2) + e^(1 − 1)) + 1; L = J²/2
    >>> round(float(loss(np.array([0, 0, 1]), embeddings)), 4)
    0.8623
    """

    def __init__(
        self,
        margin=1.0,
        *,
        name="lifted_struct_loss",
        reduction="sum_over_batch_size",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = finite("margin", margin)

    def loss_of_distances(self, is_same, distances):
        """Return the loss of each anchor, from the mask of equal classes and the distances, both `(B, B)`."""
        positives, factor = positive_pairs(is_same, distances.dtype)
        is_pushed = ops.logical_not(ops.all(is_same, axis=-1, keepdims=True))
        # Rows without a negative are masked BEFORE the logarithm, whose gradient there would be NaN.
        kept = ops.logical_and(is_pushed, ops.logical_not(is_same))
        gaps = ops.where(kept, self.margin - distances, ops.full_like(distances, float("-inf")))
        gaps = ops.where(is_pushed, gaps, ops.zeros_like(gaps))
        push = ops.logsumexp(gaps, axis=-1, keepdims=True)
        # log(e^a + e^b) = a + softplus(b − a): unlike logaddexp, it shares the gradient where a = b.
        lifted = push + ops.softplus(ops.transpose(push) - push) + distances
        counted = ops.logical_and(positives, is_pushed)
        hinges = ops.where(counted, ops.relu(lifted), ops.zeros_like(lifted))
        return 0.5 * factor * ops.sum(ops.square(hinges), axis=-1)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "margin": self.margin}


class SimilarityLoss(MetricLoss):
    """Base of the losses on a similarity matrix: cross-entropy of each row with its matches."""

    def cross_entropy(self, matches, similarities):
        """(B, B) matches ≥ 0, (B, B) logits → (B,) cross-entropy with the matches summing to 1; 0 without matches."""
        shape = tuple(similarities.shape)
        if len(shape) != 2 or (None not in shape and shape[0] != shape[1]):
            raise ValueError(
                "`y_pred` must be a similarity matrix of shape (B, B), as of matmul(a, transpose(b)). "
                f"Received: y_pred.shape={shape}"
            )
        matches = ops.cast(matches, self.dtype)
        total = ops.sum(matches, axis=-1, keepdims=True)
        targets = matches / ops.where(ops.equal(total, 0), ops.ones_like(total), total)
        losses = ops.categorical_crossentropy(targets, similarities, from_logits=True)
        is_nan = ops.any(ops.isnan(similarities), axis=-1)
        # TensorFlow's gradient of the cross-entropy presumes targets that sum to 1, hence the mask.
        losses = ops.where(ops.equal(total[:, 0], 0), ops.zeros_like(losses), losses)
        return _labels.nan_where_invalid(losses, ops.logical_not(is_nan))


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

    def __init__(self, *, name="npairs_loss", reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each row, `(B,)`; see the class for the shapes."""
        y_true, y_pred = self.tensors(y_true, y_pred)
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

    def __init__(self, *, name="npairs_multilabel_loss", reduction="sum_over_batch_size", dtype="float32"):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each row, `(B,)`; see the class for the shapes."""
        y_true, y_pred = self.tensors(y_true, y_pred)
        shape, rows = tuple(y_true.shape), y_pred.shape[0]
        if len(shape) != 2 or (None not in (shape[0], rows) and shape[0] != rows):
            raise ValueError(
                "`y_true` must have shape (B, num_classes) to go with `y_pred` of shape (B, B). "
                f"Received: y_true.shape={shape}, y_pred.shape={tuple(y_pred.shape)}"
            )
        y_true = ops.cast(y_true, self.dtype)
        return self.cross_entropy(ops.matmul(y_true, ops.transpose(y_true)), y_pred)
