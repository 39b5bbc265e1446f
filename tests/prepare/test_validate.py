"""Images of every kind, sound and not, made by Pillow; what TensorFlow makes of them, against Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_normface.prepare import InvalidImageError, validated_size
from tests.support import faces

FACE = Image.open(io.BytesIO(faces.face(1, 1))).convert("RGB").resize((40, 30))


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_that_claims(width, height, depth=8, data=b""):
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    chunks = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts.items()
        if part or name == b"IEND"
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def small_bmp(depth):
    """A whole BMP of 8 x 8 pixels, with a palette of 16 colours if its depth is 4."""
    palette = bytes(range(64)) if depth == 4 else b""
    pixels = bytes(range(64)) * 2 if depth == 16 else bytes(range(32))
    start = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, depth, 0, len(pixels), 0, 0, 0, 0) + palette + pixels


def cmyk_without_marker():
    encoded = encode(FACE.convert("CMYK"), "JPEG")
    at = encoded.index(b"\xff\xee")
    return encoded[:at] + encoded[at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big") :]


JPEG, PNG, BMP, GIF = (encode(FACE, kind) for kind in ("JPEG", "PNG", "BMP", "GIF"))
SOUND = {
    "jpeg": JPEG,
    "progressive": encode(FACE, "JPEG", progressive=True),
    "gray_jpeg": encode(FACE.convert("L"), "JPEG"),
    "cmyk_jpeg": encode(FACE.convert("CMYK"), "JPEG"),
    "jpeg_and_more": JPEG + b"more",
    "png": PNG,
    "gray_png": encode(FACE.convert("L"), "PNG"),
    "palette_png": encode(FACE.quantize(8), "PNG", bits=4),
    "one_bit_png": encode(FACE.convert("1"), "PNG"),
    "alpha_png": encode(FACE.convert("RGBA"), "PNG"),
    "bmp": BMP,
    "gray_bmp": encode(FACE.convert("L"), "BMP"),
    "alpha_bmp": encode(FACE.convert("RGBA"), "BMP"),
    "gif": GIF,
}
DEEP = Image.fromarray(np.arange(1200, dtype="uint16").reshape(30, 40) * 50)
BAD = {
    "empty": (b"", "zero bytes"),
    "text": (b"<html>not found</html>", "not an image"),
    "webp": (encode(FACE, "WEBP"), "not an image"),
    "tiff": (encode(FACE, "TIFF"), "not an image"),
    "jpeg_without_last_byte": (JPEG[:-1], "truncated or corrupt"),
    "jpeg_half": (JPEG[: len(JPEG) // 2], "truncated or corrupt"),
    "jpeg_head": (JPEG[:20], "truncated or corrupt"),
    "png_half": (PNG[: len(PNG) // 2], "truncated or corrupt"),
    "png_head": (PNG[:20], "truncated or corrupt"),
    "bmp_half": (BMP[: len(BMP) // 2], "truncated or corrupt"),
    "gif_half": (GIF[: len(GIF) // 2], "truncated or corrupt"),
    "one_pixel": (encode(FACE.resize((1, 1)), "PNG"), "too small: 1x1"),
    "narrow": (encode(FACE.resize((7, 30)), "JPEG"), "too small: 30x7"),
    "bomb": (png_that_claims(50_000, 40_000), "too large: 40000x50000"),
    "jpeg_bomb": (JPEG.replace(struct.pack(">HH", 30, 40), b"\xff\xf0\xff\xf0", 1), "too large: 65520x65520"),
    "sixteen_bits": (encode(DEEP, "PNG"), "more than 8 bits a channel: 16"),
    "cmyk": (cmyk_without_marker(), "ambiguous CMYK"),
    "palette_bmp": (encode(FACE.quantize(16), "BMP"), "unusual BMP"),
    "one_bit_bmp": (encode(FACE.convert("1"), "BMP"), "unusual BMP"),
    "deep_colours": (png_that_claims(40, 30, 16, zlib.compress(bytes(30 * 241))), "more than 8 bits a channel: 16"),
    "palette_of_4_bits_bmp": (small_bmp(4), "unusual BMP"),
    "16_bits_bmp": (small_bmp(16), "unusual BMP"),
    "animation": (encode(FACE, "GIF", save_all=True, append_images=[FACE.rotate(90)]), "animation"),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_image_is_decoded_as_pillow_does(name):
    encoded = SOUND[name]
    assert validated_size(encoded, (30, 40)) == (30, 40)
    with Image.open(io.BytesIO(encoded)) as picture:
        expected = np.asarray(picture.convert("RGB")).astype(int)
    decoded = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    assert np.abs(decoded - expected).mean() < (1 if picture.format == "JPEG" else 1e-9)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_with_its_reason(name):
    encoded, reason = BAD[name]
    with pytest.raises(InvalidImageError) as caught:
        validated_size(encoded)
    assert str(caught.value).startswith(reason)


def test_the_kinds_that_are_refused_though_tensorflow_takes_them_come_out_otherwise():
    for name in ("sixteen_bits", "cmyk", "palette_bmp"):
        decoded = tf.io.decode_image(BAD[name][0], channels=3).numpy()
        with Image.open(io.BytesIO(BAD[name][0])) as picture:
            expected = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(decoded - expected).mean() > 50


def test_another_size_is_refused():
    with pytest.raises(InvalidImageError, match="wrong size: 30x40 instead of 40x30"):
        validated_size(PNG, (40, 30))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([JPEG, PNG, BMP, GIF]), st.integers(0, 900), st.binary(min_size=1, max_size=30), st.booleans())
def test_damaged_images_are_decoded_or_refused(encoded, at, garbage, cut):
    damaged = encoded[:at] + garbage + (b"" if cut else encoded[at + len(garbage) :])
    try:
        height, width = validated_size(damaged)
    except InvalidImageError:
        return
    assert min(height, width) >= 8
