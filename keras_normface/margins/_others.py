"""Margins on cosines with an η of their own, in which no angle is: filtered classes, t-vMF, Circle by classes."""

import keras
from keras import ops

from keras_normface import _validation
from keras_normface.margins._base import Margin, in_range
from keras_normface.margins._fixed import Wrapped


@keras.saving.register_keras_serializable(package="keras_normface")
class InterClassFilter(Wrapped):
    """Another margin, with η = 0 and no gradient at classes nearer than τ: they are taken for the same person.

    Args:
        margin: Any `Margin`, also one by the sample; `None` means `NoMargin()`. A schedule replaces its number.
        threshold: τ, in [0, 1]. At 1 nothing is filtered.

    Raises:
        ValueError: If an argument is out of its range.

    Source: partial FC (arXiv 2203.15565), "inter-class filtering"; formula and τ were read in InsightFace's published
    code, which has it beside sampled class centres.

    Example:
    >>> from keras import ops
    >>> margin = InterClassFilter()
    >>> ops.convert_to_numpy(margin.non_target(ops.array([0.5, 0.25]))).tolist()
    [0.0, 0.25]
    """

    changes_others = True

    def __init__(self, margin=None, *, threshold=0.4):
        super().__init__(margin)
        self.sees_own = self.margin.sees_own
        self.threshold = in_range("threshold", threshold, 0.0, 1.0)

    def non_target(self, cosine, value=None, own=None):
        """η of the margin, 0 above τ."""
        cosine = ops.convert_to_tensor(cosine)
        eta = self.margin.non_target(cosine, value, *self._seen(own))
        return ops.where(cosine > self.threshold, ops.zeros_like(eta), eta)

    def non_target_slope(self, cosine, value=None, own=None):
        """That of the margin, 0 above τ."""
        slope = self.margin.non_target_slope(cosine, value, *self._seen(own))
        return ops.where(cosine > self.threshold, ops.zeros_like(slope), slope)

    def _seen(self, own):
        return [own] if self.sees_own else []

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="keras_normface")
class TVMF(Margin):
    """ψ = η = (1 + cos) / (1 + κ(1 − cos)) − 1: the similarity of a t-distributed von Mises-Fisher density.

    Args:
        concentration: κ, at least 0. 0: NormFace. A schedule replaces it.

    Raises:
        ValueError: If `concentration` is out of its range.

    Source: t-vMF similarity (Kobayashi, CVPR 2021); formula and κ were read in published code.

    Example:
    >>> from keras import ops
    >>> float(TVMF(2.0).target(ops.array(0.5)))  # 1.5 / 2 − 1
    -0.25
    """

    changes_others = True

    def __init__(self, concentration=16.0):
        super().__init__(_validation.number("concentration", concentration, at_least=0), "exact")

    def non_target_slope(self, cosine, value=None, own=None):
        """dη/dcos = (1 + 2κ) / (1 + κ(1 − cos))²."""
        kappa = self._number(value, cosine)
        return (1.0 + 2.0 * kappa) / ops.square(1.0 + kappa * (1.0 - cosine))

    def _psi(self, cosine, value):
        return (1.0 + cosine) / (1.0 + value * (1.0 - cosine)) - 1.0

    _eta = _psi

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"concentration": self.value}


@keras.saving.register_keras_serializable(package="keras_normface")
class Circle(Margin):
    """ψ = [1 + m − cos]₊·(cos − 1 + m), η = [cos + m]₊·(cos − m): Circle loss on class centres.

    The brackets are weights and have no gradient. γ is the scale of the head or loss: 256 in the paper's experiments.

    Args:
        margin: m, in [0, 1]. A schedule replaces it.

    Raises:
        ValueError: If `margin` is out of its range.

    Source: Circle loss (arXiv 2002.10857), with class labels; formula, m and γ were read in published code.

    Example:
    >>> from keras import ops
    >>> margin = Circle(0.25)
    >>> float(margin.target(ops.array(0.5))), float(margin.non_target(ops.array(0.5)))  # 0.75·(−0.25), 0.75·0.25
    (-0.1875, 0.1875)
    """

    changes_others = True

    def __init__(self, margin=0.25):
        super().__init__(in_range("margin", margin, 0.0, 1.0), "exact")

    def non_target_slope(self, cosine, value=None, own=None):
        """dη/dcos = [cos + m]₊: the bracket is not differentiated."""
        return ops.relu(cosine + self._number(value, cosine))

    def _psi(self, cosine, value):
        return ops.stop_gradient(ops.relu(1.0 + value - cosine)) * (cosine - 1.0 + value)

    def _eta(self, cosine, value):
        return ops.stop_gradient(ops.relu(cosine + value)) * (cosine - value)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"margin": self.value}
