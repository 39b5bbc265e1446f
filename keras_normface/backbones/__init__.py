"""Published face networks as functional models: images to embeddings, layer for layer."""

from keras_normface.backbones._convert import ConversionError, load_torch
from keras_normface.backbones._iresnet import FixedScaleBatchNorm, IResNet
from keras_normface.backbones._lightcnn import LightCNN, MaxFeatureMap
from keras_normface.backbones._resnet27 import ResNet27
from keras_normface.backbones._spherefacenet import SphereFaceNet

__all__ = [
    "ConversionError",
    "FixedScaleBatchNorm",
    "IResNet",
    "LightCNN",
    "MaxFeatureMap",
    "ResNet27",
    "SphereFaceNet",
    "load_torch",
]
