"""Class centres, margin, scale and loss in one layer, for methods that need labels and embeddings together.

A head is what `EmbeddingModel` trains on. It owns one centre a class, the rows of its `kernel` (in the literature also
proxies, prototypes or, in NormFace's C-contrastive and C-triplet losses, agents), and gives one loss a sample.

The names that matter:

- `MarginSoftmaxHead`: NormFace, AM-Softmax, ArcFace and SphereFace-R, by its margin and its feature norm.
- `AgentContrastiveHead`, `AgentTripletHead`: NormFace Eq. 10 and 11.
- `SampledMarginSoftmaxHead`: the same softmax over a sample of the classes.
- `DistillationHead`: no classes; a teacher's embeddings instead.
- `FixedCentersHead`: class centres of an older model, whose embeddings the new ones may then be compared with.
- `class_sharding`: the classes split over devices, on JAX.
- `WholeBatch`: what a head with such a margin is told where it sees a share of a batch.
- `head.cost`: what a training step takes, before it starts.

Read `_base.py` first (`Head`, `HeadStatistics`), then `_margin_softmax.py`, `_agents.py` and `_sampled.py`;
`_distillation.py` and `_fixed.py` are short; `_sharding.py` and `_cost.py` last.
"""

from keras_normface.heads._agents import AgentContrastiveHead, AgentTripletHead
from keras_normface.heads._base import Head, HeadStatistics
from keras_normface.heads._cost import HeadCost
from keras_normface.heads._distillation import DistillationHead
from keras_normface.heads._fixed import FixedCentersHead
from keras_normface.heads._margin_softmax import MarginSoftmaxHead, SoftmaxHead
from keras_normface.heads._sampled import SampledMarginSoftmaxHead
from keras_normface.heads._sharding import class_sharding
from keras_normface.heads._whole_batch import WholeBatch

__all__ = [
    "AgentContrastiveHead",
    "AgentTripletHead",
    "DistillationHead",
    "FixedCentersHead",
    "Head",
    "HeadCost",
    "HeadStatistics",
    "MarginSoftmaxHead",
    "SampledMarginSoftmaxHead",
    "SoftmaxHead",
    "WholeBatch",
    "class_sharding",
]
