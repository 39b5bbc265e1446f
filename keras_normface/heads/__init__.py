"""Heads: agents, margin, scale and loss in one layer, for methods that need labels and embeddings together."""

from keras_normface.heads._agents import AgentContrastiveHead, AgentTripletHead
from keras_normface.heads._base import Head, HeadStatistics
from keras_normface.heads._cost import HeadCost
from keras_normface.heads._margin_softmax import MarginSoftmaxHead, SoftmaxHead
from keras_normface.heads._sampled import SampledMarginSoftmaxHead
from keras_normface.heads._sharding import agent_sharding

__all__ = [
    "AgentContrastiveHead",
    "AgentTripletHead",
    "Head",
    "HeadCost",
    "HeadStatistics",
    "MarginSoftmaxHead",
    "SampledMarginSoftmaxHead",
    "SoftmaxHead",
    "agent_sharding",
]
