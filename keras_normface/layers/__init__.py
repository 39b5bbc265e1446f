"""Layers: agents and scale."""

from keras_normface.layers.cosine_dense import CosineDense
from keras_normface.layers.learnable_scale import LearnableScale

__all__ = ["CosineDense", "LearnableScale"]
