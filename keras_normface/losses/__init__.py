"""Losses on cosines, on logits and on pairs, one value a sample."""

from keras_normface.losses.agents import AgentContrastiveLoss, AgentTripletLoss
from keras_normface.losses.base import SphereLoss
from keras_normface.losses.margin_softmax import MarginSoftmaxLoss, margin_cosines, softmax_loss
from keras_normface.losses.metric import (
    ContrastiveLoss,
    LiftedStructLoss,
    NpairsLoss,
    NpairsMultilabelLoss,
    TripletHardLoss,
    TripletSemiHardLoss,
)
from keras_normface.losses.named import (
    AMSoftmaxLoss,
    ArcFaceLoss,
    NormFaceLoss,
    SphereFaceLoss,
    SphereFaceRLoss,
)

__all__ = [
    "AMSoftmaxLoss",
    "AgentContrastiveLoss",
    "AgentTripletLoss",
    "ArcFaceLoss",
    "ContrastiveLoss",
    "LiftedStructLoss",
    "MarginSoftmaxLoss",
    "NormFaceLoss",
    "NpairsLoss",
    "NpairsMultilabelLoss",
    "SphereFaceLoss",
    "SphereFaceRLoss",
    "SphereLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "margin_cosines",
    "softmax_loss",
]
