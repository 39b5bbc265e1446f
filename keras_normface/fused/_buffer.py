"""Buffered: one product, kept until the gradients are taken, and two more."""

from keras import ops


def sums_of(products, inverse, ids, rho, value, log_weights, *, spec):
    """The rule's sums over all classes but the own one; `products` are `⟨W_j, x̃_i⟩`, `(classes, batch)`."""
    other = ops.logical_not(_own(products, ids))
    rule, cosines = spec.rule, inverse[:, None] * products
    return tuple(rule.add(rule.start(rho, spec), cosines, other, rho, value, log_weights, spec))


def weights_of(products, inverse, ids, rho, value, log_weights, upstream, *, spec):
    """Weights of the two products `(classes, batch)`, radial parts of the agents `(classes, 1)`, gradient by ρ."""
    cosines = inverse[:, None] * products
    slope, by_rho = spec.rule.slopes(cosines, _own(products, ids), rho, value, log_weights, upstream, spec)
    weights = inverse[:, None] * slope
    radial = ops.sum(weights * cosines, axis=1, keepdims=True) * inverse[:, None]
    return weights, radial, ops.sum(by_rho, axis=0) if spec.scale_gradient else ops.zeros_like(rho)


def without_radial(gradient, radial, agents):
    """The agents' gradient without its radial part."""
    return gradient - radial * agents


def _own(products, ids):
    return ops.equal(ops.arange(products.shape[0], dtype="int32")[:, None], ids)
