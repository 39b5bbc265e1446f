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
