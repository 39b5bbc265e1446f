"""Embeddings on the hypersphere with Keras 3: layers, losses, heads, training, evaluation and export."""

from keras_normface import (
    backbones,
    callbacks,
    checks,
    data,
    heads,
    inference,
    layers,
    losses,
    margins,
    models,
    optimizers,
    preprocessing,
    sphere,
    training,
)
from keras_normface.checks import check_model
from keras_normface.data import ImageBatches, open_reader
from keras_normface.distribute import is_chief
from keras_normface.heads import AgentContrastiveHead, AgentTripletHead, MarginSoftmaxHead, SampledMarginSoftmaxHead
from keras_normface.inference import embedding_model, export_embedding_model
from keras_normface.layers import CosineDense, L2Constraint, LearnableScale
from keras_normface.losses import (
    AgentContrastiveLoss,
    AgentTripletLoss,
    AMSoftmaxLoss,
    ArcFaceLoss,
    NormFaceLoss,
    SphereFaceRLoss,
    TripletSemiHardLoss,
)
from keras_normface.models import DistributedModel, EmbeddingModel
from keras_normface.optimizers import CoupledSGD
from keras_normface.preprocessing import Preprocessing
from keras_normface.sphere import scale_for_probability, softmax_loss_lower_bound
from keras_normface.training import fit_resumable
from keras_normface.version import __version__

__all__ = [
    "AMSoftmaxLoss",
    "AgentContrastiveHead",
    "AgentContrastiveLoss",
    "AgentTripletHead",
    "AgentTripletLoss",
    "ArcFaceLoss",
    "CosineDense",
    "CoupledSGD",
    "DistributedModel",
    "EmbeddingModel",
    "ImageBatches",
    "L2Constraint",
    "LearnableScale",
    "MarginSoftmaxHead",
    "NormFaceLoss",
    "Preprocessing",
    "SampledMarginSoftmaxHead",
    "SphereFaceRLoss",
    "TripletSemiHardLoss",
    "__version__",
    "backbones",
    "callbacks",
    "check_model",
    "checks",
    "data",
    "embedding_model",
    "export_embedding_model",
    "fit_resumable",
    "heads",
    "inference",
    "is_chief",
    "layers",
    "losses",
    "margins",
    "models",
    "open_reader",
    "optimizers",
    "preprocessing",
    "scale_for_probability",
    "softmax_loss_lower_bound",
    "sphere",
    "training",
]
