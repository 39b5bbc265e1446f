"""Augmentation in a backbone acts in `fit` and nowhere else: not in the embedding model, not in the exported model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_normface as knf
from keras_normface.models import EmbeddingModel

SIZE = (12, 10, 3)
# What has no default, by class; a layer that Keras adds later is tested as soon as it has defaults.
ARGUMENTS = {
    "CenterCrop": {"height": 8, "width": 6},
    "Normalization": {"mean": [0.1, 0.2, 0.3], "variance": [1.0, 2.0, 3.0]},
    "RandomBrightness": {"factor": 0.5},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {"brightness_factor": 0.5, "contrast_factor": 0.5},
    "RandomContrast": {"factor": 0.5},
    "RandomCrop": {"height": 8, "width": 6},
    "RandomHue": {"factor": 0.5},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.3},
    "RandomSaturation": {"factor": 0.5},
    "RandomSharpness": {"factor": 0.5},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomZoom": {"height_factor": 0.5},
    "Rescaling": {"scale": 2.0, "offset": -1.0},
    "Resizing": {"height": 8, "width": 6},
}
IN_UNIT_RANGE = {"value_range": (0.0, 1.0)}
WITH_RANGE = {
    "AugMix", "AutoContrast", "Equalization", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
    "RandomColorJitter", "RandomContrast", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomErasing",
    "RandomPosterization", "RandomSaturation", "RandomSharpness", "Solarization", "RandomGaussianBlur",
}  # fmt: skip
OTHERS = (
    "AugMix", "AutoContrast", "CenterCrop", "CutMix", "Equalization", "MixUp", "Normalization", "RandAugment",
    "Rescaling", "Resizing", "Solarization",
)  # fmt: skip
# Keras 3.10 has fewer of them.
NAMES = sorted(name for name in dir(keras.layers) if name.startswith("Random") or name in OTHERS)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(4, *SIZE)).astype("float32")


def made(name):
    kind, options = getattr(keras.layers, name), ARGUMENTS.get(name, {})
    try:
        return kind(**options, **(IN_UNIT_RANGE if name in WITH_RANGE else {}))
    except (TypeError, ValueError):
        return kind(**options)


def backbone(*layers):
    return keras.Sequential([keras.Input(SIZE), *layers, keras.layers.Flatten(), keras.layers.Dense(5)])


def assert_deterministic(model, images, directory, flip="none"):
    """`serve`, `embedding_model(m)(x)` and `predict` are one function, without draws."""
    cut = knf.embedding_model(model, flip=flip)
    np.testing.assert_array_equal(cut(images), cut(images))
    cut.compile(jit_compile=False)
    expected = cut.predict(images, verbose=0)
    knf.export_embedding_model(model, directory, flip=flip)
    loaded = tf.saved_model.load(str(directory))
    served = loaded.serve(images).numpy()
    np.testing.assert_array_equal(loaded.serve(images), served)
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(cut(images), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([loaded.serve(images[:1]), loaded.serve(images[1:])]), served, atol=1e-6)


def test_no_preprocessing_layer_draws_in_the_exported_model(tmp_path, images):
    tensor, branches = keras.Input(SIZE), []
    for name in NAMES:
        # Keras's RandomCrop does not crop in inference, whatever shape it has promised.
        flat = keras.layers.GlobalAveragePooling2D() if name == "RandomCrop" else keras.layers.Flatten()
        branches.append(flat(made(name)(tensor)))
    ends = np.cumsum([branch.shape[1] for branch in branches])[:-1]
    model = keras.Model(tensor, keras.layers.Concatenate()(branches))
    first, second = (np.split(np.asarray(knf.embedding_model(model)(images)), ends, axis=1) for _ in range(2))
    drawn = [name for name, a, b in zip(NAMES, first, second, strict=True) if not np.array_equal(a, b)]
    assert (len(NAMES) >= 20, drawn) == (True, [])
    assert_deterministic(model, images, tmp_path / "exported")


class Wrapped(keras.layers.Layer):
    """A layer of somebody's own, whose `call` does not know `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.RandomFlip()

    def call(self, x):
        return self.inner(x)


def nested():
    augmentation = keras.Sequential([keras.layers.RandomRotation(0.3), keras.layers.RandomContrast(0.5)])
    tensor = keras.Input(SIZE)
    return keras.Model(tensor, keras.Sequential([Wrapped(), augmentation, keras.layers.GaussianNoise(0.5)])(tensor))


@pytest.mark.parametrize(("kind", "flip"), [("heads", "sum"), ("classifier", "none")])
def test_nested_augmentation_and_flip(tmp_path, images, kind, flip):
    model = backbone(nested(), keras.layers.Dropout(0.5))
    if kind == "heads":
        model = EmbeddingModel(model, knf.heads.MarginSoftmaxHead(3))
        np.testing.assert_array_equal(model(images), model(images))
        np.testing.assert_allclose(model(images), model.predict(images, verbose=0), atol=1e-4)
    elif kind == "classifier":
        model = keras.Sequential([model, knf.CosineDense(3)])
    assert_deterministic(model, images, tmp_path / "exported", flip)


def test_augmentation_still_acts_in_training(images):
    model = EmbeddingModel(backbone(nested()), knf.heads.MarginSoftmaxHead(3))
    cut = knf.embedding_model(model)
    for net in (model, cut):
        assert np.abs(np.asarray(net(images, training=True)) - np.asarray(net(images, training=True))).max() > 1e-3
    model.compile(keras.optimizers.SGD(0.0))
    losses = model.fit(images, np.arange(4) % 3, epochs=4, shuffle=False, verbose=0).history["loss"]
    assert np.ptp(losses) > 1e-3
    fixed = [model.evaluate(images, np.arange(4) % 3, verbose=0, return_dict=True)["loss"] for _ in range(2)]
    assert fixed[0] == fixed[1]
