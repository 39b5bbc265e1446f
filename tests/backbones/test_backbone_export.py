"""Backbones as SavedModels that load without the package's classes, and inside this package's own export."""

import keras
import numpy as np
import pytest

from keras_normface import CosineDense, LearnableScale, NormFaceLoss, export_embedding_model
from keras_normface.backbones import IResNet, LightCNN, MobileFaceNet, ResNet27, SphereFaceNet

MAKERS = [
    pytest.param(lambda: SphereFaceNet(10, True, (16, 16, 3), 8), id="spherefacenet"),
    pytest.param(lambda: LightCNN(9, (16, 16, 1), 8), id="lightcnn"),
    pytest.param(lambda: ResNet27((33, 33, 3), 8), id="resnet27", marks=pytest.mark.slow),
    pytest.param(lambda: IResNet(18, (16, 16, 3), 8), id="iresnet", marks=pytest.mark.slow),
    pytest.param(lambda: IResNet(18, (16, 16, 3), 8, variant="adaface"), id="adaface", marks=pytest.mark.long),
    pytest.param(lambda: MobileFaceNet((32, 32, 3), 8), id="mobilefacenet", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("make", MAKERS)
def test_saved_model(make, tmp_path):
    import tensorflow as tf

    model = make()
    images = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.serve(images), model(images), rtol=1e-4, atol=1e-6)


def test_under_a_head_and_exported_by_the_name_of_its_layer(tmp_path):
    import tensorflow as tf

    backbone = SphereFaceNet(4, input_shape=(16, 16, 3), embedding_dim=8)
    logits = LearnableScale()(CosineDense(5)(backbone.output))
    classifier = keras.Model(backbone.input, logits)
    classifier.compile("sgd", NormFaceLoss())
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
    assert np.isfinite(classifier.train_on_batch(images, np.arange(4)))
    export_embedding_model(classifier, tmp_path / "face", layer="embedding")
    loaded = tf.saved_model.load(tmp_path / "face")
    units = loaded.serve(images).numpy()
    raw = backbone(images).numpy()
    np.testing.assert_allclose(units, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
