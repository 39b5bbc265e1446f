"""The margin softmax head, and the ordinary softmax as a head."""

import keras
from keras import ops

from keras_normface import _validation, margins
from keras_normface import fused as fused_terms
from keras_normface._labels import class_ids
from keras_normface.heads import _whole_batch as whole_batch
from keras_normface.heads._base import Head, HeadStatistics
from keras_normface.heads._sharding import fused_mode
from keras_normface.layers import LearnableScale
from keras_normface.losses import margin_cosines, softmax_loss
from keras_normface.sphere import EPSILON


def _checked_scale(scale):
    """Number, `LearnableScale` or its config → float, since NumPy's would decide the type of the loss, or the layer."""
    if isinstance(scale, dict):
        return keras.saving.deserialize_keras_object(scale)
    return scale if isinstance(scale, LearnableScale) else _validation.number("scale", scale, above=0)


@keras.saving.register_keras_serializable(package="keras_normface")
class MarginSoftmaxHead(Head):
    """Softmax with a margin, `ρ·ψ(θ_y)` against `ρ·η(θ_j)`, for every feature norm.

    With `feature_norm="hard"` ρ is the scale. With `"none"` ρ = ‖x‖, differentiated. With `"soft"` ρ = ‖x‖ too, and
    `norm_weight·|‖x‖ − s|` is added to the loss.

    Args:
        units: Number of classes.
        margin: A `Margin`; `None` means `NoMargin()`.
        scale: s, a positive number or a `LearnableScale`. For `"none"` it is not used.
        feature_norm: `"hard"`, `"none"` or `"soft"`.
        loss_weight: Factor on the cross-entropy; SphereFace-R's λ/s. Positive.
        norm_weight: t, the weight of the soft norm. At least 0.
        margin_schedule: A `keras.optimizers.schedules.LearningRateSchedule` that gives the margin at each
            training step, in the place of the margin's own number. The head counts the steps in a saved,
            non-trainable scalar.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        fused: How the loss and its gradients are computed. `False`: plain ops, several arrays `batch × units`.
            `"buffer"`: one such array. `"stream"`: none. `"auto"`: what `fused.choose_mode` says for the batch;
            `False` where the margin cannot be fused, and never `"stream"` where the classes are split over devices.
        half_gradients: Whether the fused gradients' products are taken in bfloat16. The loss stays float32.
        **kwargs: Arguments of `Head`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame with NFN, HFN and SFN.

    Example:
    >>> import numpy as np
    >>> from keras_normface.margins import AdditiveCosine
    >>> head = MarginSoftmaxHead(3, AdditiveCosine(0.35), scale=30.0)
    >>> head.loss(np.array([0, 2]), np.ones((2, 4), dtype="float32")).shape[0]
    2
    """

    def __init__(
        self,
        units,
        margin=None,
        scale=30.0,
        feature_norm="hard",
        loss_weight=1.0,
        norm_weight=0.01,
        margin_schedule=None,
        label_smoothing=0.0,
        fused="auto",
        half_gradients=False,
        **kwargs,
    ):
        super().__init__(units, **kwargs)
        if feature_norm not in ("hard", "none", "soft"):
            raise ValueError(
                f'`feature_norm` must be "hard", "none" or "soft". Received: feature_norm={feature_norm!r}'
            )
        self.margin = margins.get(margin)
        self.scale = _checked_scale(scale)
        self.feature_norm = feature_norm
        self.loss_weight = _validation.number("loss_weight", loss_weight, above=0)
        self.norm_weight = _validation.number("norm_weight", norm_weight, at_least=0)
        if isinstance(margin_schedule, dict):
            margin_schedule = keras.optimizers.schedules.deserialize(margin_schedule)
        self.margin_schedule = margin_schedule
        self.label_smoothing = _validation.number("label_smoothing", label_smoothing, at_least=0, below=1)
        if fused not in fused_terms.MODES:
            raise ValueError(f'`fused` must be "auto", "buffer", "stream" or False. Received: fused={fused!r}')
        if fused in ("buffer", "stream") and not fused_terms.supports(self.margin):
            raise ValueError(f"`margin` must have a `non_target_slope` to be fused. Received: margin={self.margin!r}")
        self.fused, self.half_gradients = fused, bool(half_gradients)

    def build(self, input_shape):
        """Create class centres, scale, the count of steps and what the margin keeps."""
        super().build(input_shape)
        if isinstance(self.scale, LearnableScale) and not self.scale.built:
            self.scale.build((None, self.units))
        if self.counts_steps:
            self.step = self._scalar("step", 0.0, "float32")  # bfloat16 cannot count beyond 256
        dtype = keras.backend.result_type(self.variable_dtype, "float32")
        self.margin_state = {name: self._scalar(name, first, dtype) for name, first in self.margin.state.items()}

    def _scalar(self, name, value, dtype):
        options = {"autocast": False, "trainable": False, "aggregation": "only_first_replica"}
        initializer = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=initializer, dtype=dtype, **options)

    @property
    def counts_steps(self):
        """Whether the head counts its training steps."""
        return self.margin_schedule is not None or self.margin.draws is not None

    @property
    def needs_of_batch(self):
        """What the margin needs of the whole batch in training; see `Head`."""
        needs = {"place": self.margin.draws, "sums": self.margin.state, "cosines": self.margin.draws == "by rank"}
        return frozenset(name for name, needed in needs.items() if needed)

    @property
    def current_margin(self):
        """The margin of the present step: the margin's own number, or what the schedule gives (a scalar)."""
        if self.margin_schedule is None:
            return self.margin.value
        return ops.cast(self.margin_schedule(ops.convert_to_tensor(self.step)), "float32")

    @property
    def current_scale(self):
        """The scale s that acts: a number, or a scalar tensor if it is learnable."""
        return self.scale.value if isinstance(self.scale, LearnableScale) else self.scale

    def loss_of_cosines(self, ids, cosines, embeddings, training, batch=None):
        """Return the loss of each sample, given valid class ids."""
        value = self._margin_value(ids, embeddings, self.kernel, training, batch)
        logits = margin_cosines(cosines, ids, self.margin, value=value)
        norm, factor = self._norm_and_factor(embeddings)
        # `ops.multiply` and not `*`: scale and norm may be of another float type than the logits.
        logits = ops.multiply(factor if norm is None else ops.expand_dims(factor, -1), logits)
        loss = softmax_loss(logits, ids, label_smoothing=self.label_smoothing)
        return self._whole_loss(loss, norm, embeddings, training)

    def mode_for(self, batch_size, classes=None):
        """Return how a batch is computed: `False`, `"buffer"` or `"stream"`.

        Args:
            batch_size: Samples of a batch, or `None` where unknown.
            classes: How many classes it is compared with; `None` means all.
        """
        return fused_mode(self, batch_size, fused_terms.supports(self.margin), classes)

    def statistics_of_ids(self, ids, embeddings, training, **options):
        """Return `HeadStatistics`, given valid class ids; fused if `fused` says so."""
        mode = self.mode_for(embeddings.shape[0])
        if not mode:
            return super().statistics_of_ids(ids, embeddings, training, **options)
        kernel = ops.convert_to_tensor(self.kernel)
        value = self._margin_value(ids, embeddings, kernel, training, **options)
        return self._fused_statistics(mode, embeddings, kernel, ids, value, training)

    def batch_share(self, labels, embeddings):
        """What a share of a batch adds to `WholeBatch`, before `statistics` of it.

        Args:
            labels: As for `statistics`.
            embeddings: Tensor `(batch, dim)`.

        Returns:
            `(sums, cosines)`: `(k,)`, to be added up over the shares, and `(batch,)`, to be put one behind the other;
            each is `None` where `needs_of_batch` does not name it.
        """
        embeddings = ops.cast(ops.convert_to_tensor(embeddings), self.compute_dtype)
        ids, _ = class_ids(labels, (embeddings.shape[0], self.units))
        cosines = whole_batch.own_cosines(embeddings, self.kernel, ids)
        sums = None
        if "sums" in self.needs_of_batch:
            sums = self.margin.sums(whole_batch.feature_norms(embeddings), cosines, self._state())
        return sums, cosines if "cosines" in self.needs_of_batch else None

    def _margin_value(self, ids, embeddings, kernel, training, batch=None):
        """What ψ and η are given beside the cosines; what the margin keeps is moved before in training."""
        number = self._scheduled_margin()
        if not self.margin.by_sample:
            return number
        if not self.built:
            self.build(tuple(embeddings.shape))
        norm, draw, state = whole_batch.feature_norms(embeddings), None, self._state()
        if training:
            cosines = whole_batch.own_cosines(embeddings, kernel, ids)
            if self.margin.draws:
                draw = whole_batch.draws(self.margin, self.step, cosines, batch, norm.dtype)
            if state:
                fixed = ops.stop_gradient(norm)
                state = self.margin.moved(
                    state, self.margin.sums(fixed, cosines, state) if batch is None else batch.sums
                )
                for name, variable in self.margin_state.items():
                    variable.assign(state[name])
        number = self.margin.value if number is None else ops.cast(number, norm.dtype)
        return self.margin.of_samples(number, norm, draw, state)

    def _state(self):
        return {name: ops.convert_to_tensor(variable) for name, variable in self.margin_state.items()}

    def _fused_statistics(self, mode, embeddings, kernel, ids, value, training, class_log_weights=None):
        norm, factor = self._norm_and_factor(embeddings)
        terms = fused_terms.fused_margin_softmax(
            embeddings,
            kernel,
            ids,
            self.margin,
            factor,
            value=value,
            label_smoothing=self.label_smoothing,
            class_log_weights=class_log_weights,
            mode=mode,
            half_gradients=self.half_gradients,
        )
        correct = ops.cast(terms.target_cosine >= terms.top_other_cosine, "float32")
        return HeadStatistics(self._whole_loss(terms.loss, norm, embeddings, training), correct, terms.target_cosine)

    def _scheduled_margin(self):
        return None if self.margin_schedule is None else self.current_margin

    def _norm_and_factor(self, embeddings):
        """‖x‖ where the loss uses it, else None; and ρ."""
        if self.feature_norm == "hard":
            return None, self.current_scale
        norm = ops.sqrt(ops.sum(ops.square(embeddings), axis=-1) + 1e-12)
        return norm, norm

    def _whole_loss(self, cross_entropy, norm, embeddings, training):
        """The loss with its weights and what norms add to it; a training step moves the schedule on."""
        loss = self.loss_weight * cross_entropy
        if self.feature_norm == "soft":
            loss = ops.add(loss, self.norm_weight * ops.abs(ops.subtract(norm, self.current_scale)))
        if self.margin.by_sample:
            loss = ops.add(loss, self.margin.penalty(whole_batch.feature_norms(embeddings)))
        if training and self.counts_steps:
            self.step.assign(self.step + 1.0)
        return loss

    def get_config(self):
        """Return the arguments of the constructor."""
        schedule = self.margin_schedule
        learnable = isinstance(self.scale, LearnableScale)
        return {
            **super().get_config(),
            "margin": keras.saving.serialize_keras_object(self.margin),
            "scale": keras.saving.serialize_keras_object(self.scale) if learnable else self.scale,
            "feature_norm": self.feature_norm,
            "loss_weight": self.loss_weight,
            "norm_weight": self.norm_weight,
            "margin_schedule": schedule and keras.optimizers.schedules.serialize(schedule),
            "label_smoothing": self.label_smoothing,
            "fused": self.fused,
            "half_gradients": self.half_gradients,
        }


