"""Losses on cosines, on logits and on pairs inside a batch: one value a sample, any Keras reduction.

The five that matter: `NormFaceLoss` (normalised softmax), `MarginSoftmaxLoss` (any margin; `AMSoftmaxLoss`,
`ArcFaceLoss`, `SphereFaceLoss` and `SphereFaceRLoss` are names of it), `AgentContrastiveLoss` and `AgentTripletLoss`
(NormFace's metric losses, in which an agent, the class centre, stands for its class), `TripletSemiHardLoss`.

Order to read: `_softmax` (the base `SphereLoss`, the margin softmax and its names), `_agents`, then `_metric`,
`_pairwise` and `_triplet` for the losses that mine pairs inside a batch, under tensorflow-addons' names;
`_distillation` has two functions, of which `heads.DistillationHead` makes a loss.
"""

from keras_normface.losses._agents import AgentContrastiveLoss, AgentTripletLoss
from keras_normface.losses._distillation import cosine_distillation, relational_distillation
from keras_normface.losses._metric import (
    ContrastiveLoss,
    EmbeddingLoss,
    LiftedStructLoss,
    MetricLoss,
    NpairsLoss,
    NpairsMultilabelLoss,
)
from keras_normface.losses._pairwise import (
    pairwise_angular_distance,
    pairwise_distance,
    pairwise_squared_distance,
    resolve_distance,
)
from keras_normface.losses._softmax import (
    AMSoftmaxLoss,
    ArcFaceLoss,
    MarginSoftmaxLoss,
    NormFaceLoss,
    SphereFaceLoss,
    SphereFaceRLoss,
    SphereLoss,
    margin_cosines,
    softmax_loss,
)
from keras_normface.losses._triplet import TripletHardLoss, TripletSemiHardLoss

__all__ = [
    "AMSoftmaxLoss",
    "AgentContrastiveLoss",
    "AgentTripletLoss",
    "ArcFaceLoss",
    "ContrastiveLoss",
    "EmbeddingLoss",
    "LiftedStructLoss",
    "MarginSoftmaxLoss",
    "MetricLoss",
    "NormFaceLoss",
    "NpairsLoss",
    "NpairsMultilabelLoss",
    "SphereFaceLoss",
    "SphereFaceRLoss",
    "SphereLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "cosine_distillation",
    "margin_cosines",
    "pairwise_angular_distance",
    "pairwise_distance",
    "pairwise_squared_distance",
    "relational_distillation",
    "resolve_distance",
    "softmax_loss",
]
