"""Margin softmax over a sample of the classes: what is drawn, the head, and how it trains its class centres."""

import math
from typing import NamedTuple

import keras
from keras import ops

from keras_normface import _validation, sphere
from keras_normface._labels import as_tensor
from keras_normface.heads._base import HeadStatistics
from keras_normface.heads._cost import cost_of_sample
from keras_normface.heads._margin_softmax import MarginSoftmaxHead
from keras_normface.heads._random import random_bits
from keras_normface.losses import margin_cosines, softmax_loss

TRAINED_ELSEWHERE = (
    "A SampledMarginSoftmaxHead is trained by `EmbeddingModel.fit` on the TensorFlow backend. In a loop of "
    "your own, use its `sample`, `sampled_statistics` and `updated_rows`. Received: training=True elsewhere"
)
"""What is said where the class centres would not be trained."""


def number_or_schedule(rate):
    """A learning rate as None, a float or a schedule; a dictionary is a schedule's config."""
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    if rate is None or isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    return _validation.number("learning_rate", rate, above=0)


SWITCHED_OFF = -1e30
"""Log weight of a slot whose class another slot stands for."""


class Sample(NamedTuple):
    """The classes of one step, in S slots: the batch's labels in their order, then the drawn ones."""

    ids: object  # class of each slot, (S,) int32
    local_ids: object  # slot of each sample's own class, (B,) int32
    # What is added to a slot's logit for the samples of other classes, (S,) float32: 0 for classes of the batch, −log
    # of the probability of having been drawn for the others, −1e30 for slots whose class has a slot already. float64 if
    # the head is.
    log_weights: object


def sample_classes(labels, step, *, classes, size, seed=0, corrected=True, dtype="float32"):
    """(B,) labels → a step's `Sample` of `size` slots: the batch's classes, and others drawn without replacement."""
    # The classes, turned by a random offset, are cut into as many runs (strata) as there are slots besides the batch's,
    # as equal as possible, and one class is drawn of each. So none is drawn twice, the shapes are fixed, a class is
    # drawn with probability 1 / (classes of its stratum), and time and memory grow with `size`, not with `classes`.
    labels = ops.cast(as_tensor("labels", labels), "int32")
    if size >= classes:
        return Sample(ops.arange(classes, dtype="int32"), labels, ops.zeros((classes,), dtype))
    batch = ops.shape(labels)[0]
    if isinstance(batch, int) and batch >= size:
        raise ValueError(
            "The sample must be larger than the batch: raise `sample_rate` or `minimum_sample`. "
            f"Received: a batch of {batch} samples, {size} of {classes} classes in a sample"
        )
    strata = size - batch if isinstance(batch, int) else ops.maximum(size - batch, 1)
    bits = random_bits(seed, step, size + 1)
    offset = ops.mod(bits[size], classes)
    slots = ops.arange(size, dtype="int32")
    of_batch, in_batch = slots < batch, ops.minimum(slots, batch - 1)
    first, width = _stratum(ops.maximum(slots - batch, 0), classes, strata)
    drawn = ops.mod(first + ops.mod(bits[:size], width) + offset, classes)
    ids = ops.where(of_batch, ops.take(labels, in_batch), drawn)
    local_ids = ops.argmax(ops.cast(ops.equal(labels[:, None], labels), "int32"), axis=1)
    local_ids = ops.cast(local_ids, "int32")
    repeated = ops.logical_and(of_batch, ops.not_equal(ops.take(local_ids, in_batch), slots))
    own_slots = batch + _stratum_of(ops.mod(labels - offset, classes), classes, strata)
    hit = ops.cast(ops.equal(ops.take(ids, own_slots), labels), "int32")
    off = ops.logical_or(repeated, ops.scatter(own_slots[:, None], hit, (size,)) > 0)
    weights = ops.log(ops.cast(width, dtype)) if corrected else ops.zeros((size,), dtype)
    weights = ops.where(of_batch, 0.0, weights)
    return Sample(ids, local_ids, ops.where(off, SWITCHED_OFF, weights))


def _stratum(number, classes, strata):
    """First position of a stratum and how many it has; the first `classes % strata` have one more."""
    width, longer = classes // strata, classes % strata
    return number * width + ops.minimum(number, longer), width + ops.cast(number < longer, "int32")


