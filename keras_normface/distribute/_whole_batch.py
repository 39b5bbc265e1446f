"""What heads are told of the whole batch where replicas see shares of it: places, sums, cosines."""

import keras

from keras_normface._labels import targets_called
from keras_normface.heads import WholeBatch


def heads_in_need(model):
    """Return the heads that need something of the whole batch, if there are several replicas."""
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return []
    return [head for head in getattr(model, "heads", ()) if head.needs_of_batch]


def share_function(model, variables, forward):
    """Make the pure function `(values, data) -> shares` of a replica: of each head in need, a dictionary."""
    heads = heads_in_need(model)

    def compute(values, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            embeddings = forward(model, x, training=True)
            return [_share(head, targets_called(head.target, y), embeddings) for head in heads]

    return compute


def _share(head, labels, embeddings):
    shares = zip(("sums", "cosines"), head.batch_share(labels, embeddings), strict=True)
    return {name: share for name, share in shares if share is not None}


class WholeBatches:
    """The `WholeBatch` of each head in need; `share` is the function above, compiled or not."""

    # What a head keeps moves before it is used, and inside a replica's XLA program nothing can be reduced over the
    # replicas: so a forward pass of its own comes first, which gives the same embeddings.

    def __init__(self, model, share, never_empty):
        self.model, self.share, self.never_empty = model, share, never_empty
        self.heads = heads_in_need(model)
        self.passes = any(head.needs_of_batch - {"place"} for head in self.heads)

    def of(self, values, data, rows):
        """Tensors of the variables, a replica's data and its rows → a `WholeBatch` or None for each of the heads."""
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        mine = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype="float32")
        counts = context.all_reduce("SUM", mine * tf.cast(rows, "float32"))  # GPUs reduce no integers
        first = tf.cast(tf.reduce_sum(tf.cumsum(mine, reverse=True, exclusive=True) * counts), "int32")
        behind = tf.cast(tf.reduce_sum(counts), "int32") - first - rows
        shares = self._shares(values, data, rows) if self.passes else [{} for _ in self.heads]
        batches = {}
        for head, share in zip(self.heads, shares, strict=True):
            if "cosines" in share:
                share["cosines"] = tf.pad(share["cosines"], [[first, behind]])
            summed = context.all_reduce("SUM", share) if share else {}
            batches[id(head)] = WholeBatch(first, summed.get("sums"), summed.get("cosines"))
        return [batches.get(id(head)) for head in self.model.heads]

    def _shares(self, values, data, rows):
        import tensorflow as tf

        if self.never_empty:
            return self.share(values, data)
        return tf.cond(rows > 0, lambda: self.share(values, data), self._of_nobody)

    def _of_nobody(self):
        """The shares of a replica without rows: those of one that stands for none, since no axis may have length 0."""
        import tensorflow as tf

        one = tf.zeros((1,), "int32")
        shares = [_share(head, one, tf.zeros((1, head.kernel.shape[1]), head.compute_dtype)) for head in self.heads]
        counted = {"sums": tf.zeros_like, "cosines": lambda cosines: cosines[:0]}
        return [{name: counted[name](value) for name, value in share.items()} for share in shares]
