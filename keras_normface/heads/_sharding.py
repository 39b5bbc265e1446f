"""Classes split over devices, on the JAX backend."""

import re

import keras

from keras_normface import _validation
from keras_normface import fused as fused_terms
from keras_normface.heads._base import Head, class_shards


def fused_mode(head, batch_size, possible, classes=None):
    """A head's `fused` with `"auto"` resolved; `classes` are those that a batch is compared with, None means all."""
    # Blocks of "stream" are cut out of the class axis: each device would gather the whole kernel where it is split.
    sharded = head.built and class_shards(head.kernel) > 1
    if sharded and head.fused == "stream":
        raise ValueError(
            '`fused` must be "auto", "buffer" or False where the classes are split over devices. '
            f"Received: fused={head.fused!r}"
        )
    if head.fused != "auto":
        return head.fused
    mode = fused_terms.choose_mode(batch_size, classes or head.units) if possible else False
    return "buffer" if mode and sharded else mode


BATCH_AXIS, CLASS_AXIS = "batch", "classes"


def class_sharding(heads, devices=None, batch_groups=1):
    """Make the `keras.distribution.ModelParallel` that splits the class centres of heads over devices.

    Hand it to `keras.distribution.set_distribution` before the model's variables are made. What has one row a class is
    then split: kernel, its gradient, the optimizer's slots, and all arrays `batch × classes`. No device gathers them:
    devices exchange sums of `(batch,)` and the embeddings' gradient. All else is on every device; of the batch each
    group of devices has its part. Labels must be class ids, since one-hot rows would hold all classes.

    Args:
        heads: A `Head`, or a list of them, not built yet. Their names are how Keras finds the kernels, so a model that
            is loaded needs heads of the names that were saved.
        devices: Names such as `"gpu:0"`; `None` means `keras.distribution.list_devices()`.
        batch_groups: In how many parts the batch is split. The devices of a part share the classes among them.

    Returns:
        A `keras.distribution.ModelParallel`.

    Raises:
        RuntimeError: If the backend is not JAX.
        ValueError: If a head is built already, its classes are not a multiple of the devices that share them, or the
            devices are not a multiple of `batch_groups`.
        TypeError: If `heads` holds something else.

    Example:
    >>> import keras
    >>> from keras_normface.heads import MarginSoftmaxHead
    >>> head = MarginSoftmaxHead(1_000_000)
    >>> if keras.backend.backend() == "jax":
    ...     with class_sharding(head, keras.distribution.list_devices()).scope():
    ...         pass  # make, compile and train the model here
    """
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            "Classes are sharded on the JAX backend only (KERAS_BACKEND=jax). On TensorFlow every replica of a "
            "MirroredStrategy holds all classes; sample them, or train on one device with a fused head. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    heads = list(heads) if isinstance(heads, list | tuple) else [heads]
    devices = keras.distribution.list_devices() if devices is None else list(devices)
    _validation.integer("batch_groups", batch_groups, 1)
    if not devices or len(devices) % batch_groups:
        raise ValueError(
            "`batch_groups` must divide the number of devices. "
            f"Received: batch_groups={batch_groups!r}, {len(devices)} devices"
        )
    shards = len(devices) // batch_groups
    mesh = keras.distribution.DeviceMesh((batch_groups, shards), (BATCH_AXIS, CLASS_AXIS), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    for head in heads:
        _check(head, shards)
    for name in dict.fromkeys(head.name for head in heads):
        layouts[f"^(.*/)?{re.escape(name)}/kernel$"] = (CLASS_AXIS, None)
        layouts[f"^(.*/)?{re.escape(name)}/bias$"] = (CLASS_AXIS,)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name=BATCH_AXIS)


def _check(head, shards):
    if not isinstance(head, Head):
        raise TypeError(f"`heads` must be a Head or a list of them. Received: {head!r}")
    if head.built:
        raise ValueError(
            "A head's kernel is split when it is made: call `class_sharding` and "
            f"`keras.distribution.set_distribution` before the model is built. Received: {head.name!r}, built already"
        )
    if head.units % shards:
        padded = -(-head.units // shards) * shards
        raise ValueError(
            f"The classes must be a multiple of the {shards} devices that share them: give the head units={padded}; "
            "a class that no label names only repels, and its row may be dropped afterwards. "
            f"Received: {head.name!r} with units={head.units}"
        )
