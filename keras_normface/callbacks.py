"""Callbacks for `fit`: the scale watched, bad numbers stopped, pairs evaluated, weights and logs kept."""

from keras_normface.training import NanGuard, PairEvaluation, ScalarLog, ScaleMonitor, WeightSnapshots

__all__ = ["NanGuard", "PairEvaluation", "ScalarLog", "ScaleMonitor", "WeightSnapshots"]
