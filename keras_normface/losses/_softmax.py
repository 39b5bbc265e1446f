"""The margin softmax loss, and the losses of the papers as names of it."""

import keras
from keras import ops

from keras_normface import _labels, _validation, margins
from keras_normface.losses._base import CheckedLoss
from keras_normface.margins import AdditiveAngular, AdditiveCosine, MultiplicativeAngular, NoMargin


class SphereLoss(CheckedLoss):
    """Base of the losses on cosines or logits: checks labels, returns one loss a sample, computes in float32.

    A label out of range is a `ValueError` when the loss is called eagerly; inside a graph (which `fit`
    always makes) it makes the loss of that sample NaN.
    `reduction="mean_with_sample_weight"` divides by the sum of the weights on each replica by itself, so
    under several replicas it is not the mean over the global batch; the other reductions are.

    Args:
        name: Name of the loss.
        reduction: Any Keras reduction.
        dtype: `"float32"` or `"float64"`. Halves are refused: they would round the class ids.

    Raises:
        ValueError: If `dtype` is another one.
    """

    expects_cosines = True
    """Whether `y_pred` must be cosines (`CosineDense`), and not logits (`LearnableScale`)."""

    def call(self, y_true, y_pred):
        """Return the loss of each sample.

        Args:
            y_true: Class ids `(...)` or `(..., 1)`, or one-hot rows `(..., num_classes)`.
            y_pred: Cosines or logits, `(..., num_classes)`.

        Returns:
            Tensor of shape `(...)`.

        Raises:
            ValueError: For labels that do not fit (see the class).
        """
        y_true, y_pred = self.tensors(y_true, y_pred)
        ids, valid = _labels.class_ids(y_true, tuple(y_pred.shape))
        return _labels.nan_where_invalid(self.loss_of_ids(ids, y_pred), valid)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids `(...)` and `y_pred` `(..., num_classes)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `loss_of_ids`.")


def softmax_loss(logits, ids, *, label_smoothing=0.0):
    """Cross-entropy of each sample with its class, `logΣe^{z_j} − z_y`, from logits.

    Args:
        logits: Tensor `(..., num_classes)`.
        ids: Valid class ids `(...)`, integers.
        label_smoothing: Share ε of the target that is spread evenly over all classes.

    Returns:
        Tensor `(...)`, in nats.

    Source: NormFace (arXiv 1704.06369), Eq. 1.

    Example:
    >>> from keras import ops
    >>> ops.convert_to_numpy(softmax_loss(ops.zeros((1, 4)), ops.array([2]))).round(4).tolist()
    [1.386299967765808]
    """
    logits = _labels.as_tensor("logits", logits)
    losses = ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)
    if not label_smoothing:
        return losses
    target = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1), axis=-1)
    return losses + label_smoothing * (target - ops.mean(logits, axis=-1))


def margin_cosines(cosines, ids, margin, *, value=None):
    """Cosines with the margin in place: ψ(θ_y) at the own class, η(θ_j) at the others.

    Args:
        cosines: Tensor `(..., num_classes)`.
        ids: Valid class ids `(...)`, int32.
        margin: A `Margin`.
        value: Replaces the margin's number: a number, a scalar tensor, or what the margin's `of_samples` gave, with
            tensors `(...)`.

    Returns:
        Tensor `(..., num_classes)`.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame.

    Example:
    >>> from keras import ops
    >>> from keras_normface.margins import AdditiveCosine
    >>> m = margin_cosines(ops.array([[0.5, 0.25]]), ops.array([0]), AdditiveCosine(0.25))
    >>> ops.convert_to_numpy(m).tolist()
    [[0.25, 0.25]]
    """
    cosines = _labels.as_tensor("cosines", cosines)
    if isinstance(margin, NoMargin):
        return cosines
    ids = ops.expand_dims(ids, axis=-1)
    if margin.by_sample and value is not None:
        value = keras.tree.map_structure(_column, value)
    target = margin.target(ops.take_along_axis(cosines, ids, axis=-1), value)
    is_target = ops.equal(ops.arange(cosines.shape[-1], dtype="int32"), ops.cast(ids, "int32"))
    seen = [ops.stop_gradient(target)] if margin.sees_own else []
    return ops.where(is_target, target, margin.non_target(cosines, value, *seen))


def _column(value):
    """Tensor (...) → (..., 1); a number or a scalar stays."""
    return ops.expand_dims(value, -1) if len(getattr(value, "shape", ())) else value


@keras.saving.register_keras_serializable(package="keras_normface")
class MarginSoftmaxLoss(SphereLoss):
    """Cross-entropy of `scale · (ψ(θ_y) at the own class, η(θ_j) at the others)`, on cosines.

    Args:
        margin: A `Margin`, but for those by the sample, which need a head; `None` means `NoMargin()`.
        scale: Factor s. Positive.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        reduction: Any Keras reduction.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`.

    Call shapes: `y_true` class ids `(B,)` or `(B, 1)` or one-hot rows `(B, C)`; `y_pred` cosines `(B, C)`.

    Raises:
        ValueError: If an argument is out of its range; for labels, see `SphereLoss`.

    Source: SphereFace-R (arXiv 2109.05565), the unified frame with hard feature normalisation, λ/s = 1.

    Example:
    >>> import numpy as np
    >>> from keras_normface.margins import AdditiveCosine
    >>> loss = MarginSoftmaxLoss(AdditiveCosine(0.25), scale=4.0)
    >>> round(float(loss(np.array([0]), np.array([[0.5, 0.25]]))), 4)  # both logits are 1: log 2
    0.6931
    """

    def __init__(
        self,
        margin=None,
        *,
        scale=30.0,
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="margin_softmax_loss",
        dtype="float32",
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.margin = margins.get(margin)
        if self.margin.by_sample:
            raise ValueError(
                "`margin` must follow from the cosine: one that depends on the sample needs a MarginSoftmaxHead. "
                f"Received: margin={self.margin!r}"
            )
        self.scale = _validation.number("scale", scale, above=0)
        self.label_smoothing = _validation.number("label_smoothing", label_smoothing, at_least=0, below=1)

    def loss_of_ids(self, ids, y_pred):
        """Return the loss of each sample, given valid class ids."""
        logits = self.scale * margin_cosines(y_pred, ids, self.margin)
        return softmax_loss(logits, ids, label_smoothing=self.label_smoothing)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "margin": keras.saving.serialize_keras_object(self.margin),
            "scale": self.scale,
            "label_smoothing": self.label_smoothing,
        }


class _NamedLoss(MarginSoftmaxLoss):
    """A `MarginSoftmaxLoss` whose margin is made from arguments of its own, but for those in `fixed`."""

    fixed = ()

    def get_config(self):
        """Return the arguments of the constructor."""
        config = super().get_config()
        del config["margin"]
        return config | {k: v for k, v in self.margin.get_config().items() if k not in self.fixed}


@keras.saving.register_keras_serializable(package="keras_normface")
class NormFaceLoss(_NamedLoss):
    """Normalised softmax: cross-entropy of `scale · y_pred`.

    On the logits of `LearnableScale` leave `scale` at 1. On bare cosines give a fixed scale, 20 to 30: at
    scale 1 the loss cannot fall below `softmax_loss_lower_bound`, and training stands still.

    Args:
        scale: Factor s on `y_pred`. Positive.
        name: Name of the loss.
        **kwargs: `label_smoothing`, `reduction` and `dtype`, as in `MarginSoftmaxLoss`.

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

    def __init__(self, *, scale=1.0, name="normface_loss", **kwargs):
        super().__init__(NoMargin(), scale=scale, name=name, **kwargs)

    @property
    def expects_cosines(self):
        """Whether `y_pred` must be cosines: only with a scale of its own."""
        return self.scale != 1.0

    def call(self, y_true, y_pred):
        """Return the loss of each sample; see `SphereLoss.call`. Dense labels may be soft."""
        y_true, y_pred = self.tensors(y_true, y_pred)
        shape = tuple(y_pred.shape)
        if _labels.is_sparse(y_true, shape):
            return super().call(y_true, y_pred)
        targets, valid = _labels.class_probabilities(ops.cast(y_true, self.dtype), shape)
        smooth = targets * (1.0 - self.label_smoothing) + self.label_smoothing / shape[-1]
        losses = ops.categorical_crossentropy(smooth, self.scale * y_pred, from_logits=True)
        return _labels.nan_where_invalid(losses, valid)


