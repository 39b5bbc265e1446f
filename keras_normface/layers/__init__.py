"""Layers: agents, scale and the sphere of radius α."""

from keras_normface.layers.cosine_dense import CosineDense
from keras_normface.layers.l2_constraint import L2Constraint
from keras_normface.layers.learnable_scale import LearnableScale

__all__ = ["CosineDense", "L2Constraint", "LearnableScale"]
