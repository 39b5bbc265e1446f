"""The C-contrastive and C-triplet losses from embeddings and agents at once, with their own gradients."""

from typing import NamedTuple

import keras
from keras import ops

from keras_normface import sphere
from keras_normface.fused import _nearest, _passes, _pushes
from keras_normface.fused._softmax import FusedTerms


def fused_agent_contrastive(
    embeddings,
    agents,
    ids,
    *,
    positive_margin=0.0,
    negative_margin=1.0,
    positive_weight=1.0,
    negative_weight=1.0,
    positive_cap=4.0,
    hardest_negative_only=False,
    exponential_negatives=False,
    mode="stream",
    block=8192,
):
    """C-contrastive loss of each sample, with gradients by embeddings and agents; see `AgentContrastiveLoss`.

    `L_i = w⁺·min(T, max(0, d_iy − m⁺)) + Σ_{j≠y} w⁻·max(0, m⁻ − d_ij)` with squared distances `d = 2 − 2 cos`.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        agents: Tensor `(classes, dim)`, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        positive_margin: m⁺.
        negative_margin: m⁻.
        positive_weight: w⁺.
        negative_weight: w⁻.
        positive_cap: T.
        hardest_negative_only: Whether only the nearest other agent pushes; of equally near ones the first. There is
            then no second pass, and nothing is kept for it, in either mode.
        exponential_negatives: Whether a push inside the margin is `w⁻·exp(−d)`.
        mode: `"buffer"` keeps one array `(classes, batch)` for the gradients (three products); `"stream"` holds one
            block of it at a time and computes it twice (four products).
        block: Classes of a block of `"stream"`. Positive.

    Returns:
        `FusedTerms`, float32, or float64 if the agents are.

    Raises:
        ValueError: If `mode` or `block` is out of its range.

    Source: NormFace (arXiv 1704.06369), Eq. 10; options from the authors' code.

    Example:
    >>> from keras import ops
    >>> agents = ops.array([[1.0, 0.0], [0.6, 0.8]])
    >>> terms = fused_agent_contrastive(ops.array([[2.0, 0.0]]), agents, ops.array([0]))
    >>> round(float(terms.loss[0]), 4)  # the own agent is at 0, the other at 0.8
    0.2
    """
    spec = _spec(hardest_negative_only, block, bool(exponential_negatives))
    reach = lambda target: ops.zeros_like(target) + negative_margin  # noqa: E731
    pushed = _pushed(embeddings, agents, ids, reach, spec, mode)
    pull = ops.relu(sphere.squared_distance(pushed.target) - positive_margin)
    loss = positive_weight * ops.minimum(pull, positive_cap) + negative_weight * pushed.total
    return FusedTerms(loss, pushed.target, pushed.top)


def fused_agent_triplet(
    embeddings,
    agents,
    ids,
    *,
    margin=0.8,
    hardest_negative_only=False,
    positive_pull=False,
    gradient="exact",
    mode="stream",
    block=8192,
):
    """C-triplet loss of each sample, with gradients by embeddings and agents; see `AgentTripletLoss`.

    `L_i = Σ_{j≠y} max(0, m + d_iy − d_ij)` with squared distances `d = 2 − 2 cos`, plus `d_iy` with the positive pull.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        agents: Tensor `(classes, dim)`, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        margin: m.
        hardest_negative_only: As for `fused_agent_contrastive`.
        positive_pull: Whether `d_iy` is added, also where no triplet violates.
        gradient: `"exact"` or `"caffe"`, the original code's pair.
        mode: As for `fused_agent_contrastive`.
        block: As for `fused_agent_contrastive`.

    Returns:
        `FusedTerms`, float32, or float64 if the agents are.

    Raises:
        ValueError: If `mode`, `block` or `gradient` is out of its range.

    Source: NormFace (arXiv 1704.06369), Eq. 11; options and `"caffe"` from the authors' code.

    Example:
    >>> from keras import ops
    >>> agents = ops.array([[1.0, 0.0], [0.6, 0.8]])
    >>> terms = fused_agent_triplet(ops.array([[2.0, 0.0]]), agents, ops.array([0]), margin=1.0)
    >>> round(float(terms.loss[0]), 4)  # 1 + 0 − 0.8
    0.2
    """
    if gradient not in ("exact", "caffe"):
        raise ValueError(f'`gradient` must be "exact" or "caffe". Received: gradient={gradient!r}')
    reach = lambda target: margin + sphere.squared_distance(target)  # noqa: E731
    pushed = _pushed(embeddings, agents, ids, reach, _spec(hardest_negative_only, block), mode)
    positive = sphere.squared_distance(pushed.target)
    # The reach had no gradient: each hinge's by d_iy is 1.
    times = pushed.violating
    if gradient == "caffe":
        times = ops.ones_like(times) if positive_pull else ops.minimum(times, 1.0)
    loss = pushed.total + times * (positive - ops.stop_gradient(positive))
    if positive_pull and gradient == "exact":
        loss = loss + positive
    return FusedTerms(loss, pushed.target, pushed.top)


