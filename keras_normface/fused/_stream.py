"""Streaming: the cosines of one block of classes at a time, computed once more for the gradients."""

from keras import ops

from keras_normface import sphere


def inverse_norms(agents):
    """`1/‖W_j‖`, `(classes,)`.

    A product with ones, since XLA on a CPU would write all squares down before it sums them.
    """
    squares = ops.matmul(ops.square(agents), ops.ones((agents.shape[1], 1), dtype=agents.dtype))
    return ops.rsqrt(squares[:, 0] + sphere.EPSILON)


def forward(units, agents, ids, rho, value, log_weights, *, spec):
    """The rule's sums over all classes but the own one, each `(batch,)`, and then `1/‖W_j‖`, `(classes,)`.

    The norms are taken block by block, too: squares of all agents at once would be an array as large as the agents.
    """

    def body(number, state):
        *sums, inverse = state
        rows, fresh, part, weights = _part(agents, log_weights, number, spec)
        inverse_part = inverse_norms(part)
        cosines = inverse_part[:, None] * ops.matmul(part, ops.transpose(units))
        other = ops.logical_and(fresh, ops.not_equal(rows, ids))
        sums = spec.rule.add(sums, cosines, other, rho, value, weights, spec)
        return number + 1, (*sums, ops.slice_update(inverse, (rows[0, 0],), inverse_part))

    start = *spec.rule.start(rho, spec), ops.zeros_like(agents[:, 0])
    return _over_blocks(body, agents, start, spec)


def backward(units, agents, inverse, ids, rho, value, log_weights, upstream, *, spec):
    """Gradients by the unit embeddings, the agents and ρ; `upstream` is what the rule's `slopes` takes."""

    def body(number, state):
        by_units, by_agents, by_rho = state
        rows, fresh, part, log_part = _part(agents, log_weights, number, spec)
        inverse_part = ops.slice(inverse, (rows[0, 0],), (part.shape[0],))[:, None]
        cosines = inverse_part * ops.matmul(part, ops.transpose(units))
        slope, rho_slope = spec.rule.slopes(cosines, ops.equal(rows, ids), rho, value, log_part, upstream, spec)
        by_part, weights = agent_gradient(slope, cosines, inverse_part, part, units, spec)
        by_agents = ops.slice_update(by_agents, (rows[0, 0], 0), by_part)
        weights = ops.where(fresh, weights, 0.0)
        by_units = by_units + product(ops.transpose(weights), part, spec)
        if spec.scale_gradient:
            by_rho = by_rho + ops.sum(ops.where(fresh, rho_slope, 0.0), axis=0)
        return number + 1, (by_units, by_agents, by_rho)

    # Zeros that depend on an argument: TensorFlow computes constants while it compiles, and one of the agents' size
    # would then be there beside all that is trained.
    zero = ops.cast(ops.mod(ids[0], 1), agents.dtype)
    zeros = ops.zeros_like(units), ops.broadcast_to(zero, agents.shape), ops.zeros_like(rho)
    return _over_blocks(body, agents, zeros, spec)


def agent_gradient(slope, cosines, inverse, agents, units, spec):
    """Gradient by agents, tangential to them, and the weights with which they enter that of the embeddings.

    `Σ_i slope·cos` is the radial part, so nothing is projected afterwards.
    """
    weights = inverse * slope
    radial = ops.sum(weights * cosines, axis=1, keepdims=True) * inverse
    return product(weights, units, spec) - radial * agents, weights


def product(a, b, spec):
    """Matrix product of a gradient, in the type of the operands; taken in bfloat16 if `spec` says so."""
    if not spec.half_gradients:
        return ops.matmul(a, b)
    return ops.cast(ops.matmul(ops.cast(a, "bfloat16"), ops.cast(b, "bfloat16")), a.dtype)


def _part(agents, log_weights, number, spec):
    """Class ids `(block, 1)` of a block, which of them are met for the first time, its agents and their log weights.

    The last block ends with the last class, so it may begin among those of the block before.
    """
    classes, dim = agents.shape
    size = min(spec.block, classes)
    first = ops.minimum(number * size, classes - size)
    rows = first + ops.arange(size, dtype="int32")[:, None]
    log_weights = None if log_weights is None else ops.slice(log_weights, (first,), (size,))
    return rows, rows >= number * size, ops.slice(agents, (first, 0), (size, dim)), log_weights


def _over_blocks(body, agents, state, spec):
    size = min(spec.block, agents.shape[0])
    number = -(-agents.shape[0] // size)
    start = ops.convert_to_tensor(0, dtype="int32")
    return ops.while_loop(lambda k, _: k < number, body, (start, tuple(state)))[1]
