"""The C-contrastive and C-triplet losses from embeddings and agents at once, with their own gradients."""

import dataclasses
from typing import NamedTuple

import keras
from keras import ops

from keras_normface import sphere
from keras_normface._labels import as_tensor
from keras_normface.fused._softmax import FusedTerms
from keras_normface.fused._streaming import BIG, Known, Rule, backward, check_mode, forward, target_cosines

LAST = 2**31 - 1
"""Above all class ids."""


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
    """C-contrastive loss of each sample, with gradients by embeddings and agents; formula: `AgentContrastiveLoss`.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        agents: Tensor `(classes, dim)`, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        positive_margin: m⁺, a squared distance.
        negative_margin: m⁻, a squared distance.
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

    def reach(target):
        return ops.zeros_like(target) + negative_margin

    rule = _rule(hardest_negative_only, block, bool(exponential_negatives))
    pushed = _pushed(embeddings, agents, ids, reach, rule, mode)
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
    """C-triplet loss of each sample, with gradients by embeddings and agents; formula: `AgentTripletLoss`.

    Args:
        embeddings: Tensor `(batch, dim)`, not normalised.
        agents: Tensor `(classes, dim)`, not normalised.
        ids: Valid class ids `(batch,)`, int32.
        margin: m.
        hardest_negative_only: As for `fused_agent_contrastive`.
        positive_pull: As for `AgentTripletLoss`.
        gradient: `"exact"` or `"caffe"`; see `AgentTripletLoss`.
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

    def reach(target):
        return margin + sphere.squared_distance(target)

    pushed = _pushed(embeddings, agents, ids, reach, _rule(hardest_negative_only, block), mode)
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
    """What the classes give for each sample, each (B,)."""

    total: object  # sum of the pushes; no gradient by the reach
    violating: object  # number of classes that push; no gradient
    target: object  # cosine with the own agent
    top: object  # largest cosine with another agent; no gradient


class PushSums(NamedTuple):
    """Running sums over the classes other than the own one, each (B,)."""

    total: object  # sum of the pushes
    violating: object  # number of classes that push
    top: object  # largest cosine


class PushUpstream(NamedTuple):
    """What the backward pass knows of each sample, each (B,)."""

    slope: object  # gradient of the loss by the sum of the pushes
    target_slope: object  # gradient of the loss by the target's cosine


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushRule(Rule):
    """All other agents push; `Known.per_sample` is the reach r, the squared distance below which one pushes."""

    exponential: bool = False  # whether a push is exp(−d) and not r − d

    def start(self, reach):
        """(B,) → `PushSums` over no class."""
        zeros = ops.zeros_like(reach)
        return PushSums(zeros, zeros, zeros - BIG)

    def add(self, sums, cosines, other, known):
        """`PushSums` with one more block, (C, B)."""
        pushes = _push(sphere.squared_distance(cosines), known.per_sample, self.exponential)
        pushes = ops.where(other, pushes, 0.0)
        total = sums.total + ops.sum(pushes, axis=0)
        violating = sums.violating + ops.sum(ops.cast(pushes > 0.0, total.dtype), axis=0)
        return PushSums(total, violating, ops.maximum(sums.top, ops.max(ops.where(other, cosines, -BIG), axis=0)))

    def slopes(self, cosines, own, known, upstream):
        """(C, B) cosines → gradients by them (C, B), and None: the reach has none class by class."""
        distances = sphere.squared_distance(cosines)
        by_cosine = 2.0 * upstream.slope * (ops.exp(-distances) if self.exponential else 1.0)
        by_cosine = ops.where(distances < known.per_sample, by_cosine, 0.0)
        return ops.where(own, upstream.target_slope, by_cosine), None


class NearestSums(NamedTuple):
    """The nearest other agent so far, each (B,)."""

    top: object  # its cosine; −BIG if there is none
    row: object  # the first class that has it, int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestRule(Rule):
    """The nearest other agent alone pushes: its class is all that the gradients need. `Known.per_class` are ids."""

    exponential: bool = False

    def start(self, like):
        """(B,) → `NearestSums` over no class."""
        zeros = ops.zeros_like(like)
        return NearestSums(zeros - BIG, ops.cast(zeros, "int32"))

    def add(self, sums, cosines, other, known):
        """`NearestSums` with one more block, (C, B)."""
        cosines = ops.where(other, cosines, -BIG)
        top = ops.max(cosines, axis=0)
        row = ops.min(ops.where(ops.equal(cosines, top), known.per_class[:, None], LAST), axis=0)
        return NearestSums(ops.maximum(top, sums.top), ops.where(top > sums.top, row, sums.row))


