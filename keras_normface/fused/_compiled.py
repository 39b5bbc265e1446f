"""Functions of tensors that are compiled by XLA wherever they are called."""

import functools

import keras


def has_compiler():
    """Whether the backend in use is one whose compiler is known here: TensorFlow or JAX.

    Returns:
        A bool.

    Example:
    >>> has_compiler() == (keras.backend.backend() in ("tensorflow", "jax"))
    True
    """
    return keras.backend.backend() in ("tensorflow", "jax")


@functools.lru_cache(maxsize=64)
def compiled(function):
    """Compile a function of tensors with XLA, also where the caller is not compiled; one program a shape."""
    # Only under XLA is a row of blocks written into one array in place, and are the passes over a block one pass;
    # TensorFlow's own graph would copy the whole array for each block.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
