"""The margin softmax from embeddings and kernel at once, with its own gradient."""

import dataclasses
from typing import NamedTuple

import keras
from keras import ops

from keras_normface import sphere
from keras_normface._labels import as_tensor
from keras_normface.fused._compiled import has_compiler
from keras_normface.fused._streaming import BIG, Known, Rule, backward, check_mode, forward, target_cosines
from keras_normface.margins import Margin

FIXED_SHIFT_BELOW = 43.5
"""Scales below this need no maximum: `exp(s·cos − s)` stays above float32's least number, `2s < 87`."""

BUFFER_BYTES = 2**28
"""The largest `batch × classes` array that `"auto"` keeps, 256 MiB."""

PLAIN_CLASSES = 8192
"""With fewer classes `"auto"` takes plain ops: there is little to save."""

ASSUMED_BATCH = 256
"""Batch size of `"auto"` where a graph does not know it."""

MODES = ("auto", "buffer", "stream", False)


class FusedTerms(NamedTuple):
    """What the classes give for each sample, each `(batch,)`.

    Attributes:
        loss: The loss; a cross-entropy is in nats.
        target_cosine: Cosine with the own class centre.
        top_other_cosine: Largest cosine with another class centre; about −1e30 if there is none. No gradient.
    """

    loss: object
    target_cosine: object
    top_other_cosine: object


class SoftmaxSums(NamedTuple):
    """Running sums over the classes other than the own one, each (B,)."""

    peak: object  # largest logit ρ·η so far, or the fixed shift
    total: object  # Σ exp(ρ·η − peak)
    eta: object  # Σ η
    top: object  # largest cosine


class SoftmaxUpstream(NamedTuple):
    """What the backward pass knows of each sample, each (B,)."""

    log_total: object  # logΣ exp(ρ·η) over the other classes
    slope: object  # gradient of the loss by it
    eta_slope: object  # gradient of the loss by Σ η
    target_slope: object  # gradient of the loss by the target's cosine


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftmaxRule(Rule):
    """Sums of exp(ρ·η(θ_j)); `Known.per_sample` is ρ, `Known.per_class` what is added to a class's logits."""

    margin: object = None  # the `Margin` whose η acts on the other classes, or None where η is the cosine
    shift: float | None = None  # stands in for the largest logit; None: a running maximum
    smoothing: bool = False  # whether Σ η is wanted

    def start(self, rho):
        """(B,) → `SoftmaxSums` over no class."""
        low = ops.zeros_like(rho) - BIG
        peak = low if self.shift is None else ops.zeros_like(rho) + self.shift
        return SoftmaxSums(peak, ops.zeros_like(rho), ops.zeros_like(rho), low)

    def add(self, sums, cosines, other, known):
        """`SoftmaxSums` with one more block, (C, B)."""
        rho, log_weights = known.per_sample, known.per_class
        eta = self.eta(cosines, known)
        if log_weights is not None:
            other = ops.logical_and(other, log_weights[:, None] > -BIG)
        logits = ops.where(other, _with_log_weights(rho * eta, log_weights), -BIG)
        top = ops.maximum(sums.top, ops.max(ops.where(other, cosines, -BIG), axis=0))
        peak, total = sums.peak, sums.total
        if self.shift is None:
            peak = ops.maximum(peak, ops.max(logits, axis=0))
            total = total * ops.exp(sums.peak - peak)
        total = total + ops.sum(ops.where(other, ops.exp(logits - peak), 0.0), axis=0)
        if self.smoothing:
            return SoftmaxSums(peak, total, sums.eta + ops.sum(ops.where(other, eta, 0.0), axis=0), top)
        return SoftmaxSums(peak, total, sums.eta, top)

    def slopes(self, cosines, own, known, upstream):
        """(C, B) cosines → gradients by them and, class by class, by ρ, both (C, B)."""
        rho, log_weights = known.per_sample, known.per_class
        eta = self.eta(cosines, known)
        # The own class may lie above all others: its exponential could overflow, and it is not used.
        exponent = _with_log_weights(rho * eta, log_weights) - upstream.log_total
        share = upstream.slope * ops.exp(ops.where(own, 0.0, exponent))
        by_cosine = rho * share
        if self.smoothing:
            by_cosine = by_cosine + upstream.eta_slope
        if self.margin is not None:
            by_cosine = by_cosine * self.margin.non_target_slope(cosines, known.value, *self.seen(known))
        return ops.where(own, upstream.target_slope, by_cosine), ops.where(own, 0.0, share * eta)

    def eta(self, cosines, known):
        """(C, B) cosines → η."""
        return cosines if self.margin is None else self.margin.non_target(cosines, known.value, *self.seen(known))

    def seen(self, known):
        """The sample's ψ, (B,), in a list, which is empty where η does not see it."""
        return [known.own] if self.margin.sees_own else []


