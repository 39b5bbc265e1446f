"""Models whose output is embeddings, and functional models that train under XLA on every replica."""

import functools
import math

import keras
from keras import ops

from keras_normface._labels import targets_called
from keras_normface.distribute import ReplicaXLA


class _Mean(keras.losses.Loss):
    """The mean of ready-made per-sample losses, weighted and scaled for replicas as Keras does it."""

    def call(self, y_true, y_pred):
        return y_pred


def _known_input_shape(backbone):
    """The input shape of a built backbone, with an unknown batch size; None if it is unknown."""
    if not backbone.built:
        return None
    inputs = getattr(backbone, "inputs", None)
    shape = backbone.input_shape if inputs else (backbone.get_build_config() or {}).get("input_shape")
    return shape and keras.tree.map_shape_structure(lambda shape: (None, *shape[1:]), shape)


def _embedding_dim(shape):
    """The last of the dimensions `(batch, dim)`; None for other shapes."""
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int) else None


@keras.saving.register_keras_serializable(package="keras_normface")
class EmbeddingModel(ReplicaXLA, keras.Model):
    """Backbone and heads: `model(x)` and `predict` give embeddings, `fit` trains on the heads' losses.

    `compile` takes no loss: the heads are the losses. Every head gets the labels and has its own class centres; a
    `DistillationHead` gets a teacher's embeddings, for which `y` is `{"labels": ids, "teacher": rows}`. The
    first head reports accuracy and the mean angle (degrees) between an embedding and the centre of its class, from the
    same pass as the loss; Keras's callbacks know which way each should move. Over a backbone that is built, the model
    is built too. Augmentation and dropout of the backbone act in `fit` and with `training=True`, nowhere else.

    Args:
        backbone: A `keras.Model` from inputs to embeddings `(batch, dim)`.
        heads: A `Head`, or a list of them.
        head_weights: Weights of the heads' losses; `None` means 1 each.
        **kwargs: Arguments of `keras.Model`.

    Call shapes: inputs of the backbone; returns its outputs, not normalised.

    Raises:
        ValueError: If there is no head, or `head_weights` has another length.
        TypeError: If `compile` is given a loss.

    Source: NormFace (arXiv 1704.06369), §4, for joint supervision, each loss with its own agents (class centres).

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface.heads import AgentContrastiveHead, MarginSoftmaxHead
    >>> backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(backbone, [MarginSoftmaxHead(3), AgentContrastiveHead(3)], head_weights=[1.0, 0.01])
    >>> model.compile("adam")
    >>> history = model.fit(np.ones((6, 6)), np.arange(6) % 3, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss', 'target_angle_degrees']
    """

    monitor_modes = {"accuracy": "max", "target_angle_degrees": "min"}  # noqa: RUF012
    """Whether a logged value is to rise or to fall, for callbacks whose `mode` is `"auto"`."""

    def __init__(self, backbone, heads, *, head_weights=None, **kwargs):
        super().__init__(**kwargs)
        heads = list(heads) if isinstance(heads, list | tuple) else [heads]
        weights = [1.0] * len(heads) if head_weights is None else [float(w) for w in head_weights]
        if not heads or len(weights) != len(heads):
            raise ValueError(
                "`heads` must hold at least one head, and `head_weights` as many numbers. "
                f"Received: {len(heads)} heads, head_weights={head_weights}"
            )
        self.backbone, self.heads, self.head_weights = backbone, heads, weights
        self._mean = _Mean(name="head_losses")
        self._accuracy = keras.metrics.Mean(name="accuracy")
        self._angle = keras.metrics.Mean(name="target_angle_degrees")
        input_shape = _known_input_shape(backbone)
        if input_shape is not None and _embedding_dim(self.compute_output_shape(input_shape)) is not None:
            self.build(input_shape)

    def build(self, input_shape):
        """Build backbone and heads for inputs of `input_shape`; over a built backbone the constructor has done it."""
        dim = self.compute_output_shape(input_shape)[-1]
        for head in self.heads:
            if not head.built:
                head.build((None, dim))

    def call(self, inputs, training=False):
        """Return the embeddings of `inputs`; augmentation and dropout in the backbone act with `training=True` only."""
        return self.backbone(inputs, training=training)

    def compute_output_shape(self, input_shape):
        """Return the shape of the embeddings."""
        if not self.backbone.built and type(self.backbone).build is not keras.layers.Layer.build:
            self.backbone.build(input_shape)
        try:
            return self.backbone.compute_output_shape(input_shape)
        except NotImplementedError:  # a subclass need not say its shapes, so Keras traces its `call`
            dtype = self.backbone.input_dtype
            inputs = keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, dtype), input_shape)
        trace = self.backbone.compute_output_spec if self.backbone.built else self.backbone
        return keras.tree.map_structure(lambda tensor: tensor.shape, trace(inputs))

    def compile(self, optimizer="sgd", loss=None, **kwargs):
        """Configure training, as `keras.Model.compile`; the heads are the losses, so `loss` must be `None`."""
        if loss is not None:
            raise TypeError(
                f"`loss` must be None: the heads of an EmbeddingModel are its losses. Received: loss={loss!r}"
            )
        super().compile(optimizer=optimizer, **kwargs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True, *, samples=None, batches=None
    ):  # fmt: skip
        """Return the scalar loss of a batch, and update accuracy and angle.

        Args:
            x: Inputs; not used.
            y: Labels, or a dictionary of them and other heads' targets.
            y_pred: Embeddings.
            sample_weight: Weights of the samples, `(batch,)`.
            training: Whether this is a training step.
            samples: What each head takes as `sample`, a list; `None` means none for any.
            batches: What each head takes as `batch`, a list; `None` means that this is the whole batch.

        Returns:
            Scalar tensor: the heads' mean losses, weighted, and the regularization losses.
        """
        samples, batches = (given or [None] * len(self.heads) for given in (samples, batches))
        statistics = [
            head.statistics(targets_called(head.target, y), y_pred, training=training, sample=sample, batch=batch)
            for head, sample, batch in zip(self.heads, samples, batches, strict=True)
        ]
        # `ops.add` and not `+`: heads may be of different float types.
        weighted = [s.loss * weight for s, weight in zip(statistics, self.head_weights, strict=True)]
        losses = functools.reduce(ops.add, weighted)
        total = self._reduce(losses, sample_weight)
        for regularization in self.losses:
            total = ops.add(total, self._reduce(ops.reshape(ops.cast(regularization, "float32"), (1,))))
        first = statistics[0]
        self._accuracy.update_state(first.correct)
        target_cosine = ops.clip(ops.stop_gradient(first.target_cosine), -1.0, 1.0)
        self._angle.update_state(ops.arccos(target_cosine) * (180.0 / math.pi))
        return total

    def _reduce(self, values, sample_weight=None):
        return self._mean(ops.zeros_like(values), values, sample_weight=sample_weight)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "heads": [keras.saving.serialize_keras_object(head) for head in self.heads],
            "head_weights": self.head_weights,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Make the model that `get_config` described."""
        config = dict(config)
        restore = keras.saving.deserialize_keras_object
        config["backbone"] = restore(config["backbone"], custom_objects=custom_objects)
        config["heads"] = [restore(head, custom_objects=custom_objects) for head in config["heads"]]
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_normface")
class DistributedModel(ReplicaXLA, keras.Model):
    """`keras.Model` whose `compile` checks the losses, and whose XLA and `fit` work under `tf.distribute`.

    Args:
        *args: Inputs and outputs, as `keras.Model(inputs, outputs)`.
        **kwargs: Other arguments of `keras.Model`.

    Raises:
        ValueError: In `compile`; see `ReplicaXLA.compile`.

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface.layers import CosineDense
    >>> from keras_normface.losses import NormFaceLoss
    >>> inputs = keras.Input((4,))
    >>> model = DistributedModel(inputs, CosineDense(3)(inputs))
    >>> model.compile("sgd", NormFaceLoss(scale=20.0), jit_compile=True)
    >>> history = model.fit(np.eye(4)[:3], np.arange(3), verbose=0)
    >>> sorted(history.history)
    ['loss']
    """
