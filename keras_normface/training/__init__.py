"""What accompanies `fit`: exact resume, checkpoints, callbacks.

The five that matter: `fit_resumable` (training that resumes bit for bit), `CheckpointStore` (the same for loops of
your own), `NanGuard`, `PairEvaluation`, and `WeightSnapshots` with `average_snapshots`. The callbacks are also in
`keras_normface.callbacks`. For fine-tuning: `fit_heads`, on a network that stays as it is, and `BestWeights`, which
people who are held out choose. For distillation: `reader_embeddings`, another model's of all training images.

Order to read: `_checkpoint` (the state of a model and its file), `_resume`, `_callbacks`, `_pair_evaluation`, `_heads`,
`_held_out`, `_teacher`.
"""

from keras_normface.training._callbacks import NanGuard, ScalarLog, ScaleMonitor, WeightSnapshots, average_snapshots
from keras_normface.training._checkpoint import CheckpointStore
from keras_normface.training._heads import class_means, fit_heads
from keras_normface.training._held_out import BestWeights, HeldOutResult
from keras_normface.training._pair_evaluation import PairEvaluation, PairImages
from keras_normface.training._resume import fit_resumable
from keras_normface.training._teacher import reader_embeddings

__all__ = [
    "BestWeights",
    "CheckpointStore",
    "HeldOutResult",
    "NanGuard",
    "PairEvaluation",
    "PairImages",
    "ScalarLog",
    "ScaleMonitor",
    "WeightSnapshots",
    "average_snapshots",
    "class_means",
    "fit_heads",
    "fit_resumable",
    "reader_embeddings",
]
