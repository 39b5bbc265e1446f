"""The softmax losses by the names of their papers: each a margin and its defaults."""

import keras
from keras import ops

from keras_normface.losses import labels
from keras_normface.losses.margin_softmax import MarginSoftmaxLoss
from keras_normface.margins import AdditiveAngular, AdditiveCosine, MultiplicativeAngular, NoMargin


class _NamedLoss(MarginSoftmaxLoss):
    """A `MarginSoftmaxLoss` whose margin follows from arguments of its own."""

    def get_config(self):
        config = super().get_config()
        del config["margin"]
        return config


@keras.saving.register_keras_serializable(package="keras_normface")
class NormFaceLoss(_NamedLoss):
    """Normalised softmax: cross-entropy of `scale · y_pred`.

    On the logits of `LearnableScale` leave `scale` at 1. On bare cosines give a fixed scale, 20 to 30: at
    scale 1 the loss cannot fall below `softmax_loss_lower_bound`, and training stands still.

    Args:
        scale: Factor s on `y_pred`. Positive.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)`, or rows of probabilities `(B, C)`; `y_pred` `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 6.

    Example:
    >>> import numpy as np
    >>> loss = NormFaceLoss(scale=20.0)
    >>> value = float(loss(np.array([0]), np.array([[0.9, 0.1, -0.2]])))
    >>> value < 1e-6
    True
    """

    def __init__(
        self,
        scale=1.0,
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="normface_loss",
        dtype="float32",
    ):
        super().__init__(NoMargin(), scale, label_smoothing, reduction, name, dtype)

    @property
    def expects_cosines(self):
        """Whether `y_pred` must be cosines: only with a scale of its own."""
        return self.scale != 1.0

    def call(self, y_true, y_pred):
        """Return the loss of each sample; see `SphereLoss.call`. Dense labels may be soft."""
        shape = tuple(y_pred.shape)
        if labels.is_sparse(y_true, shape):
            return super().call(y_true, y_pred)
        targets, valid = labels.class_probabilities(y_true, shape)
        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / shape[-1]
        losses = ops.categorical_crossentropy(smooth, self.scale * y_pred, from_logits=True)
        return labels.nan_where_invalid(losses, valid)


@keras.saving.register_keras_serializable(package="keras_normface")
class AMSoftmaxLoss(_NamedLoss):
    """Additive cosine margin, `s·(cosθ_y − m)`: AM-Softmax, CosFace.

    Args:
        margin: m, in [0, 2].
        scale: s. Positive.
        only_above_margin: See `AdditiveCosine`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: AM-Softmax (arXiv 1801.05599), Eq. 6; s = 30, m = 0.35 are the paper's.

    Example:
    >>> import numpy as np
    >>> loss = AMSoftmaxLoss()
    >>> round(float(loss(np.array([0]), np.array([[0.6, 0.25]]))), 4)  # both logits are 7.5: log 2
    0.6931
    """

    def __init__(
        self,
        margin=0.35,
        scale=30.0,
        only_above_margin=False,
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="am_softmax_loss",
        dtype="float32",
    ):
        margin = AdditiveCosine(margin, only_above_margin)
        super().__init__(margin, scale, label_smoothing, reduction, name, dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self.margin.get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class ArcFaceLoss(_NamedLoss):
    """Additive angular margin, `s·cos(min(π, θ_y + m))`: ArcFace.

    Args:
        margin_radians: m, in [0, π].
        scale: s. Positive.
        tail: See `AdditiveAngular`.
        gradient: `"detached"` or `"exact"`; see `Margin` and `AdditiveAngular`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), ArcFace's row of the table of margins; s = 64, m = 0.5 are the
    usual values of the field and not re-read in the paper.

    Example:
    >>> import numpy as np
    >>> float(ArcFaceLoss()(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    def __init__(
        self,
        margin_radians=0.5,
        scale=64.0,
        tail="clamp",
        gradient="detached",
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="arcface_loss",
        dtype="float32",
    ):
        margin = AdditiveAngular(margin_radians, tail, gradient)
        super().__init__(margin, scale, label_smoothing, reduction, name, dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self.margin.get_config()}


@keras.saving.register_keras_serializable(package="keras_normface")
class SphereFaceLoss(_NamedLoss):
    """Multiplicative angular margin with its monotonic extension: SphereFace ("v0").

    Args:
        margin: m, a real number of at least 1.
        scale: s. Positive.
        gradient: `"detached"` or `"exact"`; see `Margin`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), row v0; s = 30, m = 1.5 from its code. The first SphereFace had no
    scale but the feature norm: `MarginSoftmaxHead(feature_norm="none")`.

    Example:
    >>> import numpy as np
    >>> float(SphereFaceLoss()(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    variant = "v0"

    def __init__(
        self,
        margin=1.5,
        scale=30.0,
        gradient="detached",
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="sphereface_loss",
        dtype="float32",
    ):
        margin = MultiplicativeAngular(margin, self.variant, gradient)
        super().__init__(margin, scale, label_smoothing, reduction, name, dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        config = {**super().get_config(), **self.margin.get_config()}
        del config["variant"]
        return config


@keras.saving.register_keras_serializable(package="keras_normface")
class SphereFaceRLoss(_NamedLoss):
    """SphereFace-R with hard feature normalisation: `cos(min(mθ_y, π))` ("v1") or `cos(θ_j/m)` ("v2").

    Args:
        margin: m, a real number of at least 1.
        scale: s. Positive.
        variant: `"v1"`, the margin on the target, or `"v2"`, on the other classes.
        gradient: `"detached"` or `"exact"`; see `Margin`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), rows v1 and v2; s = 30, m = 1.5 from its code. Its λ/s only weights
    the loss: use `loss_weights`.

    Example:
    >>> import numpy as np
    >>> float(SphereFaceRLoss(variant="v2")(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    def __init__(
        self,
        margin=1.5,
        scale=30.0,
        variant="v1",
        gradient="detached",
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="sphereface_r_loss",
        dtype="float32",
    ):
        if variant not in ("v1", "v2"):
            raise ValueError(f'`variant` must be "v1" or "v2". Received: variant={variant!r}')
        margin = MultiplicativeAngular(margin, variant, gradient)
        super().__init__(margin, scale, label_smoothing, reduction, name, dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self.margin.get_config()}
