"""Published face networks as functional models: images to embeddings, layer for layer."""

from keras_normface.backbones._convert import ConversionError, load_torch
from keras_normface.backbones._dlib import ChannelAffine, DlibResNet, PaddedAdd
from keras_normface.backbones._dlib_file import load_dlib
from keras_normface.backbones._iresnet import FixedScaleBatchNorm, IResNet
from keras_normface.backbones._lightcnn import LightCNN, MaxFeatureMap
from keras_normface.backbones._mobilefacenet import MobileFaceNet
from keras_normface.backbones._pretrained import PretrainedNetwork, pretrained
from keras_normface.backbones._resnet27 import ResNet27
from keras_normface.backbones._spherefacenet import SphereFaceNet

__all__ = [
    "ChannelAffine",
    "ConversionError",
    "DlibResNet",
    "FixedScaleBatchNorm",
    "IResNet",
    "LightCNN",
    "MaxFeatureMap",
    "MobileFaceNet",
    "PaddedAdd",
    "PretrainedNetwork",
    "ResNet27",
    "SphereFaceNet",
    "load_dlib",
    "load_torch",
    "pretrained",
]
