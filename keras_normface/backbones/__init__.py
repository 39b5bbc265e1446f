"""Published face networks as functional models: images to embeddings, layer for layer."""

from keras_normface.backbones.convert import load_torch
from keras_normface.backbones.iresnet import FixedScaleBatchNorm, IResNet
from keras_normface.backbones.lightcnn import LightCNN, MaxFeatureMap
from keras_normface.backbones.resnet27 import ResNet27
from keras_normface.backbones.spherefacenet import SphereFaceNet
from keras_normface.backbones.torch_tensors import ConversionError

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