@keras.saving.register_keras_serializable(package="keras_normface")
class AMSoftmaxLoss(_NamedLoss):
    """Additive cosine margin, `s·(cosθ_y − m)`: AM-Softmax, CosFace.

    Args:
        margin: m, in [0, 2].
        scale: s. Positive.
        only_above_margin: See `AdditiveCosine`.
        name: Name of the loss.
        **kwargs: `label_smoothing`, `reduction` and `dtype`, as in `MarginSoftmaxLoss`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: AM-Softmax (arXiv 1801.05599), Eq. 6; s = 30, m = 0.35 are the paper's.

    Example:
    >>> import numpy as np
    >>> loss = AMSoftmaxLoss()
    >>> round(float(loss(np.array([0]), np.array([[0.6, 0.25]]))), 4)  # both logits are 7.5: log 2
    0.6931
    """

    def __init__(self, margin=0.35, *, scale=30.0, only_above_margin=False, name="am_softmax_loss", **kwargs):
        margin = AdditiveCosine(margin, only_above_margin=only_above_margin)
        super().__init__(margin, scale=scale, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="keras_normface")
class ArcFaceLoss(_NamedLoss):
    """Additive angular margin, `s·cos(min(π, θ_y + m))`: ArcFace.

    Args:
        margin: m, in [0, π].
        scale: s. Positive.
        tail: See `AdditiveAngular`.
        gradient: `"detached"` or `"exact"`; see `Margin` and `AdditiveAngular`.
        name: Name of the loss.
        **kwargs: `label_smoothing`, `reduction` and `dtype`, as in `MarginSoftmaxLoss`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), ArcFace's row of the table of margins; s = 64, m = 0.5 are the
    usual values of the field and not re-read in the paper.

    Example:
    >>> import numpy as np
    >>> float(ArcFaceLoss()(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    def __init__(
        self, margin=0.5, *, scale=64.0, tail="clamp", gradient="detached", name="arcface_loss", **kwargs
    ):  # fmt: skip
        margin = AdditiveAngular(margin, tail=tail, gradient=gradient)
        super().__init__(margin, scale=scale, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="keras_normface")
class SphereFaceLoss(_NamedLoss):
    """Multiplicative angular margin with its monotonic extension: SphereFace ("v0").

    Args:
        margin: m, a real number of at least 1.
        scale: s. Positive.
        gradient: `"detached"` or `"exact"`; see `Margin`.
        name: Name of the loss.
        **kwargs: `label_smoothing`, `reduction` and `dtype`, as in `MarginSoftmaxLoss`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), row v0; s = 30, m = 1.5 from its code. The first SphereFace had no
    scale but the feature norm: `MarginSoftmaxHead(feature_norm="none")`.

    Example:
    >>> import numpy as np
    >>> float(SphereFaceLoss()(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    fixed = ("variant",)

    def __init__(self, margin=1.5, *, scale=30.0, gradient="detached", name="sphereface_loss", **kwargs):
        margin = MultiplicativeAngular(margin, variant="v0", gradient=gradient)
        super().__init__(margin, scale=scale, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="keras_normface")
class SphereFaceRLoss(_NamedLoss):
    """SphereFace-R with hard feature normalisation: `cos(min(mθ_y, π))` ("v1") or `cos(θ_j/m)` ("v2").

    Args:
        margin: m, a real number of at least 1.
        scale: s. Positive.
        variant: `"v1"`, the margin on the target, or `"v2"`, on the other classes.
        gradient: `"detached"` or `"exact"`; see `Margin`.
        name: Name of the loss.
        **kwargs: `label_smoothing`, `reduction` and `dtype`, as in `MarginSoftmaxLoss`.

    Call shapes, errors: those of `MarginSoftmaxLoss`.

    Source: SphereFace-R (arXiv 2109.05565), rows v1 and v2; s = 30, m = 1.5 from its code. Its λ/s only weights
    the loss: use `loss_weights`.

    Example:
    >>> import numpy as np
    >>> float(SphereFaceRLoss(variant="v2")(np.array([0]), np.array([[1.0, -1.0]]))) < 1e-6
    True
    """

    def __init__(
        self, margin=1.5, *, scale=30.0, variant="v1", gradient="detached", name="sphereface_r_loss", **kwargs
    ):  # fmt: skip
        if variant not in ("v1", "v2"):
            raise ValueError(f'`variant` must be "v1" or "v2". Received: variant={variant!r}')
        margin = MultiplicativeAngular(margin, variant=variant, gradient=gradient)
        super().__init__(margin, scale=scale, name=name, **kwargs)
