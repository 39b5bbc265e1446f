"""Layers that synchronise replicas, wherever a model holds them."""

import inspect

import keras

from keras_normface._walk import all_layers
from keras_normface.distribute._sampled import SampledKernels, excluded_variables, for_each_head, sampled_heads
from keras_normface.distribute._whole_batch import WholeBatches, heads_in_need


def refuse_synchronized_batch_norm(model):
    """Raise if the model would run a synchronised batch normalisation inside a replica's XLA program."""
    if not model.jit_compile or model.distribute_strategy.num_replicas_in_sync == 1:
        return
    names = [layer.name for layer in synchronized_layers(model)]
    if names:
        raise ValueError(
            "`jit_compile=True` compiles each replica by itself, so a batch normalisation cannot synchronise "
            "there. Use BatchNormalization(synchronized=False), or jit_compile=False. "
            f"Received: jit_compile=True with synchronized layers {names}"
        )


def synchronized_layers(model):
    """Return the layers of the model that synchronise replicas in their forward pass."""
    return [layer for layer in all_layers(model) if getattr(layer, "synchronized", False)]


def forward(model, x, training):
    """Call the model, with `training` if its `call` knows that."""
    parameters = inspect.signature(model.call).parameters
    return model(x, training=training) if "training" in parameters else model(x)


def with_empty_trackers(model, mapping):
    """Return the mapping, with zeros for the means that Keras keeps of each output's own loss."""
    import tensorflow as tf

    empty = {id(variable) for tracker in _output_trackers(model) for variable in tracker.variables}
    return [(variable, tf.zeros_like(value) if id(variable) in empty else value) for variable, value in mapping]


def loss_and_metrics(model, training, data, rows, all_rows, old, **for_heads):
    """Compute a replica's part of the loss of the whole batch; update the metrics of the scope."""
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rows = tf.cast(rows, "float32")
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    y_pred = forward(model, x, training)
    loss = tf.reduce_sum(model.compute_loss(x, y, y_pred, sample_weight, training=training, **for_heads))
    if not _is_summed(model.loss):
        loss = loss * tf.cast(replicas * rows / all_rows, loss.dtype)
    for tracker in _output_trackers(model):  # Keras weighs a batch of unknown size as 1, and so do we
        mean = tf.math.divide_no_nan(tracker.total.value, tracker.count.value)
        tracker.total.assign(old[id(tracker.total)] + mean * rows / all_rows)
        tracker.count.assign(old[id(tracker.count)] + rows / all_rows)
    for metric in model.metrics[:1]:
        if type(metric) is keras.metrics.Mean and metric.name == "loss":
            metric.update_state(tf.cast(loss, "float32") * all_rows / rows, sample_weight=rows)
    model.compute_metrics(x, y, y_pred, sample_weight)
    return loss


def _output_trackers(model):
    """The means that Keras keeps of each output's own loss."""
    names = {f"{name}_loss" for name in getattr(model, "output_names", None) or []}
    return [m for m in model.metrics if type(m) is keras.metrics.Mean and m.name in names]


def _is_summed(loss):
    """Whether all losses are sums over the batch, which add up over replicas without weights."""
    losses = [part for part in keras.tree.flatten(loss) if part is not None]
    return bool(losses) and all(getattr(part, "reduction", None) == "sum" for part in losses)


def gradient_function(model, training):
    """Make the pure function of a replica's share of a batch: loss, metrics, gradients."""
    import tensorflow as tf

    variables = state_variables(model, kernels=not training)
    trainable = len(model.trainable_variables) if training else 0
    heads = sampled_heads(model) if training else []
    watched = [*range(trainable), *range(len(variables), len(variables) + len(heads))]

    def compute(values, data, rows, all_rows, loss_scale, samples, batches):
        sources = [values[i] for i in watched]
        values, centers = values[: len(variables)], values[len(variables) :]
        mapping = with_empty_trackers(model, list(zip(variables, values, strict=True)))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            for_heads = {"samples": for_each_head(model, samples, centers)} if heads else {}
            for_heads |= {"batches": batches} if batches else {}
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                old = dict(_by_id(variables, values))
                loss = loss_and_metrics(model, training, data, rows, all_rows, old, **for_heads)
            scaled = loss * tf.cast(loss_scale, loss.dtype)
        gradients = tape.gradient(scaled, sources) if training else []
        changed = [scope.get_current_value(variable) for variable in variables]
        return {
            "gradients": {
                str(i): tf.convert_to_tensor(g) for i, g in zip(watched, gradients, strict=True) if g is not None
            },
            "updates": {
                str(i): new for i, (new, old) in enumerate(zip(changed, values, strict=True)) if new is not old
            },
        }

    return compute


