"""Embeddings on the hypersphere with Keras 3: layers, losses, heads, training, evaluation and export.

One way through: images → dataset → backbone → embedding → class centres → margin → loss → training → evaluation →
export. The five names that matter: `CosineDense` (cosines with class centres), `LearnableScale`, `NormFaceLoss`
(the softmax loss on them; the other losses are its siblings), `EmbeddingModel` (a backbone with heads that hold
margin and loss), `export_embedding_model`.

To read the code: `sphere` (geometry, bounds), `margins` (ψ and η), `layers`, `losses`, `heads`, `models`; then
`distribute` (XLA in each replica), `data`, `training`; then `metrics` (TAR@FAR, EER, ranks), `protocols` (LFW,
BLUFR, IJB and the others, one file each) and `inference`. NormFace's Eq. 6 is `losses.NormFaceLoss`, Eq. 10
`losses.AgentContrastiveLoss`, Eq. 11 `losses.AgentTripletLoss`; TAR@FAR is `metrics.tar_at_far`; BLUFR's DIR is in
`protocols.blufr`; the step under XLA in a replica is in `distribute/_step.py`.

The names are imported when they are first used. Importing the package imports neither Keras nor TensorFlow; the
classes are registered with Keras as soon as Keras is imported, before or after this package, so that saved models
load.
"""

import importlib

from keras_normface._registration import register_after_keras
from keras_normface.version import __version__ as __version__

_NAMES = {
    "checks": ["check_model"],
    "data": ["ImageBatches", "open_reader"],
    "distribute": ["is_chief"],
    "heads": ["AgentContrastiveHead", "AgentTripletHead", "MarginSoftmaxHead", "SampledMarginSoftmaxHead"],
    "inference": ["embedding_model", "export_embedding_model"],
    "layers": ["CosineDense", "L2Constraint", "LearnableScale"],
    "losses": [
        "AMSoftmaxLoss",
        "AgentContrastiveLoss",
        "AgentTripletLoss",
        "ArcFaceLoss",
        "NormFaceLoss",
        "SphereFaceRLoss",
        "TripletSemiHardLoss",
    ],
    "models": ["DistributedModel", "EmbeddingModel"],
    "optimizers": ["CoupledSGD"],
    "preprocessing": ["Preprocessing"],
    "sphere": ["scale_for_probability", "softmax_loss_lower_bound"],
    "training": ["fit_resumable"],
}
_ROOMS = (*_NAMES, "backbones", "callbacks", "margins", "metrics", "prepare", "protocols", "recipes")
_WITHOUT_KERAS = {"inference", "metrics", "prepare", "preprocessing", "protocols"}
_ROOM_OF = {name: room for room, names in _NAMES.items() for name in names}

__all__ = sorted([*_ROOM_OF, *_ROOMS, "__version__"])


def __getattr__(name):
    if name in _ROOM_OF or name in _ROOMS:
        room = _ROOM_OF.get(name, name)
        if room not in _WITHOUT_KERAS:  # before the others, so that all are registered when the first is there
            importlib.import_module("keras")
        room = importlib.import_module(f"{__name__}.{room}")
        value = getattr(room, name) if name in _ROOM_OF else room
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})


register_after_keras()
