"""Every loss and every head with small data, for tables over all of them."""

import numpy as np

from keras_normface import losses
from keras_normface.heads import (
    AgentContrastiveHead,
    AgentTripletHead,
    MarginSoftmaxHead,
    SampledMarginSoftmaxHead,
    SoftmaxHead,
)
from keras_normface.margins import AdditiveCosine, CombinedMargin, NoMargin

# Losses on class ids and cosines `(batch, classes)`.
CLASS_LOSSES = {
    "normface": lambda **kw: losses.NormFaceLoss(scale=20.0, **kw),
    "margin": lambda **kw: losses.MarginSoftmaxLoss(CombinedMargin(m1=1.1, m2=0.2, m3=0.1), label_smoothing=0.1, **kw),
    "am_softmax": lambda **kw: losses.AMSoftmaxLoss(**kw),
    "arcface": lambda **kw: losses.ArcFaceLoss(**kw),
    "arcface_linear": lambda **kw: losses.ArcFaceLoss(tail="linear", **kw),
    "sphereface": lambda **kw: losses.SphereFaceLoss(**kw),
    "sphereface_r_v1": lambda **kw: losses.SphereFaceRLoss(**kw),
    "sphereface_r_v2": lambda **kw: losses.SphereFaceRLoss(variant="v2", **kw),
    "agent_contrastive": lambda **kw: losses.AgentContrastiveLoss(negative_margin=2.5, **kw),
    "agent_triplet": lambda **kw: losses.AgentTripletLoss(positive_pull=True, **kw),
}
_RNG = np.random.default_rng(0)
_IDS = np.array([0, 1, 1, 0, 2, 2], dtype="int32")
_ROWS, _SQUARE = _RNG.normal(size=(6, 3)), _RNG.normal(size=(6, 6))
# Losses on the pairs of a batch: how each is made, labels, predictions.
PAIR_LOSSES = {
    "contrastive": (losses.ContrastiveLoss, _IDS % 2, np.abs(_ROWS[:, 0])),
    "lifted": (losses.LiftedStructLoss, _IDS, _ROWS),
    "npairs": (losses.NpairsLoss, _IDS, _SQUARE),
    "npairs_multilabel": (losses.NpairsMultilabelLoss, np.eye(3, dtype="int32")[_IDS], _SQUARE),
    "hard": (losses.TripletHardLoss, _IDS, _ROWS),
    "hard_soft": (lambda **kw: losses.TripletHardLoss(soft=True, **kw), _IDS, _ROWS),
    "semi_hard": (losses.TripletSemiHardLoss, _IDS, _ROWS),
    "semi_hard_angular": (lambda **kw: losses.TripletSemiHardLoss(distance_metric="angular", **kw), _IDS, _ROWS),
}
LOSSES = {name: (make, _IDS, np.tanh(_ROWS)) for name, make in CLASS_LOSSES.items()} | PAIR_LOSSES


def heads(units, forms=(False, "buffer", "stream"), **options):
    """Every head by name, in every form that it has."""
    made = {
        "softmax": SoftmaxHead(units, scale=16.0, **options),
        "sampled": SampledMarginSoftmaxHead(units, AdditiveCosine(0.35), minimum_sample=20, fused=False, **options),
    }
    for form in forms:
        made[f"margin {form}"] = MarginSoftmaxHead(units, AdditiveCosine(0.35), fused=form, **options)
        made[f"normface {form}"] = MarginSoftmaxHead(units, NoMargin(), scale=20.0, fused=form, **options)
        made[f"contrastive {form}"] = AgentContrastiveHead(units, negative_margin=1.9, fused=form, **options)
        made[f"triplet {form}"] = AgentTripletHead(units, hardest_negative_only=True, fused=form, **options)
    return made
