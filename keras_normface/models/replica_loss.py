"""A replica's part of the loss and of the metrics."""

import inspect

import keras


def forward(model, x, training):
    """Call the model, with `training` if its `call` knows that."""
    parameters = inspect.signature(model.call).parameters
    return model(x, training=training) if "training" in parameters else model(x)


def with_empty_trackers(model, mapping):
    """Return the mapping, with zeros for the means that Keras keeps of each output's own loss."""
    import tensorflow as tf

    empty = {id(variable) for tracker in _output_trackers(model) for variable in tracker.variables}
    return [(variable, tf.zeros_like(value) if id(variable) in empty else value) for variable, value in mapping]


def loss_and_metrics(model, training, data, rows, all_rows, old):
    """Compute a replica's part of the loss of the whole batch; update the metrics of the scope.

    Args:
        model: A compiled, built model.
        training: Whether this is a training step.
        data: The replica's share of the batch, `(x, y, sample_weight)`.
        rows: Its rows, a scalar tensor of at least 1.
        all_rows: Those of the whole batch, a float32 scalar tensor.
        old: Dict from the `id` of each variable to its value before the step.

    Returns:
        Scalar tensor; its sum over the replicas is the loss of the batch.
    """
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rows = tf.cast(rows, "float32")
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    y_pred = forward(model, x, training)
    loss = tf.reduce_sum(model.compute_loss(x, y, y_pred, sample_weight, training=training))
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
