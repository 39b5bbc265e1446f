"""A head without classes: it pulls a pupil's embeddings to a teacher's."""

import keras
from keras import ops

from keras_normface import _labels as label_checks
from keras_normface import _validation, sphere
from keras_normface.heads._base import HeadStatistics
from keras_normface.heads._cost import HeadCost
from keras_normface.losses import cosine_distillation, relational_distillation


@keras.saving.register_keras_serializable(package="keras_normface")
class DistillationHead(keras.layers.Layer):
    """Cosine to the teacher's embedding, and the batch's cosines as the teacher has them.

    The loss of a sample is `w·(1 − cos(t_i, x_i)) + w′·mean_j (cos(x_i, x_j) − cos(t_i, t_j))²`,
    from `losses.cosine_distillation` and `losses.relational_distillation`. Where pupil and teacher have one dimension
    there is nothing to learn in it, and the pupil's embeddings are pulled to the teacher's as they are. With another
    `dim` a learned linear map, `kernel`, brings the pupil's to the teacher's dimension for the cosine; relations need
    no map.

    In an `EmbeddingModel` it stands alone, or beside heads with classes. `y` then is
    `{"labels": ids, "teacher": rows}`, with the teacher's embeddings computed once, not at each step;
    `ImageBatches(teacher=rows)` gives it so.

    Args:
        dim: Of the teacher's embeddings; `None` means that of the pupil's.
        cosine_weight: Of the first term, at least 0.
        relation_weight: Of the second term, at least 0; not both 0.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, own dim)`. Weight: `kernel`, `(dim, own dim)`, if the dimensions differ and `cosine_weight` is
    not 0.

    Raises:
        ValueError: If an argument is out of its range, or, when it is called, the teacher's rows do not fit.

    Source: the functions' sources; their sum, and each sample's own share of the relations, are ours.

    Example:
    >>> import numpy as np
    >>> from keras_normface import EmbeddingModel
    >>> from keras_normface.heads import MarginSoftmaxHead
    >>> pupil = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(pupil, [MarginSoftmaxHead(3), DistillationHead()], head_weights=[1.0, 5.0])
    >>> model.compile("adam")
    >>> y = {"labels": np.arange(6) % 3, "teacher": np.ones((6, 4), "float32")}
    >>> history = model.fit(np.ones((6, 6)), y, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss', 'target_angle_degrees']
    """

    needs_of_batch = frozenset()
    target = "teacher"
    """What of a batch's targets this head is given."""

    def __init__(self, dim=None, cosine_weight=1.0, relation_weight=1.0, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", **kwargs)
        self.dim = None if dim is None else _validation.integer("dim", dim, 1)
        self.cosine_weight = _validation.number("cosine_weight", cosine_weight, at_least=0)
        self.relation_weight = _validation.number("relation_weight", relation_weight, at_least=0)
        if not self.cosine_weight and not self.relation_weight:
            raise ValueError("`cosine_weight` and `relation_weight` must not both be 0. Received: 0 and 0")
        self.kernel = None
        self.input_spec = keras.layers.InputSpec(ndim=2)

    def build(self, input_shape):
        """Create the map to the teacher's dimension, if one is needed."""
        own = input_shape[-1]
        if own is None:
            raise ValueError(
                "The embeddings' dimension must be known when a head is built. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if self.dim not in (None, own) and self.cosine_weight:
            self.kernel = self.add_weight(name="kernel", shape=(self.dim, own), initializer="orthogonal")
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: own})

    def call(self, embeddings):
        """Return the embeddings that are compared with the teacher's: `(batch, dim)`, mapped where that is needed."""
        embeddings = ops.cast(embeddings, self.compute_dtype)
        return embeddings if self.kernel is None else ops.matmul(embeddings, ops.transpose(self.kernel))

    def loss(self, teacher, embeddings, training=False):
        """Return the loss of each sample, `(batch,)`; see `statistics`."""
        return self.statistics(teacher, embeddings, training=training).loss

    def statistics(self, teacher, embeddings, training=False, sample=None, batch=None):
        """Losses and what is worth watching.

        Args:
            teacher: The teacher's embeddings `(batch, dim)`, of any norm.
            embeddings: The pupil's, `(batch, own dim)`, not normalised.
            training: Not used.
            sample: Must be `None`: there are no classes to take a sample of.
            batch: Must be `None`: relations are those of the share of the batch that is given.

        Returns:
            `HeadStatistics`. A sample is correct if, of all teacher's rows of the batch, its own is the nearest to it;
            the cosine is the one to that row. Both are NaN where only relations are compared across dimensions.

        Raises:
            ValueError: If `teacher` is not a matrix of `dim` columns, or a sample or batch is given.
        """
        for name, given in (("sample", sample), ("batch", batch)):
            if given is not None:
                raise ValueError(f"`{name}` must be None for a DistillationHead. Received: a {type(given).__name__}")
        embeddings = label_checks.as_tensor("embeddings", embeddings, self.compute_dtype)
        teacher = label_checks.as_tensor("teacher", teacher)
        if not self.built:
            self.build(tuple(embeddings.shape))
        self._check_teacher(teacher)
        teacher = ops.cast(teacher, self.compute_dtype)
        mapped = self(embeddings)
        loss = ops.zeros_like(embeddings[:, 0])
        if self.cosine_weight:
            loss = ops.add(loss, self.cosine_weight * cosine_distillation(teacher, mapped))
        if self.relation_weight:
            loss = ops.add(loss, self.relation_weight * relational_distillation(teacher, embeddings))
        if mapped.shape[-1] != teacher.shape[-1]:
            unknown = ops.full_like(loss, float("nan"))
            return HeadStatistics(loss, ops.cast(unknown, "float32"), unknown)
        cosines = sphere.cosines(mapped, teacher)
        own = ops.diagonal(cosines)
        return HeadStatistics(loss, ops.cast(own >= ops.max(cosines, axis=-1), "float32"), own)

    def _check_teacher(self, teacher):
        wanted = self.input_spec.axes[-1] if self.dim is None else self.dim
        if len(teacher.shape) != 2 or teacher.shape[-1] != wanted:
            remedy = (
                'y must be {"labels": ids, "teacher": rows}, or the rows alone for a model without other heads'
                if len(teacher.shape) < 2 or teacher.shape[-1] == 1
                else "a pupil of another dimension needs DistillationHead(dim=…)"
            )
            raise ValueError(
                f"`teacher` must hold embeddings (batch, {wanted}): {remedy}. "
                f"Received: teacher.shape={tuple(teacher.shape)}"
            )

    def cost(self, batch_size, dim=None, mode=None, optimizer_slots=1, jit_compile=True):
        """Estimate the memory and the operations of a training step, as `Head.cost` does; by arithmetic, not measured.

        Args:
            batch_size: Samples of a batch on the device.
            dim: Of the pupil's embeddings; `None` means that it was built for.
            mode: Not used.
            optimizer_slots: As for `Head.cost`.
            jit_compile: Not used.

        Returns:
            `HeadCost`.

        Raises:
            ValueError: If an argument is out of its range, or `dim` is not known.
        """
        _validation.integer("batch_size", batch_size, 1)
        if dim is None and not self.built:
            raise ValueError("`dim` must be given before the head is built. Received: dim=None")
        own = self.input_spec.axes[-1] if dim is None else _validation.integer("dim", dim, 1)
        theirs = self.dim or own
        kernel = 4 * own * theirs if theirs != own and self.cosine_weight else 0
        activations = 4 * batch_size * (4 * batch_size + 3 * (own + theirs))
        flops = 6 * batch_size * (2 * batch_size * max(own, theirs) + kernel // 4)
        parts = kernel, kernel, optimizer_slots * kernel, activations, 0, 0
        return HeadCost(False, *parts, sum(parts), flops)

    def compute_output_shape(self, input_shape):
        """Return `(batch, dim)`."""
        mapped = self.dim not in (None, input_shape[-1]) and self.cosine_weight
        return (input_shape[0], self.dim if mapped else input_shape[-1])

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "cosine_weight": self.cosine_weight,
            "relation_weight": self.relation_weight,
        }
