"""Verification and identification measures on embeddings; NumPy only, no Keras model needed."""

from keras_normface.evaluation.calibration import CalibratedThreshold, calibrate_threshold
from keras_normface.evaluation.compare import Comparison, compare_pairs
from keras_normface.evaluation.folds import FoldAccuracy, cross_validated_accuracy
from keras_normface.evaluation.identification import rank_accuracy
from keras_normface.evaluation.leaks import Leaks, find_leaks
from keras_normface.evaluation.pairs import PairProtocol, evaluate_pairs
from keras_normface.evaluation.plots import plot_det, plot_embeddings, plot_result, plot_roc
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
    "CalibratedThreshold",
    "Comparison",
    "Figure",
    "FoldAccuracy",
    "Leaks",
    "PairProtocol",
    "Result",
    "RocCurve",
    "TarAtFar",
    "calibrate_threshold",
    "compare_pairs",
    "cross_validated_accuracy",
    "equal_error_rate",
    "evaluate_pairs",
    "find_leaks",
    "pair_scores",
    "plot_det",
    "plot_embeddings",
    "plot_result",
    "plot_roc",
    "rank_accuracy",
    "roc_curve",
    "tar_at_far",
]
