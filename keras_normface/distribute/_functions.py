"""The functions that `fit`, `evaluate` and `predict` call once an execution, under `tf.distribute`."""

from concurrent.futures import ThreadPoolExecutor

import keras

from keras_normface.distribute import _step
from keras_normface.distribute._data import as_tensor
from keras_normface.distribute._sampled import sampled_heads
from keras_normface.distribute._whole_batch import share_function


def is_distributed(model):
    """Whether the model lives under a `tf.distribute` strategy (and so on the TensorFlow backend)."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    with model.distribute_strategy.scope():
        return tf.distribute.has_strategy()


def has_own_loop(model):
    """Whether the functions made here train and evaluate a model: under a strategy, or with sampled class centres."""
    return is_distributed(model) or (keras.backend.backend() == "tensorflow" and bool(sampled_heads(model)))


def is_multi_worker(strategy):
    """Whether a `tf.distribute` strategy spans several processes.

    Args:
        strategy: A strategy; `None` without one.

    Example:
    >>> import tensorflow as tf
    >>> is_multi_worker(tf.distribute.MirroredStrategy(["CPU:0"]))
    False
    """
    import tensorflow as tf

    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and (
        len(strategy.cluster_resolver.cluster_spec().as_dict().get("worker", [])) > 1
        or "chief" in strategy.cluster_resolver.cluster_spec().as_dict()
    )


def is_chief(strategy):
    """Whether this process is the one that prints and writes files: the chief, or worker 0 where there is no chief.

    Args:
        strategy: A `tf.distribute` strategy, such as `model.distribute_strategy`; `None` without one.

    Returns:
        `True` in exactly one of the processes that train together, and in a single one.

    Example:
    >>> import tensorflow as tf
    >>> is_chief(tf.distribute.get_strategy())
    True
    """
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().as_dict():
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def same_everywhere(strategy, numbers):
    """Whether all workers of a strategy gave the same numbers. A collective operation: all workers must call it.

    Args:
        strategy: A `tf.distribute` strategy.
        numbers: List of integers below 2^24, as long on every worker.

    Returns:
        A bool, the same on every worker; `True` where there is one worker.

    Example:
    >>> import tensorflow as tf
    >>> same_everywhere(tf.distribute.get_strategy(), [3, 120])
    True
    """
    import tensorflow as tf

    if not is_multi_worker(strategy):
        return True
    own = tf.constant(numbers, "float32")  # GPUs reduce no integers; sums of whole numbers are exact

    def differences():
        context = tf.distribute.get_replica_context()
        difference = context.all_reduce("SUM", own) - strategy.num_replicas_in_sync * own
        return context.all_reduce("SUM", tf.abs(difference))

    total = strategy.experimental_local_results(strategy.run(tf.function(differences)))[0]
    return not bool(tf.reduce_any(total > 0))


def make_function(model, training):
    """Make the train or test function: up to `steps_per_execution` global batches, then the logs."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    compute = _compiled(model, _step.gradient_function(model, training))
    share = share_function(model, _step.state_variables(model, kernels=not training), _step.forward)
    step = _step.replica_step(model, compute, training, _compiled(model, share))

    def one_batch(data):
        gradients = strategy.run(step, args=(data,))
        if training:
            _apply(model, {key: _local(strategy, gradient) for key, gradient in gradients.items()})

    def one_execution(iterator):
        done = _repeat(model.steps_per_execution, iterator, one_batch)
        return done, model.get_metrics_result()

    def on_batch(data):
        one_batch(data)
        return model.get_metrics_result()

    one_execution, on_batch = _graph(model, one_execution), _graph(model, on_batch)

    def function(iterator):
        if not isinstance(iterator, tf.distribute.DistributedIterator | tf.data.Iterator):
            return _out_of_scope(on_batch, split_rows(strategy, next(iterator)))  # from `train_on_batch`
        done, logs = _out_of_scope(one_execution, iterator)
        if int(done) == 0:
            raise StopIteration
        return logs

    return function


