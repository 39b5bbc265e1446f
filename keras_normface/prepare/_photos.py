"""Photos that come from anywhere: checked, decoded, warped and encoded."""

import io
import re
import struct
from typing import NamedTuple

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
PNG_PALETTE = 3
JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_NO_FRAME_FOLLOWS = {0xD8, 0xD9, 0xDA}
BMP_SMALLEST_INFO = 40


class HeaderError(ValueError):
    """The bytes do not begin as a JPEG, PNG, BMP or GIF does, or end within the header."""


class UnknownFormatError(HeaderError):
    """The bytes do not begin as a JPEG, PNG, BMP or GIF does."""


class ImageHeader(NamedTuple):
    """What a header says.

    Attributes:
        format: "JPEG", "PNG", "BMP" or "GIF".
        height: In pixels.
        width: In pixels.
        channels: As stored: 1 gray, 2 gray and alpha, 3 colour or a palette, 4 colour and alpha or CMYK.
        bits: Per channel; of a palette, those of its colours.
    """

    format: str
    height: int
    width: int
    channels: int
    bits: int


def image_header(encoded):
    """Read the header of an encoded image. The content counts, not what a file is called.

    Args:
        encoded: Bytes.

    Returns:
        An `ImageHeader`. That the rest of the image is sound, it does not say.

    Raises:
        HeaderError: A ValueError. If it is no JPEG, PNG, BMP or GIF, or ends in the header.

    Source: the PNG specification (W3C), ITU-T T.81 (JPEG), GIF89a (CompuServe), BITMAPINFOHEADER (Microsoft).

    Example:
    >>> image_header(b"GIF89a" + bytes([40, 0, 30, 0, 0x80, 0, 0]))
    ImageHeader(format='GIF', height=30, width=40, channels=3, bits=8)
    """
    for begins, parse in PARSERS:
        if encoded.startswith(begins):
            try:
                return parse(encoded)
            except (struct.error, IndexError) as error:
                raise HeaderError("it ends in its header") from error
    raise UnknownFormatError("it is no JPEG, PNG, BMP or GIF")


def is_plain_bmp(encoded):
    """Whether a BMP is of a kind that TensorFlow decodes rightly.

    That is: 24 or 32 bits a pixel, or 8 with the palette of the 256 grays in order; not compressed.

    Args:
        encoded: Bytes of a BMP with a whole header.

    Example:
    >>> is_plain_bmp(b"BM" + struct.pack("<12xIiiHHII12x", 40, 9, 9, 1, 4, 0, 0))
    False
    """
    info, _, _, _, depth, compression = struct.unpack_from("<IiiHHI", encoded, 14)
    if info < BMP_SMALLEST_INFO or compression != 0 or depth not in (8, 24, 32):
        return False
    (colours,) = struct.unpack_from("<I", encoded, 46)
    start, count = 14 + info, min(colours or 256, 256)
    palette = encoded[start : start + 4 * count]
    return depth != 8 or all(palette[4 * gray : 4 * gray + 3] == bytes([gray]) * 3 for gray in range(count))


def gif_frame_sizes(encoded):
    """Yield `(height, width)` of each frame of a GIF, until its end or until it makes no sense.

    Args:
        encoded: Bytes of a GIF.

    Example:
    >>> head = b"GIF89a" + bytes([40, 0, 30, 0, 0, 0, 0])
    >>> list(gif_frame_sizes(head + b"," + bytes([0, 0, 0, 0, 20, 0, 10, 0, 0, 2, 0]) + b";"))
    [(10, 20)]
    """
    try:
        position = 13 + _colour_table(encoded[10])
        while encoded[position] in b",!":
            if encoded[position] == ord(","):
                width, height, packed = struct.unpack_from("<HHB", encoded, position + 5)
                yield height, width
                position += 11 + _colour_table(packed)
            else:
                position += 2
            while encoded[position]:
                position += 1 + encoded[position]
            position += 1
    except (struct.error, IndexError):
        return


def _colour_table(packed):
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _png(encoded):
    if encoded[12:16] != b"IHDR":
        raise HeaderError("it is a PNG without a header")
    width, height, depth, colour = struct.unpack_from(">IIBB", encoded, 16)
    if colour not in PNG_CHANNELS:
        raise HeaderError(f"it is a PNG of the unknown colour type {colour}")
    return ImageHeader("PNG", height, width, PNG_CHANNELS[colour], 8 if colour == PNG_PALETTE else depth)


