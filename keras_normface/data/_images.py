"""Images under TensorFlow, one at a time: decode, resize, crop, augment."""

import dataclasses
from collections.abc import Callable

from keras_normface import _validation


def decode_image(encoded):
    """Decode an image by its content, whatever its name says. Training, evaluation and embedding all decode by this.

    They refuse images of more than 50 megapixels by their headers, before they decode; this function alone does not.

    Args:
        encoded: Scalar string tensor, or bytes: a JPEG, PNG, BMP or GIF, of which the first frame is taken.

    Returns:
        uint8 tensor `(height, width, 3)`, RGB: grey values are repeated, an alpha channel is dropped.

    Raises:
        tensorflow.errors.InvalidArgumentError: If it is not such an image, or corrupt; in a graph, when it runs.

    Example:
    >>> import tensorflow as tf
    >>> decode_image(tf.io.encode_png(tf.constant([[[7]]], "uint8"))).numpy().tolist()
    [[[7, 7, 7]]]
    """
    import tensorflow as tf

    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def resize_image(image, size):
    """Resize an image, bilinearly with antialiasing; one that has the size already stays as it is.

    Args:
        image: uint8 tensor `(height, width, channels)`.
        size: Pair (height, width).

    Returns:
        uint8 tensor `(*size, channels)`: values are rounded, halves to even, as `tf.round` does.

    Example:
    >>> import numpy as np
    >>> resize_image(np.uint8([[[0], [9], [8], [8]]]), (1, 2)).numpy().ravel().tolist()
    [5, 8]
    """
    import tensorflow as tf

    image = tf.convert_to_tensor(image)

    def resized():
        pixels = tf.image.resize(image, size, antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == size), lambda: image, resized)


def center_crop(image, size):
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
    >>> center_crop(np.arange(5).reshape(1, 5, 1), (1, 3)).numpy().ravel().tolist()
    [1, 2, 3]
    """
    import tensorflow as tf

    image = tf.convert_to_tensor(image)
    start = tf.maximum((tf.shape(image)[:2] - size) // 2, 0)
    return image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def cropped_template(template, image_size, size):
    """Template of images of `image_size` that are cut to `size` in their middle; `None` if there is none."""
    if image_size is None or image_size == tuple(size):
        return template
    known = template == "arcface_112x112" and (image_size, tuple(size)) == ((112, 112), (112, 96))
    return "sphereface_112x96" if known else None


def check_images_fit(image_size, template, preprocessing, resize, center_crop):
    """Refuse images whose recorded size or template is not that of `preprocessing`, naming the option that mends it."""
    size = preprocessing.size
    cuts = image_size is not None and all(ours >= wanted for ours, wanted in zip(image_size, size, strict=True))
    differences = []
    if image_size is not None and image_size != size and not resize and not (center_crop and cuts):
        differences.append(f"size: the data {image_size}, `preprocessing` {size}")
    found = cropped_template(template, image_size, size) if center_crop else template
    if None not in (found, preprocessing.template) and found != preprocessing.template:
        differences.append(f"template: the data {found!r}, `preprocessing` {preprocessing.template!r}")
    if not differences:
        return
    if cuts and not center_crop and cropped_template(template, image_size, size) in (None, preprocessing.template):
        remedy = "`center_crop=True` cuts the images in their middle"
        remedy += ", which is the same template" if template and preprocessing.template else ""
    elif preprocessing.template is not None:
        remedy = (
            f"Align the photos with template={preprocessing.template!r}, or change `preprocessing` to what was used"
        )
    else:
        remedy = "`resize=True` resizes the images"
    raise ValueError(f"The images do not fit `preprocessing`. {'; '.join(differences)}. {remedy}")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of single images. They follow from the image's seed alone, so that they repeat.

    Args:
        mirror: Whether half of the images are mirrored.
        crop: Pixels, at least 0: each image is moved by up to so many, up or down and to the left or right; the
            edge is repeated in what becomes free.
        brightness: b in [0, 1): up to 255·b is added to all pixels or taken from them.
        contrast: c in [0, 1): the distance from the mean of the channel is multiplied by 1 - c to 1 + c.
        image: `None`, or a TensorFlow function `(image, seed) -> image` of an RGB image in 0..255, uint8 `(height,
            width, 3)`, and an int32 seed `(2,)` made for the `tf.random.stateless_*` functions. It comes last.

    Raises:
        ValueError: If a number is out of its range.

    Example:
    >>> import tensorflow as tf
    >>> image = tf.constant([[[0, 1, 2], [3, 4, 5]]], "uint8")
    >>> Augmentation()(image, mirrored=1, seed=tf.constant([0, 0])).numpy().tolist()
    [[[3, 4, 5], [0, 1, 2]]]
    """

    mirror: bool = True
    crop: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    image: Callable | None = None

    def __post_init__(self):
        _validation.boolean("mirror", self.mirror)
        object.__setattr__(self, "crop", _validation.integer("crop", self.crop, 0))
        for name in ("brightness", "contrast"):
            _validation.number(name, getattr(self, name), at_least=0, below=1)

    def __call__(self, image, mirrored, seed):
        """Return the changed image, a uint8 tensor of the same shape.

        Args:
            image: uint8 tensor `(height, width, 3)` of known shape.
            mirrored: int32 scalar, 1 or 0: whether this image is mirrored, if images are.
            seed: int32 tensor `(2,)`.
        """
        import tensorflow as tf

        shape = image.shape
        if self.mirror:
            image = tf.reverse(image, tf.range(1, 1 + mirrored))  # no axis, no work
        if self.crop:
            image = _moved(image, self.crop, _further(seed, 0))
        if self.brightness:
            image = tf.image.stateless_random_brightness(image, self.brightness, _further(seed, 1))
        if self.contrast:
            image = tf.image.stateless_random_contrast(image, 1 - self.contrast, 1 + self.contrast, _further(seed, 2))
        if self.image is not None:
            image = self.image(image, _further(seed, 3))
        return tf.ensure_shape(image, shape)


def _moved(image, most, seed):
    import tensorflow as tf

    height, width, _ = image.shape
    down, right = tf.unstack(tf.random.stateless_uniform([2], seed, -most, most + 1, tf.int32))
    rows = tf.clip_by_value(tf.range(height) - down, 0, height - 1)
    columns = tf.clip_by_value(tf.range(width) - right, 0, width - 1)
    return tf.gather(tf.gather(image, rows, axis=0), columns, axis=1)


def _further(seed, number):
    import tensorflow as tf

    return tf.random.fold_in(seed, number)
