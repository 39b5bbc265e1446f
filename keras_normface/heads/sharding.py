"""Over how many devices are a head's classes split, and how is a batch computed then?"""

import keras

from keras_normface import fused as fused_terms


def class_shards(kernel):
    """Number of devices that share the class axis of agents under the present `keras.distribution`.

    Args:
        kernel: The `keras.Variable` of the agents, `(classes, dim)`.

    Returns:
        A positive integer; 1 if there is no distribution, or each device has all classes.

    Example:
    >>> class_shards(keras.Variable([[1.0, 0.0], [0.0, 1.0]]))
    1
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    layout = distribution.get_variable_layout(kernel)
    axis = layout.axes[0]
    if axis is None:
        return 1
    mesh = layout.device_mesh
    return int(mesh.shape[list(mesh.axis_names).index(axis)])


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
