"""Losses on cosines and on logits, one value a sample."""

from keras_normface.losses.agents import AgentContrastiveLoss, AgentTripletLoss
from keras_normface.losses.base import SphereLoss
from keras_normface.losses.softmax import NormFaceLoss, softmax_loss

__all__ = ["AgentContrastiveLoss", "AgentTripletLoss", "NormFaceLoss", "SphereLoss", "softmax_loss"]
