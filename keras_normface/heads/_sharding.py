"""Classes split over devices, on the JAX backend."""

import re

import keras

from keras_normface import fused as fused_terms
from keras_normface.heads._base import Head, class_shards


def fused_mode(head, batch_size, possible, agents=None):
    """How a head computes a batch: its `fused`, with `"auto"` resolved.

    Blocks of `"stream"` are cut out of the class axis, so that each device would gather all agents where that axis is
    split: `"buffer"` takes its place there.

    Args:
        head: A `Head` with `fused`, one of `fused.MODES`.
        batch_size: Samples of a batch, or `None` where unknown.
        possible: Whether its loss can be fused.
        agents: How many agents a batch is compared with; `None` means all of the head's.

    Returns:
        `False`, `"buffer"` or `"stream"`.

    Raises:
        ValueError: If `fused` is `"stream"`, and the classes are split over devices.

    Example:
    >>> from types import SimpleNamespace
    >>> fused_mode(SimpleNamespace(built=False, fused="auto", units=98_304), 256, possible=True)
    'buffer'
    """
    sharded = head.built and class_shards(head.kernel) > 1
    if sharded and head.fused == "stream":
        raise ValueError(
            '`fused` must be "auto", "buffer" or False where the classes are split over devices. '
            f"Received: fused={head.fused!r}"
        )
    if head.fused != "auto":
        return head.fused
    mode = fused_terms.choose_mode(batch_size, agents or head.units) if possible else False
    return "buffer" if mode and sharded else mode


BATCH_AXIS, CLASS_AXIS = "batch", "classes"


def agent_sharding(heads, devices=None, batch_groups=1):
    """Make the `keras.distribution.ModelParallel` that splits the agents of heads over devices, class by class.

    Hand it to `keras.distribution.set_distribution` before the model's variables are made. What has one row a class is
    then split: agents, their gradient, the optimizer's slots, and all arrays `batch × classes`. No device gathers them:
    devices exchange sums of `(batch,)` and the embeddings' gradient. All else is on every device; of the batch each
    group of devices has its part. Labels must be class ids, since one-hot rows would hold all classes.

    Args:
        heads: A `Head`, or a list of them, not built yet. Their names are how Keras finds the agents, so a model that
            is loaded needs heads of the names that were saved.
        devices: Names such as `"gpu:0"`; `None` means `keras.distribution.list_devices()`.
        batch_groups: In how many parts the batch is split. The devices of a part share the classes among them.

    Returns:
        A `keras.distribution.ModelParallel`.

    Raises:
        RuntimeError: If the backend is not JAX.
        ValueError: If a head is built already, its classes are no multiple of the devices that share them, or the
            devices no multiple of `batch_groups`.
        TypeError: If `heads` holds something else.

    Example:
    >>> import keras
    >>> from keras_normface.heads._margin_softmax import MarginSoftmaxHead
    >>> head = MarginSoftmaxHead(1_000_000)
    >>> if keras.backend.backend() == "jax":
    ...     with agent_sharding(head, keras.distribution.list_devices()).scope():
    ...         pass  # make, compile and train the model here
    """
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            "Agents are sharded on the JAX backend only (KERAS_BACKEND=jax). On TensorFlow every replica of a "
            "MirroredStrategy holds all agents; sample them, or train on one device with a fused head. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    heads = list(heads) if isinstance(heads, list | tuple) else [heads]
    devices = keras.distribution.list_devices() if devices is None else list(devices)
    if not isinstance(batch_groups, int) or batch_groups < 1 or not devices or len(devices) % batch_groups:
        raise ValueError(
            "`batch_groups` must be a positive integer that divides the number of devices. "
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
            "A head's agents are split when they are made: call `agent_sharding` and "
            f"`keras.distribution.set_distribution` before the model is built. Received: {head.name!r}, built already"
        )
    if head.units % shards:
        padded = -(-head.units // shards) * shards
        raise ValueError(
            f"The classes must be a multiple of the {shards} devices that share them: give the head units={padded}; "
            "an agent that no label names only repels, and its rows may be dropped afterwards. "
            f"Received: {head.name!r} with units={head.units}"
        )
