"""How large images are by their headers, so that none is decoded that would fill the memory."""

import re

MOST_PIXELS = 50_000_000
MOST_MARKERS = 200_000  # of a JPEG, which has some dozens; more take longer than decoding
_MARKER = re.compile(rb"\xff[^\xff\0]", re.DOTALL)
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers of a JPEG without a length
_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


def check_pixels(images, name):
    """Encoded images, `name(place)` in the list → ValueError for one that decoding would make too large."""
    for place, encoded in enumerate(images):
        pixels = stated_pixels(encoded)
        if pixels > MOST_PIXELS:
            raise ValueError(
                f"{name(place)} is too large: it must have at most {MOST_PIXELS // 10**6} megapixels. "
                f"Received: {pixels:,} pixels, by its header"
            )


def stated_pixels(encoded):
    """Bytes → number of pixels that decoding makes, by the header; 0 for what no decoder takes."""
    if encoded.startswith(b"\xff\xd8"):
        return _of_jpeg(encoded)
    if encoded.startswith(b"\x89PNG"):
        return int.from_bytes(encoded[16:20], "big") * int.from_bytes(encoded[20:24], "big")
    if encoded.startswith(b"BM"):
        # A negative height: the rows begin with the uppermost.
        sides = (int.from_bytes(encoded[place : place + 4], "little", signed=True) for place in (18, 22))
        return abs(next(sides)) * abs(next(sides))
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return _of_webp(encoded)
    if encoded.startswith(
        (b"\xff\x0a", b"\0\0\0\x0cJXL ")
    ):  # JPEG XL, whose header is compressed: newer TensorFlow takes it
        return MOST_PIXELS + 1
    return _of_gif(encoded) if encoded.startswith(b"GIF8") else 0


def _of_jpeg(encoded):
    """Walk the segments to that of the frame, as libjpeg does: what is not a marker between them is skipped."""
    place, markers = 2, 0
    while match := _MARKER.search(encoded, place):
        place, markers = match.start(), markers + 1
        if markers > MOST_MARKERS:
            return MOST_PIXELS + 1
        marker = encoded[place + 1]
        if marker in _FRAME:
            return _number(encoded, place + 5, "big") * _number(encoded, place + 7, "big")
        if marker in (_SCAN, _END):
            break
        place += 2 if marker in _ALONE else 2 + max(2, _number(encoded, place + 2, "big"))
    return 0


def _of_webp(encoded):
    """Sides in the header of the canvas, of the lossless or of the lossy form; newer TensorFlow takes all three."""
    kind, data = encoded[12:16], encoded[20:30]
    if kind == b"VP8X":
        return (1 + int.from_bytes(data[4:7], "little")) * (1 + int.from_bytes(data[7:10], "little"))
    if kind == b"VP8L":
        sides = int.from_bytes(data[1:5], "little")
        return (1 + (sides & 0x3FFF)) * (1 + (sides >> 14 & 0x3FFF))
    return (_number(data, 6) & 0x3FFF) * (_number(data, 8) & 0x3FFF)


def _of_gif(encoded):
    """Walk the blocks: all frames are decoded, and the one that is taken is as wide as any and as high as any."""
    canvas, frames, widest, highest = _number(encoded, 6) * _number(encoded, 8), 0, 0, 0
    place = 13 + _colours(encoded[10:11])
    while (kind := encoded[place : place + 1]) in (b"!", b","):
        if kind == b",":
            width, height = _number(encoded, place + 5), _number(encoded, place + 7)
            frames, widest, highest = frames + width * height, max(widest, width), max(highest, height)
            place += 11 + _colours(encoded[place + 9 : place + 10])
        else:
            place += 2
        while place < len(encoded) and encoded[place]:
            place += 1 + encoded[place]
        place += 1
    return max(canvas, frames, widest * highest)


def _colours(flags):
    """Byte of flags → bytes of the table of colours that follows."""
    flags = int.from_bytes(flags, "little")
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _number(encoded, place, order="little"):
    """Two bytes → an integer; of what is cut, what there is."""
    return int.from_bytes(encoded[place : place + 2], order)
