"""Published face networks as functional models: images to embeddings, layer for layer."""

from keras_normface.backbones.iresnet import FixedScaleBatchNorm, IResNet
from keras_normface.backbones.lightcnn import LightCNN, MaxFeatureMap
from keras_normface.backbones.resnet27 import ResNet27
from keras_normface.backbones.spherefacenet import SphereFaceNet

__all__ = [
    "FixedScaleBatchNorm",
    "IResNet",
    "LightCNN",
    "MaxFeatureMap",
    "ResNet27",
    "SphereFaceNet",
]
