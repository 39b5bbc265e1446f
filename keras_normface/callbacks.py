"""Callbacks for `fit`: the scale watched, bad numbers stopped, pairs evaluated, the best weights kept, logs written."""

from keras_normface.training import BestWeights, NanGuard, PairEvaluation, ScalarLog, ScaleMonitor, WeightSnapshots

__all__ = ["BestWeights", "NanGuard", "PairEvaluation", "ScalarLog", "ScaleMonitor", "WeightSnapshots"]
