"""Verification and identification measures on embeddings: NumPy only, no file, no protocol."""

from keras_normface._threshold import CalibratedThreshold
from keras_normface.metrics._arrays import checked_labels, unit_rows
from keras_normface.metrics.calibration import calibrate_threshold
from keras_normface.metrics.folds import FoldAccuracy, cross_validated_accuracy
from keras_normface.metrics.identification import rank_accuracy
from keras_normface.metrics.leakage import Leaks, find_leaks
from keras_normface.metrics.plots import plot_det, plot_embeddings, plot_result, plot_roc
from keras_normface.metrics.results import MetricValue, Result
from keras_normface.metrics.verification import (
    RocCurve,
    TarAtFar,
    equal_error_rate,
    pair_scores,
    roc_curve,
    tar_at_far,
)

__all__ = [
    "CalibratedThreshold",
    "FoldAccuracy",
    "Leaks",
    "MetricValue",
    "Result",
    "RocCurve",
    "TarAtFar",
    "calibrate_threshold",
    "checked_labels",
    "cross_validated_accuracy",
    "equal_error_rate",
    "find_leaks",
    "pair_scores",
    "plot_det",
    "plot_embeddings",
    "plot_result",
    "plot_roc",
    "rank_accuracy",
    "roc_curve",
    "tar_at_far",
    "unit_rows",
]
