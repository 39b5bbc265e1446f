"""Small files of images that say that they are huge, each as `decode_image` meets it."""

import io
import struct
import zlib

from PIL import Image


def _encoded(kind, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


def png(height, width):
    """All its rows are there, black and well compressed, if there are fewer than 10 000."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer, rows = zlib.compressobj(9), []
    if height < 10_000:
        rows = [packer.compress(bytes(1 + 3 * width)) for _ in range(height)]
    data = b"".join(rows) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(height, width):
    """Progressive: TensorFlow decodes one that is cut, at its whole size."""
    content = _encoded("JPEG", progressive=True)
    place = content.index(b"\xff\xc2") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def bmp(height, width):
    content = _encoded("BMP")
    content[18:26] = struct.pack("<ii", width, -height)
    return bytes(content)


def gif(height, width):
    """A small canvas and a huge frame on it."""
    content = _encoded("GIF")
    place = content.index(b",\0\0\0\0\x10\0\x10\0") + 5
    content[place : place + 4] = struct.pack("<HH", width, height)
    return bytes(content)