def _jpeg(encoded):
    position = 2
    while True:
        if encoded[position] != 0xFF:
            raise HeaderError("it is a JPEG with a garbled header")
        while encoded[position] == 0xFF:
            position += 1
        marker = encoded[position]
        position += 1
        if marker in JPEG_WITHOUT_LENGTH:
            continue
        if marker in JPEG_NO_FRAME_FOLLOWS:
            raise HeaderError("it is a JPEG without a frame")
        (length,) = struct.unpack_from(">H", encoded, position)
        if marker in JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", encoded, position + 2)
            return ImageHeader("JPEG", height, width, channels, bits)
        if length < 2:
            raise HeaderError("it is a JPEG with a garbled header")
        position += length


def _bmp(encoded):
    info, width, height, _, depth = struct.unpack_from("<IiiHH", encoded, 14)
    if info < BMP_SMALLEST_INFO:
        width, height, _, depth = struct.unpack_from("<HHHH", encoded, 18)
    struct.unpack_from("<I", encoded, 46)
    bits = 8 if depth >= 24 or depth <= 8 else 5
    return ImageHeader("BMP", abs(height), abs(width), 4 if depth == 32 else 3, bits)


def _gif(encoded):
    width, height = struct.unpack_from("<HHxxx", encoded, 6)
    return ImageHeader("GIF", height, width, 3, 8)


PARSERS = (
    (b"\xff\xd8", _jpeg),
    (PNG_SIGNATURE, _png),
    (b"BM", _bmp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
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
    keras_normface.prepare._photos.InvalidImageError: truncated or damaged
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


FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION_TAG = 0x0112
ENCODINGS = {"jpeg": ".jpg", "png": ".png"}
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class NotAnImageError(ValueError):
    """Bytes that are no image, or one that is damaged or too large."""


def pillow():
    """Return the module `PIL.Image`, or raise ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Aligning needs Pillow: pip install 'keras-normface[align]'") from error
    return Image


def decoded(content):
    """Decode a photo to RGB.

    The orientation in its EXIF data is applied. Sixteen bits become eight; grey and CMYK become RGB; what is
    transparent is laid on white; of an animation the first image is taken.

    Args:
        content: Bytes: JPEG, PNG, BMP, GIF, WebP, TIFF or PPM.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        NotAnImageError: A ValueError. If it cannot be decoded to its end, or has more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`.

    Example:
    >>> pixels = np.full((3, 2, 3), 7, "uint8")
    >>> np.array_equal(decoded(encoded(pixels, "png")), pixels)
    True
    >>> decoded(b"something else")
    Traceback (most recent call last):
    ...
    keras_normface.prepare._photos.NotAnImageError: no format that is read
    """
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
    except Exception as error:  # Decoders have many for damaged files: OSError, SyntaxError, struct.error, ...
        # Addresses in memory would make the messages differ from run to run.
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error))[:200]
        raise NotAnImageError(f"{type(error).__name__}: {text}") from error


def warped(pixels, matrix, size):
    """Warp an image by a similarity, with bilinear interpolation. What lies outside of the image is black.

    Args:
        pixels: uint8 array `(height, width, 3)`.
        matrix: Floats `(2, 3)` that take a place (x, y, 1) in `pixels` to one in the result; the centre of the
            first pixel is (0, 0) in both.
        size: `(height, width)` of the result in pixels.

    Returns:
        uint8 array `(*size, 3)`.

    Example:
    >>> pixels = np.arange(12, dtype="uint8").reshape(2, 2, 3)
    >>> warped(pixels, [[1, 0, 1], [0, 1, 0]], (1, 3)).tolist()
    [[[0, 0, 0], [0, 1, 2], [3, 4, 5]]]
    """
    image_module = pillow()
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # Pillow's places are those of corners: the centre of its first pixel is (0.5, 0.5).
    inverse[:, 2] += 0.5 - inverse[:, :2] @ (0.5, 0.5)
    height, width = size
    image = image_module.fromarray(pixels)
    affine, bilinear = image_module.Transform.AFFINE, image_module.Resampling.BILINEAR
    return np.asarray(image.transform((width, height), affine, inverse.ravel().tolist(), bilinear))


def encoded(pixels, encoding="jpeg", quality=95):
    """Encode an image.

    Args:
        pixels: uint8 array `(height, width, 3)`, RGB.
        encoding: "jpeg", with colours in full resolution, or "png".
        quality: 1 to 100, of JPEG.

    Returns:
        Bytes.

    Example:
    >>> encoded(np.zeros((2, 2, 3), "uint8"), "png")[1:4]
    b'PNG'
    """
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
    except Exception:  # damaged EXIF data in a good image: as if there were none
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
