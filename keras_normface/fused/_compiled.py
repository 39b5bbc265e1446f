"""Functions of tensors that are compiled by XLA wherever they are called."""

import functools

import keras


def has_compiler():
    """Whether the backend in use is one whose compiler is known here: TensorFlow or JAX."""
    return keras.backend.backend() in ("tensorflow", "jax")


@functools.lru_cache(maxsize=64)
def compiled(function):
    """Compile a function of tensors with XLA, also where the caller is not compiled.

    Only under XLA is a row of blocks written into one array in place, and are the passes over a block one pass;
    TensorFlow's own graph would copy the whole array for each block.

    Args:
        function: A function of tensors to tensors, without variables. It is compiled once per shape, so it should live
            as long as the program, or be a `functools.partial` that is kept.

    Returns:
        A function with the same arguments.

    Example:
    >>> from keras import ops
    >>> float(compiled(ops.square)(ops.array(3.0)))
    9.0
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
