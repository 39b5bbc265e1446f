"""Write what tensorflow-addons itself says: values and gradients of every case, as an .npz.

Runs in an environment of its own (`tensorflow==2.15.1 tensorflow-addons==0.23.0`):

    python tests/parity/generate_addons_reference.py OUTPUT.npz
"""

import sys
import warnings

import numpy as np
from cases import all_cases

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_addons as tfa


def value_and_gradient(name, options, y_true, y_pred):
    """The scalar (addons' contrastive loss reduces by itself) and its gradient."""
    loss = getattr(tfa.losses, name)(**options)
    y_true, y_pred = tf.constant(y_true), tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    gradient = tape.gradient(value, y_pred)
    return value.numpy(), tf.convert_to_tensor(gradient).numpy()


def main(path):
    """Compute all cases and write them."""
    arrays = {"versions": np.array([tf.__version__, tfa.__version__])}
    for key, name, options, y_true, y_pred in all_cases():
        arrays[f"{key}/value"], arrays[f"{key}/gradient"] = value_and_gradient(name, options, y_true, y_pred)
    np.savez(path, **arrays)
    print(f"{(len(arrays) - 1) // 2} cases of tensorflow-addons {tfa.__version__} in {path}")


if __name__ == "__main__":
    main(sys.argv[1])