def _with_log_weights(logits, log_weights):
    """(C, B) logits, (C,) log weights or None → (C, B)."""
    return logits if log_weights is None else logits + log_weights[:, None]


def _log_total(sums):
    """`SoftmaxSums` → logΣ exp(ρ·η) over the other classes (B,); about −BIG where there is none."""
    tiny = ops.equal(sums.total, 0.0)
    return ops.where(tiny, -BIG, sums.peak + ops.log(ops.where(tiny, 1.0, sums.total)))


def supports(margin):
    """Whether a margin can be fused: η is the cosine, is detached, or has a `non_target_slope` of its own.

    Args:
        margin: A `Margin`.

    Returns:
        A bool.

    Example:
    >>> from keras_normface.margins import AdditiveCosine
    >>> supports(AdditiveCosine(0.35))
    True
    """
    own_slope = type(margin).non_target_slope is not Margin.non_target_slope
    known = not margin.changes_others or margin.gradient == "detached" or own_slope
    wrapped = getattr(margin, "margin", None)
    return known and has_compiler() and (wrapped is None or supports(wrapped))


def choose_mode(batch, classes):
    """`False` (plain ops), `"buffer"` or `"stream"`, by the bytes of a float32 array `batch × classes`.

    Args:
        batch: Samples of a batch, or `None` where unknown: 256 is assumed.
        classes: Number of classes.

    Returns:
        `False` below 8 192 classes, `"buffer"` up to 256 MiB, else `"stream"`.

    Example:
    >>> choose_mode(256, 5), choose_mode(256, 98_304), choose_mode(256, 1_048_576)
    (False, 'buffer', 'stream')
    """
    if classes < PLAIN_CLASSES:
        return False
    return "buffer" if 4 * (batch or ASSUMED_BATCH) * classes <= BUFFER_BYTES else "stream"


