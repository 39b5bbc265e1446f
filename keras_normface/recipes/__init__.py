"""The papers' experiments: network, heads, data and training as one frozen dataclass, every number with its source.

A recipe is what turns a loss into a result. Its fields are numbers, lists and objects in the form in which Keras
serialises them, so that it can be printed, changed from a command line, written beside the checkpoints and compared.

The names that matter:

- `get("am_softmax_casia")`: a recipe by its name; `NAMES` lists them.
- `Recipe`: `replace` changes fields or parts of them, `build_compiled` makes the model, `data` the batches, `save` and
  `Recipe.load` write and read `recipe.json`.
- `recipe.describe()` and `table`: each number with the paper, file or reason that it comes from, and how sure that is.
- `serialized`: a head, margin, scale or schedule in the form that `Recipe.heads` holds.
- `experiment`: decorates a recipe of your own.

Read `papers.py` first: it is the table of sources; `later_papers.py` has the margins since 2018, `ours.py` experiments
that no paper has. Then `_recipe.py`, and `_components.py` for what a recipe is built from. `_registry.py` has names,
tables and files.
"""

from keras_normface.recipes._components import serialized
from keras_normface.recipes._recipe import Recipe
from keras_normface.recipes._registry import CERTAINTIES, Row, Source, all_names, experiment, forget, get, read, table
from keras_normface.recipes.later_papers import AdaFaceCasia, CurricularFaceCasia, MagFaceCasia
from keras_normface.recipes.ours import MobileFaceNetDistilled, NormFaceReady
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
    "AdaFaceCasia",
    "CurricularFaceCasia",
    "L2Softmax",
    "MagFaceCasia",
    "MobileFaceNetDistilled",
    "NormFaceCasia",
    "NormFaceContrastive",
    "NormFaceFinetune",
    "NormFaceFinetuneLightCNN",
    "NormFaceJoint",
    "NormFaceReady",
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
    "serialized",
    "table",
]