def _push(distances, reach, exponential):
    """Squared distances → pushes: r − d, or exp(−d), where d < r; else 0. A NaN stays NaN."""
    size = ops.exp(-distances) if exponential else reach - distances
    # XLA's max and ReLU may lose a NaN on a CPU; a comparison does not.
    return ops.where(distances >= reach, ops.zeros_like(size), size)


def _rule(hardest_negative_only, block, exponential=False):
    return (NearestRule if hardest_negative_only else PushRule)(block=block, exponential=exponential)


def _pushed(embeddings, agents, ids, reach, rule, mode):
    """`_Pushed`; `reach` is a function of the target's cosines (B,)."""
    check_mode(mode, rule.block)
    agents = as_tensor("agents", agents)
    dtype = keras.backend.result_type(agents.dtype, "float32")
    embeddings, agents = as_tensor("embeddings", embeddings, dtype), ops.cast(agents, dtype)
    core = _of_the_nearest if isinstance(rule, NearestRule) else _of_all
    units, ids = sphere.normalize(embeddings), ops.cast(ids, "int32")
    total, violating, target, top = core(units, agents, ids, reach, rule, mode)
    return _Pushed(total, ops.stop_gradient(violating), target, ops.stop_gradient(top))


def _of_all(units, agents, ids, reach, rule, mode):
    """(B, D) unit embeddings, (C, D) agents → the four of `_Pushed`, each (B,)."""

    def function(units, agents):
        # An eager tape would otherwise record the inside too, and differentiate a loop that XLA cannot.
        units, agents = ops.stop_gradient(units), ops.stop_gradient(agents)
        target = target_cosines(units, agents, ids)
        known = Known(ids, reach(target))
        sums, kept = forward(mode, rule, units, agents, known)

        def gradient(upstream):
            by_total, _, by_target, _ = ops.unstack(upstream, 4)
            return backward(kept, rule, units, agents, known, PushUpstream(by_total, by_target))[:2]

        return ops.stack([sums.total, sums.violating, target, sums.top]), gradient

    return ops.unstack(ops.custom_gradient(function)(units, agents), 4)


def _of_the_nearest(units, agents, ids, reach, rule, mode):
    """As `_of_all`: the nearest is looked for without gradients; the two agents' cosines are then plain ops."""
    fixed_units, fixed_agents = ops.stop_gradient(units), ops.stop_gradient(agents)
    class_ids = ops.arange(agents.shape[0], dtype="int32")
    like = ops.zeros_like(units[:, 0])
    known = Known(ids, ops.stop_gradient(like), per_class=class_ids)
    sums, kept = forward(mode, rule, fixed_units, fixed_agents, known)
    two = sphere.normalize(_rows(agents, ops.stack([ids, sums.row], axis=1)))
    target, cosine = ops.unstack(ops.sum(ops.expand_dims(units, 1) * two, axis=-1), 2, axis=1)
    if agents.shape[0] == 1:
        return like, like, target, sums.top
    fixed_reach = ops.stop_gradient(reach(target))
    total = _push(sphere.squared_distance(cosine), fixed_reach, rule.exponential)
    # A search for the largest may pass over a NaN, and the plain loss does not.
    total = ops.where(ops.any(ops.isnan(kept.inverse)), float("nan"), total)
    return total, ops.cast(total > 0.0, total.dtype), target, sums.top


def _rows(agents, rows):
    """(C, D) agents, (B, 2) rows → (B, 2, D), with a gradient by all agents that is dense on every backend."""

    def function(agents):
        def gradient(upstream):
            flat = ops.reshape(upstream, (-1, agents.shape[1]))
            return ops.segment_sum(flat, ops.reshape(rows, (-1,)), num_segments=agents.shape[0])

        return ops.take(agents, rows, axis=0), gradient

    return ops.custom_gradient(function)(agents)
