"""What a margin by the sample is told of the batch: norms, target cosines, draws; and of its share on a replica."""

from typing import NamedTuple

import keras
from keras import ops

from keras_normface import sphere
from keras_normface.heads._random import random_normals


class WholeBatch(NamedTuple):
    """What a head is told of the batch of which it sees a share, as under several replicas.

    Attributes:
        first: Place in the batch of the share's first sample, a scalar, int32.
        sums: The sums of `batch_share` over all shares, `(k,)`, or `None`.
        cosines: The cosines of `batch_share` of all shares in their order, `(whole batch,)`, or `None`.
    """

    first: object
    sums: object = None
    cosines: object = None


def feature_norms(embeddings):
    """(B, D) → ‖x‖ (B,), at least float32."""
    embeddings = ops.cast(embeddings, keras.backend.result_type(embeddings.dtype, "float32"))
    return ops.sqrt(ops.sum(ops.square(embeddings), axis=-1) + sphere.EPSILON)


def own_cosines(embeddings, kernel, ids):
    """(B, D), (C, D), (B,) → cosines with the own class centres (B,), at least float32, without gradients."""
    rows = ops.take(ops.convert_to_tensor(kernel), ids, axis=0)
    dtype = keras.backend.result_type(embeddings.dtype, "float32")
    units, rows = (sphere.normalize(ops.cast(ops.stop_gradient(tensor), dtype)) for tensor in (embeddings, rows))
    return ops.sum(units * rows, axis=-1)


def draws(margin, step, cosines, batch, dtype):
    """A margin's draws for a share of the batch, whose own cosines are (B,) → (B,)."""
    count, first = ops.shape(cosines)[0], 0 if batch is None else batch.first
    if margin.draws == "each":
        return random_normals(margin.seed, step, count, first, dtype)
    # Of the whole batch on every replica, from cosines that are the same to the last bit, so no rank is there twice.
    everybody = cosines if batch is None else ops.cast(batch.cosines, cosines.dtype)
    number = ops.shape(everybody)[0]
    drawn = ops.sort(random_normals(margin.seed, step, number, 0, dtype))
    order = ops.argsort(ops.argsort(-everybody))
    place = first + ops.arange(count, dtype="int32")
    return ops.take(drawn, ops.take(order, place))
