"""Keras models and the checks on them."""

from keras_normface.models.checks import check_losses, check_preprocessing, preprocessing_in
from keras_normface.models.embedding_model import EmbeddingModel
from keras_normface.models.replica_xla import ReplicaXLA
from keras_normface.models.sharded_agents import agent_sharding
from keras_normface.models.sphere_model import SphereModel

__all__ = [
    "EmbeddingModel",
    "ReplicaXLA",
    "SphereModel",
    "agent_sharding",
    "check_losses",
    "check_preprocessing",
    "preprocessing_in",
]
