"""The papers' experiments as frozen dataclasses: `get("am_softmax_casia")` is one, `NAMES` lists them."""

from keras_normface.recipes.am_softmax import AMSoftmaxCasia, AMSoftmaxNoFeatureNorm
from keras_normface.recipes.describe import Row, table
from keras_normface.recipes.experiment import experiment
from keras_normface.recipes.files import read
from keras_normface.recipes.head_description import HeadDescription
from keras_normface.recipes.l2_softmax import L2Softmax
from keras_normface.recipes.normface import (
    NormFaceCasia,
    NormFaceContrastive,
    NormFaceFinetune,
    NormFaceFinetuneLightCNN,
    NormFaceJoint,
    NormFaceTriplet,
)
from keras_normface.recipes.recipe import Recipe
from keras_normface.recipes.registry import CERTAINTIES, Source, all_names, forget, get
from keras_normface.recipes.sphereface_r import SphereFaceRV1, SphereFaceRV2

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
