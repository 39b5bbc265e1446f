"""Sampled class centres in a training step: only their rows are read and written, outside XLA.

A TensorFlow variable that was written by rows is copied whenever it is read as a whole, so a step never does that: what
is compiled gets the rows as tensors.
"""

import keras
from keras import ops

from keras_normface._labels import class_ids, targets_called
from keras_normface.heads import SampledMarginSoftmaxHead


def sampled_heads(model):
    """Return the heads of a model that train their class centres themselves."""
    return [head for head in getattr(model, "heads", ()) if isinstance(head, SampledMarginSoftmaxHead)]


def excluded_variables(model, kernels):
    """Return the `id`s of the sampled heads' variables that a step does not read as a whole."""
    heads = sampled_heads(model)
    return {id(head.velocity) for head in heads} | {id(head.kernel) for head in heads if not kernels}


def check_trainable(model):
    """Refuse what cannot train a model's sampled heads."""
    heads = sampled_heads(model)
    if not heads:
        return
    if len({id(head) for head in heads}) < len(heads):
        names = [head.name for head in heads]
        raise ValueError(
            f"`heads` must not hold a head with sampled class centres twice: weigh it more. Received: {names}"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Sampled class centres are trained by `fit` on the TensorFlow backend only. Use MarginSoftmaxHead here, or "
            f"a loop of your own. Received: the backend {keras.backend.backend()!r}"
        )
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            "Sampled class centres are trained on one replica. Use MarginSoftmaxHead under a strategy, or a strategy "
            f"of one device. Received: {replicas} replicas"
        )
    _check_optimizer(model.optimizer)


def _check_optimizer(optimizer):
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or getattr(optimizer, "loss_scale_factor", None)
    reasons = {
        "it scales the loss (as mixed_float16 does; mixed_bfloat16 needs no scaling)": scaled,
        "it accumulates gradients": getattr(optimizer, "gradient_accumulation_steps", None),
        "it averages weights (`use_ema`), which would exclude the class centres": getattr(optimizer, "use_ema", False),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(
                f"This optimizer cannot be used with sampled class centres: {reason}. Received: {optimizer!r}"
            )


def for_each_head(model, samples, rows):
    """Samples and rows of the sampled heads → `(sample, rows)` or None for each of the model's heads."""
    own = zip(samples, rows, strict=True)
    return [next(own) if isinstance(head, SampledMarginSoftmaxHead) else None for head in model.heads]


class SampledKernels:
    """The sampled heads of a model in training on one replica."""

    def __init__(self, model):
        import tensorflow as tf

        self.model, self.heads, self._update = model, sampled_heads(model), []
        for head in self.heads:
            jit_compile = bool(model.jit_compile) and not model.run_eagerly
            self._update.append(tf.function(head.updated_rows, autograph=False, jit_compile=jit_compile))

    def draw(self, data):
        """Draw the classes of a step and read their class centres."""
        samples = [self._sample(head, targets_called(head.target, data[1])) for head in self.heads]
        return samples, [self._read(head.kernel, sample.ids) for head, sample in zip(self.heads, samples, strict=True)]

    def _sample(self, head, labels):
        import tensorflow as tf

        labels = ops.convert_to_tensor(labels)
        ids, _ = class_ids(labels, (labels.shape[0], head.units))
        step = tf.convert_to_tensor(head.step.value)
        if ids.shape[0] is not None or head.sample_size == head.units:
            return head.sample(ids, step)
        message = "A batch must be smaller than the sample of classes: raise `sample_rate` or `minimum_sample`."
        with tf.control_dependencies([tf.debugging.assert_less(tf.size(ids), head.sample_size, message)]):
            return head.sample(tf.identity(ids), step)

    def update(self, samples, rows, gradients):
        """Train the class centres that were drawn."""
        of_optimizer = ops.convert_to_tensor(self.model.optimizer.learning_rate)
        for head, update, *own in zip(self.heads, self._update, samples, rows, gradients, strict=True):
            if head.trainable:
                self._update_head(head, update, of_optimizer, *own)

    def _update_head(self, head, update, of_optimizer, sample, rows, gradients):
        # The step has been counted already.
        rate = head.rate(ops.convert_to_tensor(head.step) - 1.0, of_optimizer)
        velocity = self._read(head.velocity, sample.ids)
        repeats = head.sample_size < head.units
        for variable, values in zip((head.kernel, head.velocity), update(rows, velocity, gradients, rate), strict=True):
            self._write(variable, sample, values, repeats)

    def _native(self, variable):
        return self.model.distribute_strategy.experimental_local_results(variable.value)[0]

    def _read(self, variable, ids):
        import tensorflow as tf

        return tf.gather(self._native(variable), ids)

    def _write(self, variable, sample, values, repeats):
        """Write the rows; then, where a class has several slots, once more the values of the slot that counts."""
        import tensorflow as tf

        native = self._native(variable)
        written = native.scatter_update(tf.IndexedSlices(values, sample.ids))
        if repeats:
            with tf.control_dependencies([] if tf.executing_eagerly() else [written]):
                own = tf.IndexedSlices(tf.gather(values, sample.local_ids), tf.gather(sample.ids, sample.local_ids))
                native.scatter_update(own)
