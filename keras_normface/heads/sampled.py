"""The margin softmax head for very many classes: each step looks at a sample of the agents, and trains it itself."""

import contextlib
import math

import keras
from keras import ops

from keras_normface import sphere
from keras_normface.heads.base import HeadStatistics
from keras_normface.heads.cost import cost_of_sample
from keras_normface.heads.margin_softmax import MarginSoftmaxHead
from keras_normface.heads.sampled_arguments import TRAINED_ELSEWHERE, check_numbers, number, number_or_schedule
from keras_normface.heads.sampling import SWITCHED_OFF, sample_classes
from keras_normface.losses import margin_cosines, softmax_loss


@keras.saving.register_keras_serializable(package="keras_normface")
class SampledMarginSoftmaxHead(MarginSoftmaxHead):
    """Margin softmax over the batch's classes and a random sample of the others; the cost follows the sample.

    A training step takes `sample_size` agents: those of the batch's classes, and others drawn without replacement
    (see `sampling.sample_classes`). Only they are read, get a gradient, momentum and weight decay, and are written. The
    model's optimizer does not know the agents: the head trains them with the rule of `CoupledSGD`,
    `v ← momentum·v − rate·(g + wd·w)`, `w ← w + v`, and an agent that was not drawn stays as it is, with its v.
    Clipping by the optimizer does not reach them. Evaluation takes all agents.

    With `corrected=True` each drawn class counts `1 / (probability of being drawn)` times in the softmax's sum, so that
    the mean of the sum over all draws is the sum over all classes. Its logarithm, the loss, is still too small in
    the mean (Jensen), the less so the larger the sample. With `False` the loss is the softmax over the sample alone,
    "partial FC" in the literature. Either way two classes whose ids lie close together (nearer than one in
    `1/sample_rate`) are seldom drawn in one step, unless the batch has one of them; this matters only
    through the sum that they share. The accuracy in training is that among the sample.

    `EmbeddingModel.fit` on TensorFlow trains such a head, on one device. Elsewhere training is refused; the functions
    `sample`, `sampled_statistics` and `updated_rows` are pure and run on every backend, for loops of your own.

    Args:
        units: Number of agents, one a class.
        margin: See `MarginSoftmaxHead`.
        sample_rate: Share of the agents in a step, in (0, 1]; the batch's classes are among them.
        minimum_sample: At least so many agents are in a step, or all if there are fewer. Positive.
        seed: Decides, with the number of the step, which agents are drawn. In [0, 2^31).
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
    >>> from keras_normface import AdditiveCosine, EmbeddingModel
    >>> head = SampledMarginSoftmaxHead(5000, AdditiveCosine(0.35), sample_rate=0.1, minimum_sample=64)
    >>> head.sample_size
    500
    >>> backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(backbone, head)
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    >>> history = model.fit(np.ones((8, 6)), np.arange(8) * 600, batch_size=8, verbose=0)
    """

    optimizer_trains_agents = False
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
                raise ValueError(f"`{name}` cannot act on sampled agents. Received: {name}={kwargs[name]!r}")
        self.sample_rate, self.minimum_sample, self.seed = number("sample_rate", sample_rate), minimum_sample, seed
        self.momentum, self.weight_decay = number("momentum", momentum), number("weight_decay", weight_decay)
        self.learning_rate = number_or_schedule(learning_rate)
        self.rate_multiplier = number("rate_multiplier", rate_multiplier)
        self.corrected = bool(corrected)
        check_numbers(self)
        self._given = _Given()

    @property
    def sample_size(self):
        """Number of agents in a step: `sample_rate` of all, at least `minimum_sample`, at most all."""
        return min(self.units, max(math.ceil(self.sample_rate * self.units), self.minimum_sample))

    def build(self, input_shape):
        """Create agents, their velocity, the scale and the count of steps."""
        super().build(input_shape)
        shape = tuple(self.kernel.shape)
        self.velocity = self.add_weight(name="velocity", shape=shape, initializer="zeros", trainable=False)

    def call(self, embeddings, training=None):
        """Return the cosines `(batch, units)`; not while it trains, since no loss on them would train the agents."""
        if training and self.trainable:
            raise RuntimeError(TRAINED_ELSEWHERE)
        return super().call(embeddings)

    def cost(self, batch_size, dim=None, mode=None, optimizer_slots=1, jit_compile=True):
        """Estimate the memory and the operations of a training step on a sample; see `Head.cost`.

        All agents and velocities are held; all else is that of the sample. Counted, not measured.

        Args:
            batch_size: Samples of a batch.
            dim: Of the embeddings; `None` means that of the agents, if the head is built.
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
        return sample_classes(
            labels, step, classes=self.units, size=self.sample_size, seed=self.seed, corrected=self.corrected
        )

    def sampled_statistics(self, embeddings, rows, sample):
        """Losses over a sample of the agents, differentiable by `embeddings` and `rows`.

        Args:
            embeddings: Tensor `(batch, dim)`, not normalised.
            rows: The agents of `sample.ids`, `(sample_size, dim)`.
            sample: What `sample` gave.

        Returns:
            `HeadStatistics`; `correct` and `loss` are those among the sample.
        """
        _, ids, log_weights = sample
        mode = self.mode_for(embeddings.shape[0], rows.shape[0])
        if mode:
            return self._fused_statistics(mode, embeddings, rows, ids, False, log_weights)
        cosines = sphere.cosines(embeddings, rows)
        norm, factor = self._norm_and_factor(embeddings)
        factor = factor if norm is None else ops.expand_dims(factor, -1)
        logits = factor * margin_cosines(cosines, ids, self.margin, value=self._scheduled_margin())
        own = ops.equal(ops.arange(rows.shape[0], dtype="int32"), ops.expand_dims(ids, -1))
        loss = softmax_loss(logits + ops.cast(ops.where(own, 0.0, log_weights), logits.dtype), ids)
        target = ops.squeeze(ops.take_along_axis(cosines, ops.expand_dims(ids, -1), axis=-1), axis=-1)
        top = ops.max(ops.where(log_weights > SWITCHED_OFF / 2, cosines, -2.0), axis=-1)
        return HeadStatistics(self._whole_loss(loss, norm, False), ops.cast(target >= top, "float32"), target)

    def updated_rows(self, rows, velocity_rows, gradients, rate):
        """Agents and their velocities after a step of momentum and weight decay.

        Args:
            rows: Agents `(n, dim)`.
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
        """The learning rate of the agents at a step, given that of the model's optimizer."""
        own = self.learning_rate
        rate = of_optimizer if own is None else own(step) if callable(own) else own
        return self.rate_multiplier * ops.cast(rate, "float32")

    @contextlib.contextmanager
    def given(self, sample, rows):
        """Within this context `statistics(..., training=True)` takes this sample, and these rows of the agents."""
        self._given.sample_and_rows = (sample, rows)
        try:
            yield
        finally:
            self._given.sample_and_rows = None

    def statistics_of_ids(self, ids, embeddings, training):
        """Return `HeadStatistics`: in training among the sample that was given, else among all agents."""
        if not training:
            return super().statistics_of_ids(ids, embeddings, training)
        if self._given.sample_and_rows is None:
            raise RuntimeError(TRAINED_ELSEWHERE)
        sample, rows = self._given.sample_and_rows
        statistics = self.sampled_statistics(embeddings, rows, sample)
        self.step.assign(self.step + 1.0)
        return statistics

    def get_config(self):
        """Return the arguments of the constructor."""
        config, rate = super().get_config(), self.learning_rate
        own = ("sample_rate", "minimum_sample", "seed", "momentum", "weight_decay", "rate_multiplier", "corrected")
        schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        rate = keras.optimizers.schedules.serialize(rate) if schedule else rate
        return {**config, **{name: getattr(self, name) for name in own}, "learning_rate": rate}


class _Given:
    """Holds what a step gives to the head; an object of its own, since Keras would track a tuple."""

    sample_and_rows = None
