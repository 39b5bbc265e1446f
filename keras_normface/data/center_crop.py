"""The middle of a larger image: faces at 112x112 for networks that see 112x96."""


def cut_in_the_middle(image, size):
    """Cut an image to a size.

    Where an odd number of pixels goes, the one more goes below or to the right. A smaller side stays as it is.

    Args:
        image: Tensor `(height, width, channels)`.
        size: Pair (height, width).

    Returns:
        Tensor of the dtype of `image`.

    Source: The five points of InsightFace's template at 112x112 are those of SphereFace's at 112x96, each 8 pixels
    further to the right.

    Example:
    >>> import numpy as np
    >>> cut_in_the_middle(np.arange(5).reshape(1, 5, 1), (1, 3)).numpy().ravel().tolist()
    [1, 2, 3]
    """
    import tensorflow as tf

    image = tf.convert_to_tensor(image)
    start = tf.maximum((tf.shape(image)[:2] - size) // 2, 0)
    return image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def preprocessing_of_the_middle(preprocessing, size):
    """Say how images that are cut were prepared: another size, and a template where there is one.

    Args:
        preprocessing: A `Preprocessing` of the whole images.
        size: Pair (height, width) of the middle.

    Returns:
        A `Preprocessing`.
    """
    if preprocessing.size == tuple(size):
        return preprocessing
    known = preprocessing.template == "arcface_112x112" and (preprocessing.size, size) == ((112, 112), (112, 96))
    return preprocessing.replace(size=size, template="sphereface_112x96" if known else None)
