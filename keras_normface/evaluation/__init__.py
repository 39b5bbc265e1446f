"""Verification and identification measures on embeddings; NumPy only, no Keras model needed."""

from keras_normface.evaluation.blufr import BlufrProtocol, BlufrTrial
from keras_normface.evaluation.blufr_evaluation import evaluate_blufr
from keras_normface.evaluation.calibrated_threshold import CalibratedThreshold
from keras_normface.evaluation.calibration import calibrate_threshold
from keras_normface.evaluation.compare import compare_pairs, compare_results
from keras_normface.evaluation.comparison import Comparison, Difference
from keras_normface.evaluation.folds import FoldAccuracy, cross_validated_accuracy
from keras_normface.evaluation.identification import rank_accuracy
from keras_normface.evaluation.ijb import evaluate_ijb
from keras_normface.evaluation.leaks import Leaks, find_leaks
from keras_normface.evaluation.megaface import MegaFaceProtocol
from keras_normface.evaluation.megaface_evaluation import evaluate_megaface
from keras_normface.evaluation.pairs import PairProtocol, evaluate_pairs
from keras_normface.evaluation.plots import plot_det, plot_embeddings, plot_result, plot_roc
from keras_normface.evaluation.pooling import pool_templates
from keras_normface.evaluation.result import Figure, Result
from keras_normface.evaluation.templates import GallerySearch, TemplatePairs, TemplateProtocol
from keras_normface.evaluation.verification import (
    RocCurve,
    TarAtFar,
    equal_error_rate,
    pair_scores,
    roc_curve,
    tar_at_far,
)
from keras_normface.evaluation.video_pairs import VideoPairProtocol
from keras_normface.evaluation.ytf import evaluate_video_pairs

__all__ = [
    "BlufrProtocol",
    "BlufrTrial",
    "CalibratedThreshold",
    "Comparison",
    "Difference",
    "Figure",
    "FoldAccuracy",
    "GallerySearch",
    "Leaks",
    "MegaFaceProtocol",
    "PairProtocol",
    "Result",
    "RocCurve",
    "TarAtFar",
    "TemplatePairs",
    "TemplateProtocol",
    "VideoPairProtocol",
    "calibrate_threshold",
    "compare_pairs",
    "compare_results",
    "cross_validated_accuracy",
    "equal_error_rate",
    "evaluate_blufr",
    "evaluate_ijb",
    "evaluate_megaface",
    "evaluate_pairs",
    "evaluate_video_pairs",
    "find_leaks",
    "pair_scores",
    "plot_det",
    "plot_embeddings",
    "plot_result",
    "plot_roc",
    "pool_templates",
    "rank_accuracy",
    "roc_curve",
    "tar_at_far",
]