class _Pushed(NamedTuple):
    """What the classes give for each sample, each `(batch,)`.

    Attributes:
        total: Sum of the pushes; no gradient by the reach.
        violating: Number of classes that push; no gradient.
        target: Cosine with the own agent.
        top: Largest cosine with another agent; no gradient.
    """

    total: object
    violating: object
    target: object
    top: object


def _spec(hardest_negative_only, block, exponential=False):
    return _pushes.Spec(_nearest if hardest_negative_only else _pushes, block, exponential)


def _pushed(embeddings, agents, ids, reach, spec, mode):
    """`_Pushed`; `reach` is a function of the target's cosines."""
    _passes.check(mode, spec.block)
    dtype = keras.backend.result_type(agents.dtype, "float32")
    embeddings, agents = ops.cast(embeddings, dtype), ops.cast(agents, dtype)
    core = _of_the_nearest if spec.rule is _nearest else _of_all
    units, ids = sphere.normalize(embeddings), ops.cast(ids, "int32")
    total, violating, target, top = core(units, agents, ids, reach, spec, mode)
    return _Pushed(total, ops.stop_gradient(violating), target, ops.stop_gradient(top))


def _of_all(units, agents, ids, reach, spec, mode):
    def function(units, agents):
        # An eager tape would otherwise record the inside too, and differentiate a loop that XLA cannot.
        units, agents = ops.stop_gradient(units), ops.stop_gradient(agents)
        target = _passes.target_cosines(units, agents, ids)
        known = ids, reach(target), None, None
        sums, kept = _passes.forward(mode, spec, units, agents, known)
        sums = _pushes.Sums(*sums)

        def gradient(upstream):
            by_total, _, by_target, _ = ops.unstack(upstream, 4)
            state = _pushes.Upstream(by_total, by_target)
            return _passes.backward(kept, spec, units, agents, known, state)[:2]

        return ops.stack([sums.total, sums.violating, target, sums.top]), gradient

    return ops.unstack(ops.custom_gradient(function)(units, agents), 4)


def _of_the_nearest(units, agents, ids, reach, spec, mode):
    """The nearest agent's class is looked for without gradients; the two agents' cosines are then plain ops."""
    fixed_units, fixed_agents = ops.stop_gradient(units), ops.stop_gradient(agents)
    class_ids = ops.arange(agents.shape[0], dtype="int32")
    like = ops.zeros_like(units[:, 0])
    known = ids, ops.stop_gradient(like), None, class_ids
    sums, kept = _passes.forward(mode, spec, fixed_units, fixed_agents, known)
    sums = _nearest.Sums(*sums)
    two = sphere.normalize(_rows(agents, ops.stack([ids, sums.row], axis=1)))
    target, cosine = ops.unstack(ops.sum(ops.expand_dims(units, 1) * two, axis=-1), 2, axis=1)
    if agents.shape[0] == 1:
        return like, like, target, sums.top
    fixed_reach = ops.stop_gradient(reach(target))
    total = _pushes.push(sphere.squared_distance(cosine), fixed_reach, spec.exponential)
    # A search for the largest may pass over a NaN, and the plain loss does not.
    total = ops.where(ops.any(ops.isnan(kept.inverse)), float("nan"), total)
    return total, ops.cast(total > 0.0, total.dtype), target, sums.top


def _rows(agents, rows):
    """Agents of the rows `(batch, 2)`, with a gradient by all agents that is dense on every backend."""

    def function(agents):
        def gradient(upstream):
            flat = ops.reshape(upstream, (-1, agents.shape[1]))
            return ops.segment_sum(flat, ops.reshape(rows, (-1,)), num_segments=agents.shape[0])

        return ops.take(agents, rows, axis=0), gradient

    return ops.custom_gradient(function)(agents)
