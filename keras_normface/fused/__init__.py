"""Fused heads: losses on all cosines of a batch with the agents, without a second array of their size."""

from keras_normface.fused._agents import fused_agent_contrastive, fused_agent_triplet
from keras_normface.fused._compiled import has_compiler
from keras_normface.fused._softmax import MODES, FusedTerms, choose_mode, fused_margin_softmax, supports

__all__ = [
    "MODES",
    "FusedTerms",
    "choose_mode",
    "fused_agent_contrastive",
    "fused_agent_triplet",
    "fused_margin_softmax",
    "has_compiler",
    "supports",
]
