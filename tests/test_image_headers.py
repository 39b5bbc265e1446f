"""The number of pixels by the header, against Pillow's; huge, cut and made-up headers."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from keras_normface._image_headers import MOST_PIXELS, check_pixels, stated_pixels
from keras_normface.data import decode_image
from tests.support import bombs


def encoded(mode, kind, **options):
    buffer = io.BytesIO()
    Image.new(mode, (310, 170)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        *[(kind, mode, {}) for kind in ("PNG", "JPEG", "GIF", "BMP") for mode in ("RGB", "L", "1")],
        ("JPEG", "CMYK", {"progressive": True}),
        # What looks like a frame within another segment is not one.
        ("JPEG", "RGB", {"exif": b"Exif\0\0" + b"\xff\xc0\0\x11\x08\xff\xff\xff\xff" * 400}),
        ("PNG", "RGBA", {"pnginfo": None}),
        ("GIF", "P", {"comment": b"," * 700, "transparency": 0}),
    ],
)
def test_the_pixels_are_those_that_pillow_finds(kind, mode, options):
    content = encoded(mode, kind, **options)
    assert stated_pixels(content) == 310 * 170
    for end in range(0, len(content), 7):
        assert stated_pixels(content[:end]) <= 310 * 256
    padded = content[:2] + b"\xff\xff\0\xff\0" + content[2:]  # skipped between the segments of a JPEG
    assert kind != "JPEG" or stated_pixels(padded) == 310 * 170


def test_all_frames_of_an_animation_count():
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    first, *others = (Image.fromarray(rng.integers(0, 255, (20, 30), "uint8")) for _ in range(5))
    first.save(buffer, "GIF", save_all=True, append_images=others)
    assert stated_pixels(buffer.getvalue()) == 5 * 20 * 30


def test_frames_as_wide_as_one_and_as_high_as_another():
    wide, high = io.BytesIO(), io.BytesIO()
    Image.new("P", (310, 1)).save(wide, "GIF")
    Image.new("P", (1, 170)).save(high, "GIF")
    frame = high.getvalue()[high.getvalue().index(b",\0\0\0\0") :]
    crossed = wide.getvalue()[:-1] + frame
    assert tuple(decode_image(crossed).shape) == (170, 310, 3)
    assert stated_pixels(crossed) == 170 * 310


@pytest.mark.parametrize("make", [bombs.png, bombs.jpeg, bombs.bmp, bombs.gif])
def test_what_is_huge_by_its_header_is_named(make):
    check_pixels([make(10_000, MOST_PIXELS // 10_000)], str)
    with pytest.raises(ValueError, match=r"b\.x is too large: .* 50 megapixels. Received: 3,600,000,000 pixels"):
        check_pixels([b"", b"no image", make(60_000, 60_000)], ["", "", "b.x"].__getitem__)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff" * 2_000_000,
        b"\xff\xd8" + b"\xff\0" * 1_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000,
        b"GIF89a" + bytes(7) + b"!\1" + b"\1a" * 500_000,
        b"GIF89a" + bytes(7) + b"!\1\0" * 100_000,
    ],
)
def test_made_up_blocks_take_linear_time(content):
    before = time.process_time()
    assert stated_pixels(content) == 0
    assert time.process_time() - before < 2


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"lossless": True, "mode": "RGBA"}])
def test_webp_which_newer_tensorflow_decodes(options):
    mode = options.pop("mode", "RGB")
    buffer = io.BytesIO()
    Image.new(mode, (310, 170)).save(buffer, "WEBP", **options)
    assert stated_pixels(buffer.getvalue()) == 310 * 170
    Image.new("RGB", (30, 20)).save(
        animated := io.BytesIO(), "WEBP", save_all=True, append_images=[Image.new("L", (30, 20))]
    )
    assert stated_pixels(animated.getvalue()) == 30 * 20


@pytest.mark.parametrize(
    "content", [b"\xff\x0aabc", b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\xd8" + b"\xff\x01" * 5_000_000]
)
def test_headers_that_are_not_read_to_their_end_are_too_large(content):
    before = time.process_time()
    with pytest.raises(ValueError, match="jpg is too large"):
        check_pixels([content], lambda place: "a.jpg")
    assert time.process_time() - before < 2
