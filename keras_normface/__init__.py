"""Embeddings on the hypersphere with Keras 3: layers, losses, heads, training, evaluation and export."""

from keras_normface.constraints import Minimum
from keras_normface.data import Augmentation, ImageBatches, InMemory, open_reader
from keras_normface.export import (
    embedding_model,
    export_embedding_model,
    read_preprocessing,
    read_threshold,
    store_threshold,
)
from keras_normface.heads import (
    AgentContrastiveHead,
    AgentTripletHead,
    MarginSoftmaxHead,
    SampledMarginSoftmaxHead,
    SoftmaxHead,
)
from keras_normface.initializers import UnitBall
from keras_normface.layers import CosineDense, L2Constraint, LearnableScale
from keras_normface.losses import (
    AgentContrastiveLoss,
    AgentTripletLoss,
    AMSoftmaxLoss,
    ArcFaceLoss,
    ContrastiveLoss,
    LiftedStructLoss,
    MarginSoftmaxLoss,
    NormFaceLoss,
    NpairsLoss,
    NpairsMultilabelLoss,
    SphereFaceLoss,
    SphereFaceRLoss,
    TripletHardLoss,
    TripletSemiHardLoss,
)
from keras_normface.margins import (
    AdditiveAngular,
    AdditiveCosine,
    CombinedMargin,
    MultiplicativeAngular,
    NoMargin,
)
from keras_normface.models import EmbeddingModel, SphereModel, agent_sharding, check_losses, check_preprocessing
from keras_normface.optimizers import CoupledSGD
from keras_normface.preprocessing import PixelScaling, Preprocessing, check_same_preprocessing
from keras_normface.sphere import scale_for_probability, softmax_loss_lower_bound
from keras_normface.training import (
    Checkpoints,
    EventLog,
    NanGuard,
    PairEvaluation,
    ScaleMonitor,
    Snapshots,
    average_snapshots,
    fit_resumable,
)
from keras_normface.version import __version__

__all__ = [
    "AMSoftmaxLoss",
    "AdditiveAngular",
    "AdditiveCosine",
    "AgentContrastiveHead",
    "AgentContrastiveLoss",
    "AgentTripletHead",
    "AgentTripletLoss",
    "ArcFaceLoss",
    "Augmentation",
    "Checkpoints",
    "CombinedMargin",
    "ContrastiveLoss",
    "CosineDense",
    "CoupledSGD",
    "EmbeddingModel",
    "EventLog",
    "ImageBatches",
    "InMemory",
    "L2Constraint",
    "LearnableScale",
    "LiftedStructLoss",
    "MarginSoftmaxHead",
    "MarginSoftmaxLoss",
    "Minimum",
    "MultiplicativeAngular",
    "NanGuard",
    "NoMargin",
    "NormFaceLoss",
    "NpairsLoss",
    "NpairsMultilabelLoss",
    "PairEvaluation",
    "PixelScaling",
    "Preprocessing",
    "SampledMarginSoftmaxHead",
    "ScaleMonitor",
    "Snapshots",
    "SoftmaxHead",
    "SphereFaceLoss",
    "SphereFaceRLoss",
    "SphereModel",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "UnitBall",
    "__version__",
    "agent_sharding",
    "average_snapshots",
    "check_losses",
    "check_preprocessing",
    "check_same_preprocessing",
    "embedding_model",
    "export_embedding_model",
    "fit_resumable",
    "open_reader",
    "read_preprocessing",
    "read_threshold",
    "scale_for_probability",
    "softmax_loss_lower_bound",
    "store_threshold",
]
