"""Angular margins: ψ for the target class and η for the others, as functions of the cosine.

SphereFace-R's frame (arXiv 2109.05565): `L = −log e^{ρψ(θ_y)} / (e^{ρψ(θ_y)} + Σ_{j≠y} e^{ρη(θ_j)})`. Each margin is a
pair ψ, η. Angles are in radians.

The names that matter:

- `NoMargin`, `AdditiveCosine`, `AdditiveAngular`, `MultiplicativeAngular`, `CombinedMargin`: the same for all samples.
- `AdaFace`, `MagFace`, `ElasticFace`: by the sample's norm or by a draw; they need a head, such as
  `MarginSoftmaxHead`.
- `CurricularFace`, `MVSoftmax`: classes above the sample's own ψ count for more; the former needs a head.
- `InterClassFilter` around any margin, `TVMF`, `Circle`: other η, of cosines alone.
- `Margin`: the base, for margins of your own.

Read `_base.py` first, then `_fixed.py`, `_by_sample.py`, `_own.py` and `_others.py`.
"""

from keras_normface.margins._base import CLIP, Margin
from keras_normface.margins._by_sample import AdaFace, ElasticFace, MagFace
from keras_normface.margins._fixed import (
    AdditiveAngular,
    AdditiveCosine,
    CombinedMargin,
    MultiplicativeAngular,
    NoMargin,
    get,
)
from keras_normface.margins._others import TVMF, Circle, InterClassFilter
from keras_normface.margins._own import CurricularFace, MVSoftmax

__all__ = [
    "CLIP",
    "TVMF",
    "AdaFace",
    "AdditiveAngular",
    "AdditiveCosine",
    "Circle",
    "CombinedMargin",
    "CurricularFace",
    "ElasticFace",
    "InterClassFilter",
    "MVSoftmax",
    "MagFace",
    "Margin",
    "MultiplicativeAngular",
    "NoMargin",
    "get",
]
