"""The middle of larger images, in batches and as prepared shards describe them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_normface import ImageBatches, Preprocessing
from keras_normface.data import IdentityFolder, center_crop
from keras_normface.data._images import cropped_preprocessing
from tests.support import faces

AT_112 = Preprocessing((112, 112), template="arcface_112x112")
AT_96 = Preprocessing((112, 96), template="sphereface_112x96")


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((112, 112), (112, 96), slice(0, 112), slice(8, 104)),
        ((7, 6), (4, 3), slice(1, 5), slice(1, 4)),
        ((5, 3), (4, 4), slice(0, 4), slice(0, 3)),
        ((3, 3), (3, 3), slice(0, 3), slice(0, 3)),
    ],
)
def test_it_is_the_slice(shape, size, rows, columns):
    image = np.arange(np.prod(shape) * 3, dtype="int32").reshape(*shape, 3)
    np.testing.assert_array_equal(center_crop(image, size), image[rows, columns])


def test_batches_have_the_middle(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path, 2, 3))
    small = Preprocessing((100, 60), scale=1, offset=0)
    data = ImageBatches(reader, 6, small, augmentation=None, center_crop=True, drop_remainder=False)
    images, _ = next(iter(data(0, 0)))
    found = sorted(image.tobytes() for image in images.numpy().astype("uint8"))
    whole = [tf.io.decode_jpeg(reader.sample(number)[0]).numpy() for number in range(6)]
    assert found == sorted(np.ascontiguousarray(image[6:106, 16:76]).tobytes() for image in whole)
    with pytest.raises(ValueError, match="exclude each other"):
        ImageBatches(reader, 6, small, resize=True, center_crop=True)


def test_a_smaller_image_stays_an_error(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path, 1, 2))
    data = ImageBatches(reader, 2, Preprocessing((112, 96)), center_crop=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="112,92,3"):
        next(iter(data(0, 0)))


def test_the_template_of_the_middle():
    assert cropped_preprocessing(AT_112, (112, 96)) == AT_96
    assert cropped_preprocessing(AT_96, (112, 96)) == AT_96
    assert cropped_preprocessing(AT_112, (100, 100)) == Preprocessing((100, 100))


def test_shards_that_say_how_they_were_aligned(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path, 1, 2))
    reader.preprocessing = AT_112
    with pytest.raises(ValueError, match="size: the reader"):
        ImageBatches(reader, 2, AT_96)
    assert ImageBatches(reader, 2, AT_96, center_crop=True).preprocessing == AT_96
    with pytest.raises(ValueError, match="channels"):
        ImageBatches(reader, 2, AT_96.replace(channels="BGR"), center_crop=True)
