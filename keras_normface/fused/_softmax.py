"""The margin softmax from embeddings and agents at once, with its own gradient."""

from typing import NamedTuple

import keras
from keras import ops

from keras_normface import sphere
from keras_normface.fused import _block as blocks
from keras_normface.fused import _passes
from keras_normface.fused._compiled import has_compiler
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
        target_cosine: Cosine with the own agent.
        top_other_cosine: Largest cosine with another agent; about −1e30 if there is none. No gradient.
    """

    loss: object
    target_cosine: object
    top_other_cosine: object


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
    return known and has_compiler()


def choose_mode(batch, classes):
    """`False` (plain ops), `"buffer"` or `"stream"`, by the bytes of a float32 array `batch × classes`.

    Args:
        batch: Samples of a batch, or `None` where unknown: 256 is assumed.
        classes: Number of agents.

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
    agents,
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
    """Cross-entropy of `ρ·ψ(θ_y)` against `ρ·η(θ_j)` for each sample, with gradients by embeddings, agents and ρ.

    The loss needs no array of `batch × classes`, and no normalised copy of the agents: `1/‖W_j‖` scales the products.
    The cosines and all sums are float32 whatever the inputs, or float64 if the agents are.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        agents: Tensor `(classes, dim)`, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        margin: A `Margin` for which `supports` is true.
        scale: ρ, positive: a number, a scalar, or one of each sample `(batch,)`.
        value: Replaces the margin's number: a number or a scalar tensor, not differentiated.
        label_smoothing: Share of the target spread evenly over all classes.
        class_log_weights: Tensor `(classes,)` or `None`: what is added to the logit of a class that is not the sample's
            own, such as −log of the probability that it was sampled. At most −1e30: the class is left out.
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
    >>> agents = ops.array([[1.0, 0.0], [0.0, 3.0]])
    >>> terms = fused_margin_softmax(ops.array([[3.0, 4.0]]), agents, ops.array([1]), AdditiveCosine(0.2), 4.0)
    >>> round(float(terms.loss[0]), 4)  # both logits are 2.4: log 2
    0.6931
    """
    _passes.check(mode, block)
    if not supports(margin):
        raise ValueError(f"`margin` must have a `non_target_slope` to be fused. Received: margin={margin!r}")
    if label_smoothing and class_log_weights is not None:
        raise ValueError(
            f"`label_smoothing` must be 0 beside `class_log_weights`. Received: label_smoothing={label_smoothing!r}"
        )
    number = isinstance(scale, int | float)
    spec = blocks.Spec(
        rule=blocks,
        margin=margin if margin.changes_others else None,
        shift=float(scale) if number and class_log_weights is None and scale < FIXED_SHIFT_BELOW else None,
        block=block,
        smoothing=bool(label_smoothing),
        scale_gradient=not number,
        half_gradients=bool(half_gradients),
    )
    dtype = keras.backend.result_type(agents.dtype, "float32")
    embeddings, agents = ops.cast(embeddings, dtype), ops.cast(agents, dtype)
    ids = ops.cast(ids, "int32")
    rho = ops.broadcast_to(ops.cast(scale, dtype), ops.shape(ids))
    eta_value = ops.stop_gradient(ops.cast(margin.value if value is None else value, dtype))
    log_weights = None if class_log_weights is None else ops.cast(class_log_weights, dtype)
    core = _core(mode, spec, ids, eta_value, log_weights)
    others, eta_sum, target, top = ops.unstack(core(sphere.normalize(embeddings), agents, rho), 4)
    own = rho * margin.target(target, value)
    loss = ops.softplus(others - own)
    if label_smoothing:
        loss = loss + label_smoothing * (own - (own + rho * eta_sum) / agents.shape[0])
    return FusedTerms(loss, target, ops.stop_gradient(top))


def _core(mode, spec, ids, value, log_weights):
    """Function of unit embeddings, agents and ρ to `(4, batch)`: log Σ exp, Σ η, target cosine, largest other."""

    def function(units, agents, rho):
        # An eager tape would otherwise record the inside too, and differentiate a loop that XLA cannot.
        units, agents, rho = (ops.stop_gradient(tensor) for tensor in (units, agents, rho))
        target = _passes.target_cosines(units, agents, ids)
        known = ids, rho, value, log_weights
        sums, kept = _passes.forward(mode, spec, units, agents, known)
        sums = blocks.Sums(*sums)
        others = blocks.log_total(sums)

        def gradient(upstream):
            by_others, by_eta, by_target, _ = ops.unstack(upstream, 4)
            state = blocks.Upstream(others, by_others, by_eta, by_target)
            return _passes.backward(kept, spec, units, agents, known, state)

        return ops.stack([others, sums.eta, target, sums.top]), gradient

    return ops.custom_gradient(function)
