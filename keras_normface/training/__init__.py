"""What goes along with `fit`."""

from keras_normface.training._callbacks import NanGuard, ScalarLog, ScaleMonitor, WeightSnapshots, average_snapshots
from keras_normface.training._checkpoint import CheckpointStore
from keras_normface.training._pair_evaluation import PairEvaluation
from keras_normface.training._resume import fit_resumable

__all__ = [
    "CheckpointStore",
    "NanGuard",
    "PairEvaluation",
    "ScalarLog",
    "ScaleMonitor",
    "WeightSnapshots",
    "average_snapshots",
    "fit_resumable",
]
