"""Heads: agents, margin, scale and loss in one layer, for methods that need labels and embeddings together."""

from keras_normface.heads.agents import AgentContrastiveHead, AgentTripletHead
from keras_normface.heads.base import Head, HeadStatistics
from keras_normface.heads.cost import HeadCost
from keras_normface.heads.margin_softmax import MarginSoftmaxHead
from keras_normface.heads.sampled import SampledMarginSoftmaxHead
from keras_normface.heads.softmax import SoftmaxHead

__all__ = [
    "AgentContrastiveHead",
    "AgentTripletHead",
    "Head",
    "HeadCost",
    "HeadStatistics",
    "MarginSoftmaxHead",
    "SampledMarginSoftmaxHead",
    "SoftmaxHead",
]