@keras.saving.register_keras_serializable(package="keras_normface")
class SoftmaxHead(Head):
    """Softmax of `⟨f, W_j⟩ + b_j`, with f = α·x̃ (L2-softmax) or f = x (the plain softmax).

    Accuracy and angle, as in all heads, are those of the directions of embeddings and weights.

    Args:
        units: Number of classes.
        scale: α, a positive number or a `LearnableScale`; `None` leaves the features as they are.
        use_bias: Whether there is a bias.
        **kwargs: Arguments of `Head`.

    Weights: `kernel`, `(units, dim)`; `bias`, `(units,)`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: L2-softmax (arXiv 1703.09507), §3.

    Example:
    >>> import numpy as np
    >>> head = SoftmaxHead(3, scale=16.0)
    >>> head.loss(np.array([0, 2]), np.ones((2, 4), dtype="float32")).shape[0]
    2
    """

    def __init__(self, units, scale=None, use_bias=True, **kwargs):
        super().__init__(units, **kwargs)
        self.scale = None if scale is None else _checked_scale(scale)
        self.use_bias = bool(use_bias)

    def build(self, input_shape):
        """Create weights, bias and scale."""
        super().build(input_shape)
        if isinstance(self.scale, LearnableScale) and not self.scale.built:
            self.scale.build((None, self.units))
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    @property
    def current_scale(self):
        """The scale α that acts: a number, a scalar tensor if it is learnable, or `None`."""
        return self.scale.value if isinstance(self.scale, LearnableScale) else self.scale

    def loss_of_cosines(self, ids, cosines, embeddings, training):
        """Return the loss of each sample, given valid class ids."""
        # ⟨x, W_j⟩ = cos_j · ‖x‖ · ‖W_j‖, with the norms that the cosines were divided by: no second matrix product.
        logits = ops.multiply(cosines, ops.sqrt(ops.sum(ops.square(self.kernel), axis=-1) + EPSILON))
        if self.scale is None:
            norm = ops.sqrt(ops.sum(ops.square(embeddings), axis=-1, keepdims=True) + EPSILON)
            logits = ops.multiply(logits, norm)
        else:
            logits = ops.multiply(logits, self.current_scale)
        if self.use_bias:
            logits = ops.add(logits, self.bias)
        return softmax_loss(logits, ids)

    def get_config(self):
        """Return the arguments of the constructor."""
        learnable = isinstance(self.scale, LearnableScale)
        scale = keras.saving.serialize_keras_object(self.scale) if learnable else self.scale
        return {**super().get_config(), "scale": scale, "use_bias": self.use_bias}
