"""The middle of larger images, in batches and as prepared shards describe them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_normface import ImageBatches, Preprocessing
from keras_normface.data import IdentityFolder, center_crop
from keras_normface.data._images import cropped_template
from keras_normface.preprocessing import SCALINGS
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
    assert cropped_template("arcface_112x112", (112, 112), (112, 96)) == "sphereface_112x96"
    assert cropped_template("sphereface_112x96", (112, 96), (112, 96)) == "sphereface_112x96"
    assert cropped_template("arcface_112x112", (112, 112), (100, 100)) is None
    assert cropped_template(None, (112, 112), (112, 96)) is None


class Recorded:
    """A reader whose data record size and template of their images."""

    labels = np.zeros(2, "int32")

    def __init__(self, image_size, template):
        self.image_size, self.template = image_size, template

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    ("size", "template", "preprocessing", "options", "remedy"),
    [
        ((112, 112), "arcface_112x112", AT_96, {}, "size: .*template: .*`center_crop=True` .*same template"),
        ((112, 112), None, AT_96, {}, r"size: the data \(112, 112\), .*\(112, 96\).*`center_crop=True`"),
        ((112, 96), "sphereface_112x96", AT_112, {}, "template: .*Align the photos with template='arcface_112x112'"),
        ((112, 96), None, AT_112, {"center_crop": True}, "size: .*Align the photos"),
        ((100, 100), None, Preprocessing((112, 112)), {}, "size: .*`resize=True`"),
        ((112, 112), "sphereface_112x96", AT_112, {}, "template: .*Align"),
        ((112, 112), "sphereface_112x96", AT_112, {"resize": True}, "template: .*Align"),
    ],
)
def test_images_of_another_size_or_template_are_refused_with_the_option_that_mends_it(
    size, template, preprocessing, options, remedy
):
    with pytest.raises(ValueError, match=remedy):
        ImageBatches(Recorded(size, template), 2, preprocessing, **options)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
def test_scaling_and_channels_belong_to_the_recipe_whatever_the_data(scaling, channels):
    named = {**SCALINGS[scaling], "channels": channels}
    for size, template, wanted, options in [
        ((112, 112), "arcface_112x112", AT_112, {}),
        ((112, 112), "arcface_112x112", AT_96, {"center_crop": True}),
        ((112, 112), "arcface_112x112", AT_112.replace(template=None), {}),
        ((112, 112), None, AT_112, {}),
        (None, None, AT_96, {}),
        ((50, 40), None, AT_96, {"resize": True}),
    ]:
        wanted = wanted.replace(**named)
        assert ImageBatches(Recorded(size, template), 2, wanted, **options).preprocessing == wanted
