"""Verification and identification measures on scores and embeddings: NumPy only.

Nothing here knows a benchmark or reads its files: `protocols` does, and takes its figures from here. Functions take
plain arrays, check them once, and return numbers or frozen records. A pair is accepted when its score is at least the
threshold. Ties never favour the model: tied impostors are rejected together rather than exceed a rate, and entries of
other subjects within 1e-6 of the mate's cosine rank before it.

The five that matter: `pair_scores` (cosines of all pairs of labelled embeddings), `roc_curve` (sorts the scores once;
EER and TAR@FAR are read from the `RocCurve`), `cross_validated_accuracy` (LFW's accuracy over folds),
`rank_accuracy` (closed-set identification), and `Result` (the figures of an evaluation, with intervals, as text,
Markdown and JSON). `calibrate_threshold` picks the threshold that is stored beside an exported model, `find_leaks`
compares training and test identities, and the `plot_` functions draw on matplotlib axes or write a file.

Order to read: `verification` (curve, rates and thresholds), `folds`, `identification`; `bootstrap` (subjects are
resampled, with the weighted forms of the measures); `results`; then, as needed, `score_matrix` (matrices too large
to hold), `projection` (mean and PCA that the test folds do not see), `calibration`, `leakage`, `plots`.
"""

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
