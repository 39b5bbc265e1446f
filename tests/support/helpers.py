"""Backend-neutral gradients, and the generic checks that every layer and every loss goes through."""

import keras
import numpy as np
import pytest
from keras import ops

BACKEND = keras.backend.backend()
# For small trainings: JAX without jit runs op by op; TensorFlow under XLA compiles for longer than it trains.
COMPILED = BACKEND == "jax"
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def to_numpy(tensor):
    """A tensor as a float64 (or integer) array."""
    array = np.asarray(ops.convert_to_numpy(tensor))
    return array.astype("float64") if array.dtype.kind not in "biu" else array


def value_and_gradients(function, *arrays, dtype="float32"):
    """Value and gradients of a function of tensors, summed to a scalar, on the backend in use."""
    arrays = [np.asarray(array, dtype=dtype) for array in arrays]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
            total = tf.reduce_sum(value)
        gradients = tape.gradient(total, tensors, unconnected_gradients="zero")
    else:
        import jax

        value = function(*[jax.numpy.asarray(array) for array in arrays])
        gradients = jax.grad(lambda *a: jax.numpy.sum(function(*a)), argnums=tuple(range(len(arrays))))(*arrays)
    return to_numpy(value), [to_numpy(g) for g in gradients]


def in_graph(function, *arrays, jit_compile=False):
    """Run a function of tensors inside a compiled graph of the backend in use."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        graph = tf.function(function, jit_compile=jit_compile)
        return to_numpy(graph(*[tf.constant(array) for array in arrays]))
    import jax

    return to_numpy(jax.jit(function)(*arrays))


def central_differences(function, *arrays, step=1e-6):
    """Gradients of a float64 NumPy function that returns values to be summed."""
    arrays = [np.array(array, dtype="float64") for array in arrays]
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = np.sum(function(*arrays))
            array[index] = kept - step
            below = np.sum(function(*arrays))
            array[index] = kept
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients


def random_units(rng, rows, dim):
    """Random unit vectors as rows."""
    rows = rng.normal(size=(rows, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def check_layer(make_layer, input_shape, directory, *, half_precision_output="float32"):
    """Build, symbolic call, eager call, fit, mixed precision, save and load, config round trip, XLA."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, *input_shape)).astype("float32")

    symbolic = make_layer()(keras.Input(input_shape))
    layer = make_layer()
    outputs = layer(inputs)
    assert layer.compute_output_shape((None, *input_shape)) == (None, *symbolic.shape[1:])
    assert tuple(outputs.shape) == (4, *symbolic.shape[1:])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"

    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    again.build((None, *input_shape))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(again(inputs)), to_numpy(outputs))

    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        try:
            tensor = keras.Input(input_shape)
            output = make_layer()(keras.layers.Activation("linear")(tensor))
            assert output.dtype == (half_precision_output if policy != "float32" else "float32")
            model = keras.Model(tensor, keras.layers.Activation("linear", dtype="float32")(output))
            model.compile("sgd", "mse", jit_compile=policy != "mixed_float16")
            history = model.fit(inputs, np.zeros((4, *symbolic.shape[1:])), epochs=2, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        assert np.isfinite(history.history["loss"]).all()
        path = directory / f"{policy}.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(to_numpy(loaded(inputs)), to_numpy(model(inputs)))


def check_loss(make_loss, y_true, y_pred, *, num_classes=None):
    """Shapes, reductions, weights, halves, labels, graph and XLA, symbolic call, fit, config round trip."""
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred, dtype="float32")
    loss = make_loss(reduction=None)
    values = to_numpy(loss(y_true, y_pred))
    assert values.shape == (len(y_pred),)
    assert np.isfinite(values).all()

    np.testing.assert_allclose(to_numpy(make_loss()(y_true, y_pred)), values.mean(), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(make_loss(reduction="sum")(y_true, y_pred)), values.sum(), rtol=1e-5)
    weights = np.linspace(0.0, 2.0, len(values)).astype("float32")
    weighted = to_numpy(make_loss()(y_true, y_pred, sample_weight=weights))
    np.testing.assert_allclose(weighted, (values * weights).mean(), rtol=1e-5)
    normalised = make_loss(reduction="mean_with_sample_weight")(y_true, y_pred, sample_weight=weights)
    np.testing.assert_allclose(to_numpy(normalised), (values * weights).sum() / weights.sum(), rtol=1e-5)

    config = keras.losses.serialize(loss)
    again = keras.losses.deserialize(config)
    assert type(again) is type(loss)
    assert keras.losses.serialize(again) == config
    np.testing.assert_array_equal(to_numpy(again(y_true, y_pred)), values)

    for jit_compile in (False, True):
        graph = in_graph(lambda t, p: loss(t, p), y_true, y_pred, jit_compile=jit_compile)
        np.testing.assert_allclose(graph, values, rtol=1e-5, atol=1e-6)
    for dtype in ("float16", "bfloat16"):
        half = ops.cast(y_pred, dtype)
        rounded = ops.convert_to_numpy(ops.cast(half, "float32"))
        assert keras.backend.standardize_dtype(loss(y_true, half).dtype) == "float32"
        np.testing.assert_array_equal(to_numpy(loss(y_true, half)), to_numpy(loss(y_true, rounded)))

    _check_fit(make_loss, y_true, y_pred)
    if num_classes is not None:
        _check_class_labels(loss, values, y_true, y_pred, num_classes)


def _check_fit(make_loss, y_true, y_pred):
    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        try:
            identity = keras.initializers.Identity()
            model = keras.Sequential(
                [
                    keras.Input(y_pred.shape[1:]),
                    keras.layers.Dense(y_pred.shape[-1], kernel_initializer=identity, use_bias=False),
                ]
            )
            model.compile(keras.optimizers.SGD(1e-3), make_loss(), jit_compile=policy == "float32")
            history = model.fit(y_pred, y_true, batch_size=len(y_pred), epochs=2, verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        first, second = history.history["loss"]
        expected = float(to_numpy(make_loss()(y_true, y_pred)))
        assert abs(first - expected) <= (1e-5 if policy == "float32" else 0.05) * max(1.0, expected)
        assert np.isfinite(second)


def _check_class_labels(loss, values, y_true, y_pred, num_classes):
    one_hot = np.eye(num_classes, dtype="float32")[y_true]
    for labels in (y_true[:, None], y_true.astype("float32"), y_true.astype("uint8"), one_hot):
        np.testing.assert_allclose(to_numpy(loss(labels, y_pred)), values, rtol=1e-5, atol=1e-6)

    bad_row = one_hot.copy()
    bad_row[1] = 0.0
    for bad in (-1, num_classes, 0.5, np.nan, bad_row):
        labels = bad if isinstance(bad, np.ndarray) else y_true.astype("float32")
        if labels is not bad:
            labels[1] = bad
        with pytest.raises(ValueError, match=r"`y_true` must hold .*y_true\[1\]"):
            loss(labels, y_pred)
        graph = in_graph(lambda t, p: loss(t, p), labels, y_pred, jit_compile=labels is bad)
        assert np.isnan(graph[1])
        np.testing.assert_allclose(np.delete(graph, 1), np.delete(values, 1), rtol=1e-5, atol=1e-6)