def make_predict_function(model):
    """Make the predict function: a list of global batches in, outputs of all rows in order out."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    compute = _compiled(model, _step.prediction_function(model))
    variables = _step.state_variables(model, kernels=False)

    def step(data):
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        rows = _step.rows_of(data)
        missing = tf.maximum(1 - rows, 0)  # a replica without rows predicts a row of zeros, which is cut off
        x = tf.nest.map_structure(lambda t: tf.pad(t, [[0, missing]] + [[0, 0]] * (len(t.shape) - 1)), x)
        outputs = compute([tf.convert_to_tensor(variable.value) for variable in variables], x)
        return tf.nest.map_structure(lambda output: output[:rows], outputs)

    def one_batch(data):
        outputs = strategy.run(step, args=(data,))
        return tf.nest.map_structure(lambda output: _all_rows(strategy, output), outputs)

    one_batch = _graph(model, one_batch)

    def function(batches):
        outputs = [one_batch(data) for data in batches]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)

    return function


def split_rows(strategy, data):
    """Split a global batch, the same on every worker, over the replicas of a strategy."""
    import tensorflow as tf

    replicas = strategy.num_replicas_in_sync

    def split(array):
        if array is None:
            return None
        tensor = as_tensor(array)
        share = -(-int(tensor.shape[0]) // replicas)

        def rows(context):
            first = context.replica_id_in_sync_group * share
            return tensor[first : first + share]

        return tensor if replicas == 1 else strategy.experimental_distribute_values_from_function(rows)

    return tf.nest.map_structure(split, data)


def _out_of_scope(function, argument):
    """Call a function outside every strategy scope, also if the caller is inside one."""
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return function(argument)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, argument).result()


def _graph(model, function):
    import tensorflow as tf

    if model.run_eagerly:
        return tf.autograph.experimental.do_not_convert(function)
    return tf.function(function, autograph=False, reduce_retracing=True)


def _compiled(model, function):
    """The replica's part: compiled with XLA by itself, or inlined into the whole graph."""
    import tensorflow as tf

    if model.jit_compile and not model.run_eagerly:
        return tf.function(function, autograph=False, jit_compile=True, reduce_retracing=True)
    return tf.autograph.experimental.do_not_convert(function)


def _local(strategy, value):
    return strategy.experimental_local_results(value)[0]


def _all_rows(strategy, output):
    import tensorflow as tf

    if is_multi_worker(strategy):
        return strategy.gather(output, axis=0)
    return tf.concat(strategy.experimental_local_results(output), axis=0)


def _repeat(times, iterator, one_batch):
    """Run `one_batch` on up to `times` batches; return how many there were, a scalar tensor."""
    import tensorflow as tf

    def run(batch):
        one_batch(batch.get_value())
        return 1

    def body(step, done):
        batch = iterator.get_next_as_optional()
        return step + 1, done + tf.cond(batch.has_value(), lambda: run(batch), lambda: 0)

    if times == 1:
        return body(0, 0)[1]
    return tf.while_loop(lambda step, done: (step < times) & (step == done), body, (0, 0))[1]


def _apply(model, gradients):
    """Update the weights, across replicas, from gradients that are already the whole batch's."""
    variables = [model.trainable_variables[int(key)] for key in gradients]
    if not variables and sampled_heads(model):
        model.optimizer.iterations.assign_add(1)  # the class centres have been trained, and there are no other weights
        return
    if not variables:
        raise ValueError("No gradient reaches any trainable weight. Received: a loss that depends on none")
    optimizer, gradients = model.optimizer, list(gradients.values())
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        _apply_scaled(optimizer, gradients, variables)
    else:
        optimizer.apply(gradients, variables)


def _apply_scaled(optimizer, gradients, variables):
    """What `LossScaleOptimizer.apply` does, which refuses to be called across replicas."""
    import tensorflow as tf

    def apply():
        scale = tf.convert_to_tensor(optimizer.dynamic_scale.value)
        optimizer.inner_optimizer.apply([g / tf.cast(scale, g.dtype) for g in gradients], variables)
        grown = optimizer.step_counter.value >= optimizer.dynamic_growth_steps - 1
        counter = tf.convert_to_tensor(optimizer.step_counter.value)
        optimizer.step_counter.assign(tf.where(grown, tf.zeros_like(counter), counter + 1))
        optimizer.dynamic_scale.assign(tf.where(grown, scale * 2.0, scale))

    def shrink():
        optimizer.step_counter.assign(0)
        optimizer.dynamic_scale.assign(optimizer.dynamic_scale * 0.5)

    tf.cond(optimizer.check_finite(gradients), apply, shrink)
