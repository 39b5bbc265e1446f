"""Metric losses on the pairs and triplets inside a batch, under tensorflow-addons' names."""

from keras_normface.losses.metric.base import EmbeddingLoss, MetricLoss
from keras_normface.losses.metric.contrastive import ContrastiveLoss
from keras_normface.losses.metric.distances import (
    pairwise_angular_distance,
    pairwise_distance,
    pairwise_squared_distance,
    resolve_distance,
)
from keras_normface.losses.metric.lifted import LiftedStructLoss
from keras_normface.losses.metric.npairs import NpairsLoss, NpairsMultilabelLoss
from keras_normface.losses.metric.triplet import TripletHardLoss, TripletSemiHardLoss

__all__ = [
    "ContrastiveLoss",
    "EmbeddingLoss",
    "LiftedStructLoss",
    "MetricLoss",
    "NpairsLoss",
    "NpairsMultilabelLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "pairwise_angular_distance",
    "pairwise_distance",
    "pairwise_squared_distance",
    "resolve_distance",
]
