"""Whether an encoded image is one that training can decode, and decodes as everybody else does."""

from keras_normface.prepare.image_header import (
    HeaderError,
    UnknownFormatError,
    gif_frame_sizes,
    image_header,
    is_plain_bmp,
)

SMALLEST_SIDE = 8
MOST_PIXELS = 50_000_000
ADOBE_MARKER = b"\xff\xee\x00\x0eAdobe"


class InvalidImageError(ValueError):
    """An image cannot be used. The message is the reason, or its name and the reason."""


def validated_size(encoded, size=None):
    """Decode an image to see whether it is sound.

    It is decoded as in training, by `tf.io.decode_image(encoded, channels=3, expand_animations=False)`, after the
    header has shown that it is not huge.

    Args:
        encoded: Bytes of a JPEG, PNG, BMP or GIF.
        size: `(height, width)` in pixels that it must have; `None`: any.

    Returns:
        Its `(height, width)` in pixels.

    Raises:
        InvalidImageError: A ValueError. If it is no image, truncated, below 8 x 8 pixels, above 50 megapixels, not of
            `size`, an animation, or of a kind that TensorFlow decodes otherwise than others do: more than 8 bits a
            channel, CMYK without Adobe's marker, or a BMP with a palette of colours. The kind of reason is what
            precedes a colon.

    Example:
    >>> import numpy as np, tensorflow as tf
    >>> png = tf.io.encode_png(np.zeros((112, 96, 3), "uint8")).numpy()
    >>> validated_size(png)
    (112, 96)
    >>> validated_size(png[:60])
    Traceback (most recent call last):
    ...
    keras_normface.prepare.validate.InvalidImageError: truncated or damaged
    """
    if not encoded:
        raise InvalidImageError("zero bytes")
    _check_header(encoded)
    found = _decoded_size(encoded)
    _check_sides(*found)
    if size is not None and found != tuple(size):
        raise InvalidImageError(f"wrong size: {found[0]}x{found[1]} instead of {size[0]}x{size[1]}")
    return found


def _check_header(encoded):
    try:
        header = image_header(encoded)
    except UnknownFormatError as error:
        raise InvalidImageError(f"not an image: {error}") from error
    except HeaderError as error:
        raise InvalidImageError(f"truncated or damaged: {error}") from error
    sizes = [(header.height, header.width)]
    if header.format == "GIF":
        for number, frame in enumerate(gif_frame_sizes(encoded)):
            if number:
                raise InvalidImageError("animation")
            sizes.append(frame)
    for height, width in sizes:
        if height * width > MOST_PIXELS:
            raise InvalidImageError(f"too large: {height}x{width}, more than {MOST_PIXELS // 10**6} megapixels")
    _check_sides(header.height, header.width)
    if header.bits > 8:
        raise InvalidImageError(f"more than 8 bits a channel: {header.bits}")
    if header.format == "JPEG" and header.channels == 4 and ADOBE_MARKER not in encoded:
        raise InvalidImageError("ambiguous CMYK: without Adobe's marker programs disagree about its colours")
    if header.format == "BMP" and not is_plain_bmp(encoded):
        raise InvalidImageError("unusual BMP: TensorFlow does not decode its palette, depth or compression")


def _check_sides(height, width):
    if min(height, width) < SMALLEST_SIDE:
        raise InvalidImageError(f"too small: {height}x{width}, below {SMALLEST_SIDE}x{SMALLEST_SIDE}")


def _decoded_size(encoded):
    import tensorflow as tf

    try:
        height, width, _ = tf.io.decode_image(encoded, channels=3, expand_animations=False).shape
    except tf.errors.OpError as error:
        raise InvalidImageError("truncated or damaged") from error
    return height, width
