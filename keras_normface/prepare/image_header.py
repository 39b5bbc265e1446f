"""What the first bytes of a JPEG, PNG, BMP or GIF say, without decoding it. Safe on any bytes.

Pillow's look at a header does not serve: it calls PNGs of 16 bits a colour RGB, hides the palettes of BMPs, and
raises at huge images before it says their size.
"""

import struct
from typing import NamedTuple

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
