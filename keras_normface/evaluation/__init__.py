"""Verification and identification measures on embeddings; NumPy only, no Keras model needed."""

from keras_normface.evaluation.compare import Comparison, compare_pairs
from keras_normface.evaluation.folds import FoldAccuracy, cross_validated_accuracy
from keras_normface.evaluation.identification import rank_accuracy
from keras_normface.evaluation.pairs import PairProtocol, evaluate_pairs
from keras_normface.evaluation.plots import plot_embeddings, plot_roc
from keras_normface.evaluation.result import Figure, Result
from keras_normface.evaluation.verification import (
    RocCurve,
    TarAtFar,
    equal_error_rate,
    pair_scores,
    roc_curve,
    tar_at_far,
)

__all__ = [
    "Comparison",
    "Figure",
    "FoldAccuracy",
    "PairProtocol",
    "Result",
    "RocCurve",
    "TarAtFar",
    "compare_pairs",
    "cross_validated_accuracy",
    "equal_error_rate",
    "evaluate_pairs",
    "pair_scores",
    "plot_embeddings",
    "plot_roc",
    "rank_accuracy",
    "roc_curve",
    "tar_at_far",
]
