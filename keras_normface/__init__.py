"""Embeddings on the hypersphere with Keras 3: layers, losses, training, evaluation and export."""

from keras_normface.constraints import Minimum
from keras_normface.export import embedding_model, export_embedding_model
from keras_normface.initializers import UnitBall
from keras_normface.layers import CosineDense, LearnableScale
from keras_normface.losses import AgentContrastiveLoss, AgentTripletLoss, NormFaceLoss
from keras_normface.models import check_losses
from keras_normface.sphere import scale_for_probability, softmax_loss_lower_bound
from keras_normface.training import ScaleMonitor
from keras_normface.version import __version__

__all__ = [
    "AgentContrastiveLoss",
    "AgentTripletLoss",
    "CosineDense",
    "LearnableScale",
    "Minimum",
    "NormFaceLoss",
    "ScaleMonitor",
    "UnitBall",
    "__version__",
    "check_losses",
    "embedding_model",
    "export_embedding_model",
    "scale_for_probability",
    "softmax_loss_lower_bound",
]
