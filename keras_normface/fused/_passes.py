"""Both passes over the classes in either mode, whatever a block adds."""

import functools
from typing import NamedTuple

from keras import ops

from keras_normface.fused import _buffer, _stream
from keras_normface.fused._compiled import compiled


def check(mode, block):
    """Raise a `ValueError` if `mode` is neither of the two, or `block` is no positive integer."""
    if mode not in ("buffer", "stream"):
        raise ValueError(f'`mode` must be "buffer" or "stream". Received: mode={mode!r}')
    if not isinstance(block, int) or block < 1:
        raise ValueError(f"`block` must be a positive integer. Received: block={block!r}")


def target_cosines(units, agents, ids):
    """Cosines of unit embeddings with their own agents, `(batch,)`."""
    own_agents = ops.take(agents, ids, axis=0)
    return ops.sum(units * own_agents, axis=-1) * _stream.inverse_norms(own_agents)


class Kept(NamedTuple):
    """What `forward` keeps for `backward`.

    Attributes:
        inverse: `1/‖W_j‖` of each class, `(classes,)`.
        products: `⟨W_j, x̃_i⟩`, `(classes, batch)`, or `None` where they are not kept.
    """

    inverse: object
    products: object


def forward(mode, spec, units, agents, known):
    """Sums over the classes, as the spec's rule has them, and `Kept`.

    Args:
        mode: `"buffer"` or `"stream"`.
        spec: The rule's `Spec`.
        units: Unit embeddings `(batch, dim)`.
        agents: Tensor `(classes, dim)`, not normalised.
        known: `(ids, rho, value, log_weights)`, as for `stream.forward`.
    """
    if mode == "stream":
        *sums, inverse = _call(_stream.forward, spec)(units, agents, *known)
        return sums, Kept(inverse, None)
    inverse = _call(_stream.inverse_norms)(agents)
    products = ops.matmul(agents, ops.transpose(units))
    return _call(_buffer.sums_of, spec)(products, inverse, *known), Kept(inverse, products)


def backward(kept, spec, units, agents, known, upstream):
    """Gradients by the unit embeddings, the agents and ρ; `kept` comes from `forward`."""
    inverse, products = kept
    if products is None:
        return tuple(_call(_stream.backward, spec)(units, agents, inverse, *known, tuple(upstream)))
    weights, radial, by_rho = _call(_buffer.weights_of, spec)(products, inverse, *known, tuple(upstream))
    by_units = _stream.product(ops.transpose(weights), agents, spec)
    by_agents = _stream.product(weights, units, spec)
    return by_units, _call(_buffer.without_radial)(by_agents, radial, agents), by_rho


@functools.lru_cache(maxsize=64)
def _partial(function, spec):
    return functools.partial(function, spec=spec)


def _call(function, spec=None):
    return compiled(function if spec is None else _partial(function, spec))
