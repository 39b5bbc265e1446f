"""Over how many devices are a head's classes split?"""

import keras


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


def splits_classes(head):
    """Whether a head's classes are split over devices, which `fused="stream"` cannot bear.

    Args:
        head: A `Head` with `fused`; one that is not built splits nothing yet.

    Raises:
        ValueError: If they are, and `fused` is `"stream"`: its blocks are cut out of the class axis, so each device
            would gather all agents.
    """
    split = head.built and class_shards(head.kernel) > 1
    if split and head.fused == "stream":
        raise ValueError(
            '`fused` must be "auto", "buffer" or False where the classes are split over devices. '
            f"Received: fused={head.fused!r}"
        )
    return split
