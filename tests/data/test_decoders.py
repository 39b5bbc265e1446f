"""TensorFlow's decoder (training, evaluation, embedding) and Pillow's (photos) give the same pixels."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_normface.data import decode_image, resize_image
from keras_normface.inference._pillow import decoded_face, resized_face
from keras_normface.prepare._photos import decoded
from tests.support import faces

FACE = Image.open(io.BytesIO(faces.face(1, 1))).convert("L").resize((40, 31))
# Three bands that differ, with the face's fine structure and saturated corners.
RAMP = np.add.outer(np.arange(31) * 4, np.arange(40) * 3)
COLOURED = Image.fromarray(np.stack([np.asarray(FACE), 255 - np.asarray(FACE), RAMP], -1).astype("uint8"))


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_alpha(value):
    picture = COLOURED.convert("RGBA")
    picture.putalpha(value)
    return picture


LOSSLESS = {
    "png_rgb": encode(COLOURED, "PNG"),
    "png_grey": encode(FACE, "PNG"),
    "png_one_bit": encode(FACE.convert("1"), "PNG"),
    "png_palette": encode(COLOURED.quantize(64), "PNG"),
    "png_palette_4_bits": encode(COLOURED.quantize(16), "PNG", bits=4),
    "png_rgb_opaque": encode(with_alpha(255), "PNG"),
    "png_grey_opaque": encode(with_alpha(255).convert("LA"), "PNG"),
    "bmp_rgb": encode(COLOURED, "BMP"),
    "bmp_grey": encode(FACE, "BMP"),
    "bmp_opaque": encode(with_alpha(255), "BMP"),
    "gif": encode(COLOURED.quantize(64), "GIF"),
    "gif_grey": encode(FACE, "GIF"),
    "gif_first_frame": encode(COLOURED.quantize(64), "GIF", save_all=True, append_images=[FACE.rotate(90)]),
}
JPEG = {
    "rgb": encode(COLOURED, "JPEG", quality=95),
    "full_colour": encode(COLOURED, "JPEG", quality=95, subsampling=0),
    "poor": encode(COLOURED, "JPEG", quality=10),
    "progressive": encode(COLOURED, "JPEG", progressive=True),
    "grey": encode(FACE, "JPEG"),
    "cmyk": encode(COLOURED.convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_images_are_the_same_in_every_pixel(name):
    np.testing.assert_array_equal(decode_image(LOSSLESS[name]).numpy(), decoded(LOSSLESS[name]))


@pytest.mark.parametrize("name", JPEG)
def test_a_jpeg_differs_by_the_rounding_of_its_transform(name):
    difference = np.abs(decode_image(JPEG[name]).numpy().astype(int) - decoded(JPEG[name]))
    # TensorFlow's default is libjpeg's fast transform, Pillow's the accurate one. Measured: at most 7, 1.26 on average.
    assert difference.max() <= 8
    assert difference.mean() <= 1.5


def test_alpha_is_dropped_by_one_and_blended_with_white_by_the_other():
    encoded = encode(with_alpha(100), "PNG")
    expected = np.asarray(COLOURED)
    np.testing.assert_array_equal(decode_image(encoded).numpy(), expected)
    blended = 255 + (expected.astype(float) - 255) * 100 / 255
    assert np.abs(decoded(encoded) - blended).max() <= 1


def test_in_a_graph_as_in_eager_mode():
    (image,) = tf.data.Dataset.from_tensor_slices([LOSSLESS["png_rgb"]]).map(decode_image)
    np.testing.assert_array_equal(image, np.asarray(COLOURED))


def test_no_image_is_an_error():
    for content in (b"", b"<html>", LOSSLESS["png_rgb"][:60]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_image(content)


def test_an_image_of_the_size_stays_and_others_are_clipped_and_rounded():
    pixels = np.asarray(COLOURED)
    np.testing.assert_array_equal(resize_image(pixels, (31, 40)), pixels)
    for size in ((16, 21), (62, 40)):
        expected = np.clip(tf.image.resize(pixels, size, antialias=True).numpy(), 0, 255)
        found = resize_image(pixels, size)
        assert found.dtype == tf.uint8
        np.testing.assert_array_equal(found, np.rint(expected))


def test_halving_averages_pairs_but_for_the_antialiasing_beyond_them():
    rows = np.repeat(np.uint8([0, 0, 100, 100])[:, None, None], 3, axis=-1)
    # Triangle of two pixels' half width: weights 1, 3, 3, 1 eighths inside, 3, 3, 1 sevenths at the edge.
    np.testing.assert_array_equal(resize_image(rows, (2, 1))[:, 0, 0], [14, 86])


@pytest.mark.parametrize("name", LOSSLESS)
def test_aligned_faces_that_pillow_decodes_are_the_same_in_every_pixel(name):
    np.testing.assert_array_equal(decoded_face(LOSSLESS[name], name), decode_image(LOSSLESS[name]).numpy())


def test_aligned_faces_that_pillow_decodes_lose_alpha_keep_their_orientation_and_have_8_bits():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.asarray(FACE).astype("uint16") << 8) + 255)
    for encoded in (encode(with_alpha(100), "PNG"), encode(COLOURED, "PNG", exif=exif), encode(deep, "PNG")):
        np.testing.assert_array_equal(decoded_face(encoded, "x"), decode_image(encoded).numpy())


def unit(pixels):
    """Embedding of a face: means of squares of 8 pixels, less the mean of all, on the sphere."""
    cells = np.asarray(pixels, "float64")[:112, :88].reshape(14, 8, 11, 8, 3).mean(axis=(1, 3)).ravel()
    cells -= cells.mean()
    return cells / np.linalg.norm(cells)


def test_how_far_pillow_and_tensorflow_are_apart_on_faces():
    pixels, embeddings, resized = [], [], []
    for person in range(1, 11):
        encoded = faces.face(person, 1)
        ours, theirs = decoded_face(encoded, "x"), decode_image(encoded).numpy()
        pixels.append(np.abs(ours.astype(int) - theirs).max())
        embeddings.append(1 - unit(ours) @ unit(theirs))
        resized += [
            np.abs(resized_face(theirs, size).astype(int) - resize_image(theirs, size).numpy()).max()
            for size in ((56, 46), (150, 150))
        ]
    # Measured: 13 of 255 in a pixel of a JPEG, 1.2e-6 in the cosine, 1 after resizing.
    assert max(pixels) <= 14
    assert max(embeddings) < 5e-6
    assert max(resized) <= 1