def _stratum_of(position, classes, strata):
    """Number of the stratum that holds a position."""
    width, longer = classes // strata, classes % strata
    in_longer = longer * (width + 1)
    return ops.where(position < in_longer, position // (width + 1), longer + (position - in_longer) // width)


@keras.saving.register_keras_serializable(package="keras_normface")
class SampledMarginSoftmaxHead(MarginSoftmaxHead):
    """Margin softmax over the batch's classes and a random sample of the others; the cost follows the sample.

    A training step takes `sample_size` class centres: those of the batch's classes, and others drawn without
    replacement. Only they are read, get a gradient, momentum and weight decay, and are written. The
    model's optimizer does not know the kernel: the head trains them with the rule of `CoupledSGD`,
    `v ← momentum·v − rate·(g + wd·w)`, `w ← w + v`, and a centre that was not drawn stays as it is, with its v.
    Clipping by the optimizer does not reach them. Evaluation takes all classes.

    With `corrected=True` each drawn class counts `1 / (probability of being drawn)` times in the softmax's sum, so that
    the mean of the sum over all draws is the sum over all classes. Its logarithm, the loss, is still too small in
    the mean (Jensen), the less so the larger the sample. With `False` the loss is the softmax over the sample alone,
    "partial FC" in the literature. Either way two classes whose ids lie close together (nearer than one in
    `1/sample_rate`) are seldom drawn in one step, unless the batch has one of them; this matters only
    through the sum that they share. The accuracy in training is that among the sample.

    `EmbeddingModel.fit` on TensorFlow trains such a head, on one device. Elsewhere training is refused; the functions
    `sample`, `sampled_statistics` and `updated_rows` are pure and run on every backend, for loops of your own. What was
    drawn reaches the head as an argument: `statistics(labels, embeddings, training=True, sample=(sample, rows))`.

    Args:
        units: Number of classes.
        margin: See `MarginSoftmaxHead`.
        sample_rate: Share of the classes in a step, in (0, 1]; the batch's classes are among them.
        minimum_sample: At least so many classes are in a step, or all if there are fewer. Positive.
        seed: Decides, with the number of the step, which classes are drawn. In [0, 2^31).
        momentum: In [0, 1).
        weight_decay: wd, coupled, at least 0.
        learning_rate: A number, a `LearningRateSchedule` over the head's own steps, or `None` for the rate that the
            model's optimizer has at that step.
        rate_multiplier: Factor on the rate. Positive.
        corrected: Whether drawn classes stand for those that were not drawn.
        **kwargs: Arguments of `MarginSoftmaxHead`, but for label smoothing, regularizer and constraint.

    Weights, none of them trainable for Keras: `kernel` and `velocity`, `(units, dim)`; `step`, which is exact up to
    2^24 steps. All are saved with the model.

    Raises:
        ValueError: If an argument is out of its range.
        RuntimeError: In training elsewhere than in `EmbeddingModel.fit` on TensorFlow.

    Source: partial FC (arXiv 2010.05222, arXiv 2203.15565), for the sample; sampled softmax with the correction by
    log-probabilities (Bengio and Senécal 2008; arXiv 1412.2007).

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface.margins import AdditiveCosine
    >>> from keras_normface.models import EmbeddingModel
    >>> head = SampledMarginSoftmaxHead(5000, AdditiveCosine(0.35), sample_rate=0.1, minimum_sample=64)
    >>> head.sample_size
    500
    >>> backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(backbone, head)
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    >>> history = model.fit(np.ones((8, 6)), np.arange(8) * 600, batch_size=8, verbose=0)
    """

    optimizer_trains_kernel = False
    counts_steps = True

    def __init__(
        self,
        units,
        margin=None,
        *,
        sample_rate=0.1,
        minimum_sample=1024,
        seed=0,
        momentum=0.9,
        weight_decay=0.0,
        learning_rate=None,
        rate_multiplier=1.0,
        corrected=True,
        **kwargs,
    ):
        super().__init__(units, margin, **kwargs)
        for name in ("kernel_regularizer", "kernel_constraint", "label_smoothing"):
            if getattr(self, name):
                raise ValueError(f"`{name}` cannot act on sampled class centres. Received: {name}={kwargs[name]!r}")
        self.sample_rate = _validation.number("sample_rate", sample_rate, above=0, at_most=1)
        self.minimum_sample = _validation.integer("minimum_sample", minimum_sample, 1, 2**31 - 1)
        self.seed = _validation.integer("seed", seed, 0, 2**31 - 1)
        self.momentum = _validation.number("momentum", momentum, at_least=0, below=1)
        self.weight_decay = _validation.number("weight_decay", weight_decay, at_least=0)
        self.learning_rate = number_or_schedule(learning_rate)
        self.rate_multiplier = _validation.number("rate_multiplier", rate_multiplier, above=0)
        self.corrected = bool(corrected)

    @property
    def sample_size(self):
        """Number of classes in a step: `sample_rate` of all, at least `minimum_sample`, at most all."""
        return min(self.units, max(math.ceil(self.sample_rate * self.units), self.minimum_sample))

    def build(self, input_shape):
        """Create class centres, their velocity, the scale and the count of steps."""
        super().build(input_shape)
        shape = tuple(self.kernel.shape)
        self.velocity = self.add_weight(name="velocity", shape=shape, initializer="zeros", trainable=False)

    def call(self, embeddings, training=None):
        """Return the cosines `(batch, units)`; not while it trains, since no loss on them would train the kernel."""
        if training and self.trainable:
            raise RuntimeError(TRAINED_ELSEWHERE)
        return super().call(embeddings)

    def cost(self, batch_size, dim=None, mode=None, optimizer_slots=1, jit_compile=True):
        """Estimate the memory and the operations of a training step on a sample; see `Head.cost`.

        The whole kernel and all velocities are held; all else is that of the sample. Counted, not measured.

        Args:
            batch_size: Samples of a batch.
            dim: Of the embeddings; `None` means that of the kernel, if the head is built.
            mode: `False` (plain), `"buffer"` or `"stream"`; `None` means what the head does with the sample.
            optimizer_slots: Not used: the head keeps one velocity.
            jit_compile: Whether XLA compiles forward and backward pass.

        Returns:
            `HeadCost`.

        Raises:
            ValueError: If an argument is out of its range, or `dim` is not known.
        """
        mode = self.mode_for(batch_size, self.sample_size) if mode is None else mode
        whole = super().cost(batch_size, dim, mode, jit_compile=jit_compile)
        return cost_of_sample(whole, self.units, self.sample_size, batch_size, jit_compile)

    def sample(self, labels, step):
        """Draw the classes of a step.

        Args:
            labels: Valid class ids `(batch,)`.
            step: The number of the step, from 0.

        Returns:
            A `Sample`: class ids `(sample_size,)`, slots of the labels `(batch,)`, log weights `(sample_size,)`.

        Raises:
            ValueError: If the batch is as large as the sample, and there are more classes.
        """
        options = {"classes": self.units, "size": self.sample_size, "seed": self.seed, "corrected": self.corrected}
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        return sample_classes(labels, step, dtype=dtype, **options)

    def sampled_statistics(self, embeddings, rows, sample):
        """Losses over a sample of the classes, differentiable by `embeddings` and `rows`.

        Args:
            embeddings: Tensor `(batch, dim)`, not normalised.
            rows: The class centres of `sample.ids`, `(sample_size, dim)`.
            sample: What `sample` gave.

        Returns:
            `HeadStatistics`; `correct` and `loss` are those among the sample. A margin by the sample is that of
            evaluation; `statistics` with `training=True` draws, and moves what the margin keeps.
        """
        value = self._margin_value(sample.local_ids, embeddings, rows, training=False)
        return self._sampled_statistics(embeddings, rows, sample, value)

    def _sampled_statistics(self, embeddings, rows, sample, value):
        _, ids, log_weights = sample
        mode = self.mode_for(embeddings.shape[0], rows.shape[0])
        if mode:
            return self._fused_statistics(mode, embeddings, rows, ids, value, False, log_weights)
        cosines = sphere.cosines(embeddings, rows)
        norm, factor = self._norm_and_factor(embeddings)
        factor = factor if norm is None else ops.expand_dims(factor, -1)
        logits = ops.multiply(factor, margin_cosines(cosines, ids, self.margin, value=value))
        own = ops.equal(ops.arange(rows.shape[0], dtype="int32"), ops.expand_dims(ids, -1))
        loss = softmax_loss(logits + ops.cast(ops.where(own, 0.0, log_weights), logits.dtype), ids)
        target = ops.squeeze(ops.take_along_axis(cosines, ops.expand_dims(ids, -1), axis=-1), axis=-1)
        top = ops.max(ops.where(log_weights > SWITCHED_OFF / 2, cosines, -2.0), axis=-1)
        return HeadStatistics(
            self._whole_loss(loss, norm, embeddings, False), ops.cast(target >= top, "float32"), target
        )

    def updated_rows(self, rows, velocity_rows, gradients, rate):
        """Class centres and their velocities after a step of momentum and weight decay.

        Args:
            rows: Class centres `(n, dim)`.
            velocity_rows: Their velocities.
            gradients: The gradients by them.
            rate: The learning rate, a scalar; see `rate`.

        Returns:
            `(rows, velocity_rows)`, new.
        """
        rate = ops.cast(rate, rows.dtype)
        gradients = gradients + self.weight_decay * rows if self.weight_decay else gradients
        velocity_rows = self.momentum * velocity_rows - rate * gradients
        return rows + velocity_rows, velocity_rows

    def rate(self, step, of_optimizer):
        """The learning rate of the class centres at a step, given that of the model's optimizer."""
        own = self.learning_rate
        rate = of_optimizer if own is None else own(step) if callable(own) else own
        return self.rate_multiplier * ops.cast(rate, "float32")

    def statistics_of_ids(self, ids, embeddings, training, **options):
        """Return `HeadStatistics` among all classes; not while it trains, since that takes a sample."""
        if training:
            raise RuntimeError(TRAINED_ELSEWHERE)
        return super().statistics_of_ids(ids, embeddings, training, **options)

    def statistics_of_sample(self, embeddings, training, sample):
        """Return `HeadStatistics` among `sample`, a pair `(sample, rows)`; a training step is counted."""
        sample, rows = sample
        value = self._margin_value(sample.local_ids, embeddings, rows, training)
        statistics = self._sampled_statistics(embeddings, rows, sample, value)
        if training:
            self.step.assign(self.step + 1.0)
        return statistics

    def get_config(self):
        """Return the arguments of the constructor."""
        config, rate = super().get_config(), self.learning_rate
        own = ("sample_rate", "minimum_sample", "seed", "momentum", "weight_decay", "rate_multiplier", "corrected")
        schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        rate = keras.optimizers.schedules.serialize(rate) if schedule else rate
        return {**config, **{name: getattr(self, name) for name in own}, "learning_rate": rate}