def prediction_function(model):
    """Make the pure function `(values, x) -> outputs` of a replica, in inference."""

    def compute(values, x):
        with keras.StatelessScope(list(zip(state_variables(model, kernels=False), values, strict=True))):
            return forward(model, x, training=False)

    return compute


def state_variables(model, kernels=True):
    """All variables that a step reads: trainable ones first, then the others, then those of the metrics."""
    excluded = excluded_variables(model, kernels)
    variables = [*model.trainable_variables, *model.non_trainable_variables, *model.metrics_variables]
    return [variable for variable in variables if id(variable) not in excluded]


def build(model, x):
    """Build a model that has not been called yet, for inputs like `x`."""
    if not model.built:
        with model.distribute_strategy.scope():
            model.build(keras.tree.map_structure(lambda tensor: (None, *tensor.shape[1:]), x))


def build_state(model, data):
    """Create what Keras creates on first use (variables of losses, metrics, optimizer), changing nothing."""
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    build(model, x)
    # all of them, since regularizers look weights up in the scope
    weights = [*model.trainable_variables, *model.non_trainable_variables]
    excluded = excluded_variables(model, kernels=True)
    mapping = [(variable, tf.convert_to_tensor(variable.value)) for variable in weights if id(variable) not in excluded]
    mapping += [(variable, tf.zeros(variable.shape, variable.dtype)) for variable in model.metrics_variables]
    with model.distribute_strategy.scope():
        with keras.StatelessScope(mapping, collect_losses=True):
            y_pred = forward(model, x, training=False)
            model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)
            model.compute_metrics(x, y, y_pred, sample_weight)
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


def replica_step(model, compute, training, share):
    """Make the function that `strategy.run` runs: share of a batch in, all-reduced gradients out."""
    import tensorflow as tf

    variables = state_variables(model, kernels=not training)
    trainable = len(model.trainable_variables) if training else 0
    sampled = SampledKernels(model) if training and sampled_heads(model) else None
    never_empty = training and bool(synchronized_layers(model))
    run = _never_empty if never_empty else _unless_empty
    whole = WholeBatches(model, share, never_empty) if training and heads_in_need(model) else None

    def step(data):
        context = tf.distribute.get_replica_context()
        rows = rows_of(data)
        all_rows = context.all_reduce("SUM", tf.cast(rows, "float32"))  # int32 stays on the host of a GPU
        values = [tf.convert_to_tensor(variable.value) for variable in variables]
        samples, centers = sampled.draw(data) if sampled else ([], [])
        scale = model.optimizer.scale_loss(tf.ones(())) if training else tf.ones(())
        batches = whole.of(values, data, rows) if whole else []
        results = run(compute, [*values, *centers], trainable, data, rows, all_rows, scale, samples, batches)
        for index, value in results["updates"].items():
            _assign(variables[int(index)], values[int(index)], value)
        gradients = results["gradients"]
        if sampled:
            sampled.update(samples, centers, [gradients.pop(str(len(variables) + i)) for i in range(len(centers))])
        keys = sorted(gradients, key=int)
        summed = context.all_reduce("SUM", [gradients[key] for key in keys]) if keys else []
        return dict(zip(keys, summed, strict=True))

    return step


def _assign(variable, old, new):
    """Give a replica's variable its new value."""
    import tensorflow as tf

    on_read = variable.value.synchronization == tf.VariableSynchronization.ON_READ
    if variable.aggregation == "sum" and not on_read:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        new = new - old * ((replicas - 1) / replicas)
    variable.assign(new)


def rows_of(data):
    """Number of rows of a replica's share, a scalar int32 tensor."""
    import tensorflow as tf

    return tf.shape(keras.tree.flatten(keras.utils.unpack_x_y_sample_weight(data)[0])[0])[0]


def _by_id(variables, values):
    return ((id(variable), value) for variable, value in zip(variables, values, strict=True))


def _unless_empty(compute, values, trainable, *arguments):
    """Run `compute(values, data, rows, …)`, or, for a replica without rows, change nothing and add zeros."""
    import tensorflow as tf

    structure = {"gradients": [str(i) for i in range(trainable)], "updates": []}

    def run():
        results = compute(values, *arguments)
        structure.update(results)
        return results

    def skip():
        return {
            "gradients": {key: tf.zeros_like(values[int(key)]) for key in structure["gradients"]},
            "updates": {key: tf.identity(values[int(key)]) for key in structure["updates"]},
        }

    rows = arguments[1]
    return tf.cond(rows > 0, run, skip)


def _never_empty(compute, values, trainable, *arguments):
    """Run `compute(values, data, rows, …)`, which synchronises replicas and so cannot stand under a condition."""
    import tensorflow as tf

    message = "With a synchronised batch normalisation each replica must get a row of each batch."
    with tf.control_dependencies([tf.debugging.assert_positive(arguments[1], message)]):
        values = [tf.identity(value) for value in values]
    return compute(values, *arguments)
