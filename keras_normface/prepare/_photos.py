"""Photos that come from anywhere: checked, decoded, warped and encoded."""

import io
import re
import warnings

import numpy as np

from keras_normface._image_headers import MOST_PIXELS
from keras_normface.data import decode_image

SMALLEST_SIDE = 8
SIGNATURES = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")


class InvalidImageError(ValueError):
    """An image cannot be used. The message is the reason, or its name and the reason."""


def validated_size(encoded, size=None):
    """Decode an image to see whether it is sound.

    It is decoded as in training, by `keras_normface.data.decode_image`, after Pillow has read its header, and has
    shown that it is not huge. The pixels of a BMP are compared with Pillow's.

    Args:
        encoded: Bytes of a JPEG, PNG, BMP or GIF.
        size: `(height, width)` in pixels that it must have; `None`: any.

    Returns:
        Its `(height, width)` in pixels.

    Raises:
        InvalidImageError: A ValueError. If it is not an image, truncated, below 8 x 8 pixels, above 50 megapixels,
            not of `size`, an animation, or of a kind that TensorFlow decodes otherwise than others do: more than 8
            bits a channel, CMYK without Adobe's marker, or a BMP with a palette of colours. The kind of reason is
            what precedes a colon.
        ImportError: If Pillow is not installed.

    Example:
    >>> import numpy as np, tensorflow as tf
    >>> png = tf.io.encode_png(np.zeros((112, 96, 3), "uint8")).numpy()
    >>> validated_size(png)
    (112, 96)
    >>> validated_size(png[:60])
    Traceback (most recent call last):
    ...
    keras_normface.prepare._photos.InvalidImageError: truncated or corrupt
    """
    if not encoded:
        raise InvalidImageError("zero bytes")
    expected = _checked_by_pillow(encoded)
    pixels = _decoded_by_tensorflow(encoded, expected)
    found = tuple(pixels.shape[:2])
    _check_sides(*found)
    if size is not None and found != tuple(size):
        raise InvalidImageError(f"wrong size: {found[0]}x{found[1]} instead of {size[0]}x{size[1]}")
    return found


def _checked_by_pillow(encoded):
    """Bytes → `None`, or of a BMP Pillow's (height, width, 3) pixels; the header decides whether it is refused."""
    if not encoded.startswith(SIGNATURES):
        raise InvalidImageError("not an image: it does not begin as a JPEG, PNG, BMP or GIF")
    pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd files that are read all the same
            with _opened(encoded) as image:
                _check_kind(image)
                return np.asarray(image.convert("RGB")) if image.format == "BMP" else None
    except (InvalidImageError, MemoryError):
        raise
    except pillow().DecompressionBombError as error:
        raise InvalidImageError(f"too large: more than {MOST_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # as in `decoded`
        raise InvalidImageError(f"truncated or corrupt: {error}") from error


def _opened(encoded):
    """Bytes → Pillow's image, its header read: by the class itself, since `Image.open` says not how large a bomb is."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin

    classes = (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        GifImagePlugin.GifImageFile,
    )
    reader = next(reader for begins, reader in zip(SIGNATURES, classes, strict=True) if encoded.startswith(begins))
    return reader(io.BytesIO(encoded))


def _check_kind(image):
    width, height = image.size
    if image.format == "GIF" and image.is_animated:
        raise InvalidImageError("animation")
    if height * width > MOST_PIXELS:
        raise InvalidImageError(f"too large: {height}x{width}, more than {MOST_PIXELS // 10**6} megapixels")
    _check_sides(height, width)
    if image.format == "PNG" and ";16" in str(image.tile):
        raise InvalidImageError("more than 8 bits a channel: 16")
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise InvalidImageError("ambiguous CMYK: without Adobe's marker programs disagree about its colours")


def _check_sides(height, width):
    if min(height, width) < SMALLEST_SIDE:
        raise InvalidImageError(f"too small: {height}x{width}, below {SMALLEST_SIDE}x{SMALLEST_SIDE}")


def _decoded_by_tensorflow(encoded, expected):
    """Bytes → (height, width, 3) uint8, which must equal `expected` unless it is `None`."""
    import tensorflow as tf

    try:
        pixels = decode_image(encoded)
    except tf.errors.OpError as error:
        if expected is None:
            raise InvalidImageError("truncated or corrupt") from error
        pixels = None
    if expected is not None and (pixels is None or not np.array_equal(pixels.numpy(), expected)):
        raise InvalidImageError("unusual BMP: TensorFlow does not decode its palette, depth or compression")
    return pixels


FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION_TAG = 0x0112
ENCODINGS = {"jpeg": ".jpg", "png": ".png"}
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class NotAnImageError(ValueError):
    """Bytes that are not an image, or one that is corrupt or too large."""


def pillow():
    """Return the module `PIL.Image`, or raise ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading photos needs Pillow: pip install 'keras-normface[align]'") from error
    return Image


def decoded(content):
    """Bytes → (height, width, 3) uint8 RGB: upright by EXIF, 16 bits to 8, on white, an animation's first frame."""
    image_module = pillow()
    try:
        with image_module.open(io.BytesIO(content), formats=FORMATS) as image:
            limit = image_module.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise NotAnImageError(f"{image.width} x {image.height} pixels, more than {limit}")
            image.load()
            return _rgb(_upright(image))
    except (NotAnImageError, MemoryError):
        raise
    except image_module.UnidentifiedImageError as error:
        raise NotAnImageError("no format that is read") from error
    # Before the size is known here: an error above twice the limit, below it a warning, which `strict_pillow` raises.
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        raise NotAnImageError(f"more than {image_module.MAX_IMAGE_PIXELS} pixels") from error
    except Exception as error:  # Decoders have many for corrupt files: OSError, SyntaxError, struct.error, ...
        # Addresses in memory would make the messages differ from run to run.
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error))[:200]
        raise NotAnImageError(f"{type(error).__name__}: {text}") from error


def warped(pixels, matrix, size):
    """(h, w, 3) uint8, (2, 3) matrix of (x, y, 1) → (*size, 3) uint8, bilinear, black outside."""
    image_module = pillow()
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # Pillow's places are those of corners: the centre of its first pixel is (0.5, 0.5).
    inverse[:, 2] += 0.5 - inverse[:, :2] @ (0.5, 0.5)
    height, width = size
    image = image_module.fromarray(pixels)
    affine, bilinear = image_module.Transform.AFFINE, image_module.Resampling.BILINEAR
    return np.asarray(image.transform((width, height), affine, inverse.ravel().tolist(), bilinear))


def encoded(pixels, encoding="jpeg", quality=95):
    """(height, width, 3) uint8 RGB → bytes: PNG, or JPEG with colours in full resolution."""
    options = {"quality": quality, "subsampling": 0} if encoding == "jpeg" else {}
    buffer = io.BytesIO()
    pillow().fromarray(pixels).save(buffer, encoding.upper(), **options)
    return buffer.getvalue()


def _upright(image):
    turns = pillow().Transpose
    methods = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
        method = methods.get(orientation)
    except Exception:  # corrupt EXIF data in a good image: as if there were none
        return image
    return image if method is None else image.transpose(method)


def _rgb(image):
    if image.mode in SIXTEEN_BITS:
        sixteen = np.clip(np.asarray(image).astype("int64"), 0, 65535)
        return np.repeat(((sixteen + 128) // 257).astype("uint8")[..., None], 3, axis=-1)
    if image.mode == "F":
        raise NotAnImageError("pixels are floats, of no known range")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = pillow().new("RGBA", image.size, "white")
        image = pillow().alpha_composite(ground, image)
    return np.array(image.convert("RGB"))