def fused_margin_softmax(
    embeddings,
    kernel,
    ids,
    margin,
    scale,
    *,
    value=None,
    label_smoothing=0.0,
    class_log_weights=None,
    mode="stream",
    block=8192,
    half_gradients=False,
):
    """Cross-entropy of `ρ·ψ(θ_y)` against `ρ·η(θ_j)` for each sample, with gradients by embeddings, kernel and ρ.

    The loss needs no array of `batch × classes`, and no normalised copy of the kernel: `1/‖W_j‖` scales the products.
    The cosines and all sums are float32 whatever the inputs, or float64 if the kernel is.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        kernel: Tensor `(classes, dim)`, the class centres as rows, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        margin: A `Margin` for which `supports` is true.
        scale: ρ, positive: a number, a scalar, or one of each sample `(batch,)`.
        value: Replaces the margin's number: a number, a scalar tensor, or what the margin's `of_samples` gave, whose
            gradient passes through ψ alone.
        label_smoothing: Share of the target spread evenly over all classes.
        class_log_weights: Tensor `(classes,)` or `None`: what is added to the logit of a class that is not the sample's
            own, such as −log of the probability that it was sampled. At most −1e30: the class is excluded.
        mode: `"buffer"` keeps one array `(classes, batch)` for the gradients (three products); `"stream"` holds one
            block of it at a time and computes it twice (four products).
        block: Classes of a block of `"stream"`. Positive.
        half_gradients: Whether the two products of the gradients are taken in bfloat16. The loss stays float32.

    Returns:
        `FusedTerms`.

    Raises:
        ValueError: If `mode` or `block` is out of its range, the margin cannot be fused, or there are
            `class_log_weights` beside a `label_smoothing`.

    Source: NormFace (arXiv 1704.06369), Eq. 6; SphereFace-R (arXiv 2109.05565), the unified frame.

    Example:
    >>> from keras import ops
    >>> from keras_normface.margins import AdditiveCosine
    >>> kernel = ops.array([[1.0, 0.0], [0.0, 3.0]])
    >>> terms = fused_margin_softmax(ops.array([[3.0, 4.0]]), kernel, ops.array([1]), AdditiveCosine(0.2), 4.0)
    >>> round(float(terms.loss[0]), 4)  # both logits are 2.4: log 2
    0.6931
    """
    check_mode(mode, block)
    if not supports(margin):
        raise ValueError(f"`margin` must have a `non_target_slope` to be fused. Received: margin={margin!r}")
    if label_smoothing and class_log_weights is not None:
        raise ValueError(
            f"`label_smoothing` must be 0 beside `class_log_weights`. Received: label_smoothing={label_smoothing!r}"
        )
    number = isinstance(scale, int | float)
    fixed_shift = number and class_log_weights is None and not margin.sees_own  # such an η may lie far above 1
    rule = SoftmaxRule(
        margin=margin if margin.changes_others else None,
        shift=float(scale) if fixed_shift and scale < FIXED_SHIFT_BELOW else None,
        block=block,
        smoothing=bool(label_smoothing),
        sample_gradient=not number,
        half_gradients=bool(half_gradients),
    )
    kernel = as_tensor("kernel", kernel)
    dtype = keras.backend.result_type(kernel.dtype, "float32")
    embeddings, kernel = as_tensor("embeddings", embeddings, dtype), ops.cast(kernel, dtype)
    ids = ops.cast(ids, "int32")
    rho = ops.broadcast_to(ops.convert_to_tensor(scale, dtype=dtype), ops.shape(ids))
    log_weights = None if class_log_weights is None else ops.cast(class_log_weights, dtype)
    eta_value = None
    if margin.changes_others:
        fixed = margin.value if value is None else value
        eta_value = keras.tree.map_structure(lambda p: ops.stop_gradient(ops.convert_to_tensor(p, dtype=dtype)), fixed)
    core = _core(mode, rule, ids, eta_value, log_weights)
    others, eta_sum, target, top = ops.unstack(core(sphere.normalize(embeddings), kernel, rho), 4)
    own = rho * margin.target(target, value)
    loss = ops.softplus(others - own)
    if label_smoothing:
        loss = loss + label_smoothing * (own - (own + rho * eta_sum) / kernel.shape[0])
    return FusedTerms(loss, target, ops.stop_gradient(top))


def _core(mode, rule, ids, value, log_weights):
    """Function of (B, D) unit embeddings, (C, D) kernel, (B,) ρ to (4, B): log Σ exp, Σ η, target, largest other."""

    def function(units, kernel, rho):
        # An eager tape would otherwise record the inside too, and differentiate a loop that XLA cannot.
        units, kernel, rho = (ops.stop_gradient(tensor) for tensor in (units, kernel, rho))
        target = target_cosines(units, kernel, ids)
        own = rule.margin is not None and rule.margin.sees_own
        own = ops.stop_gradient(rule.margin.target(target, value)) if own else None
        known = Known(ids, rho, value, log_weights, own)
        sums, kept = forward(mode, rule, units, kernel, known)
        others = _log_total(sums)

        def gradient(upstream):
            by_others, by_eta, by_target, _ = ops.unstack(upstream, 4)
            state = SoftmaxUpstream(others, by_others, by_eta, by_target)
            return backward(kept, rule, units, kernel, known, state)

        return ops.stack([others, sums.eta, target, sums.top]), gradient

    return ops.custom_gradient(function)
