"""The papers' experiments as frozen dataclasses: `get("am_softmax_casia")` is one, `NAMES` lists them."""

from keras_normface.recipes._components import HeadDescription
from keras_normface.recipes._recipe import Recipe
from keras_normface.recipes._registry import CERTAINTIES, Row, Source, all_names, experiment, forget, get, read, table
from keras_normface.recipes.papers import (
    AMSoftmaxCasia,
    AMSoftmaxNoFeatureNorm,
    L2Softmax,
    NormFaceCasia,
    NormFaceContrastive,
    NormFaceFinetune,
    NormFaceFinetuneLightCNN,
    NormFaceJoint,
    NormFaceTriplet,
    SphereFaceRV1,
    SphereFaceRV2,
)

NAMES = all_names()

__all__ = [
    "CERTAINTIES",
    "NAMES",
    "AMSoftmaxCasia",
    "AMSoftmaxNoFeatureNorm",
    "HeadDescription",
    "L2Softmax",
    "NormFaceCasia",
    "NormFaceContrastive",
    "NormFaceFinetune",
    "NormFaceFinetuneLightCNN",
    "NormFaceJoint",
    "NormFaceTriplet",
    "Recipe",
    "Row",
    "Source",
    "SphereFaceRV1",
    "SphereFaceRV2",
    "all_names",
    "experiment",
    "forget",
    "get",
    "read",
    "table",
]
