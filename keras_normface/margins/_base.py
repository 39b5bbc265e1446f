"""What all margins share: ψ and η of the cosine, and what a head asks a margin that depends on the sample."""

import math

import keras
from keras import ops

CLIP = 1e-6
"""How far from ±1 cosines are kept where the derivative of the angle is taken: it is infinite at the ends."""


class Margin:
    """Base of the margins: two functions of the cosine, and how they are differentiated.

    A margin by the sample says so in the class attributes below; it needs a head, which owns what the margin keeps and
    asks `of_samples` for what ψ and η are given as their `value`. All methods are pure functions.

    Args:
        value: The margin as a number. A head with a schedule gives another one at each step.
        gradient: `"exact"`: the derivative of ψ and η, with cosines clipped to ±(1 − 1e-6). `"detached"`
            (characteristic gradient detachment): `cos + stop_gradient(g − cos)`, the value with the margin and
            the gradient without, so no angle is ever differentiated.

    Raises:
        ValueError: If `gradient` is another one.
    """

    changes_others = False
    """Whether η differs from the cosine."""

    sees_own = False
    """Whether η is given the sample's own ψ."""

    by_sample = False
    """Whether ψ or η depend on more than the cosine, which `of_samples` makes of the batch."""

    draws = None
    """`"each"`: every sample has a number drawn for it. `"by rank"`: the larger the smaller its target's cosine."""

    state = {}  # noqa: RUF012
    """Names and first values of the scalars that a head keeps for `of_samples`."""

    def __init__(self, value, gradient):
        if gradient not in ("exact", "detached"):
            raise ValueError(f'`gradient` must be "exact" or "detached". Received: gradient={gradient!r}')
        self.value = float(value)
        self.gradient = gradient

    def target(self, cosine, value=None):
        """ψ, the target's side, of cosines of any shape.

        Args:
            cosine: Tensor of any shape.
            value: Replaces the margin: a number, a scalar, or what `of_samples` gave, in a shape that goes with that of
                the cosines.

        Returns:
            Tensor of the shape of `cosine`.
        """
        return self._differentiated(self._psi, cosine, value)

    def non_target(self, cosine, value=None, own=None):
        """η, the others' side, of cosines of any shape.

        Args:
            cosine: Tensor of any shape.
            value: As for `target`.
            own: The sample's own ψ, where the margin `sees_own`, in a shape that goes with that of the cosines.

        Returns:
            Tensor of the shape of `cosine`.
        """
        if not self.changes_others:
            return cosine
        return self._differentiated(self._eta, cosine, value)

    def non_target_slope(self, cosine, value=None, own=None):
        """Derivative of `non_target` by the cosine, which the fused head needs: 1 if η is the cosine or detached.

        A subclass with an η of its own and an exact gradient overrides this.
        """
        if self.changes_others and self.gradient == "exact":
            raise NotImplementedError(f"{type(self).__name__} must implement `non_target_slope`.")
        return ops.ones_like(cosine)

    def of_samples(self, number, norm, draw, state):
        """What ψ and η are given of each sample.

        Args:
            number: The margin, a number or a scalar: its own, or that of a schedule.
            norm: ‖x‖ `(batch,)`. What is not to pass a gradient on to the features must be detached here.
            draw: Numbers drawn from N(0, 1), `(batch,)`; `None` outside training, or if the margin has no `draws`.
            state: The scalars of `state` by their names.

        Returns:
            A scalar or a tensor `(batch,)`, or a tuple of them.
        """
        return number

    def sums(self, norm, cosine, state):
        """What a batch adds to the sums that `moved` takes.

        Args:
            norm: ‖x‖ `(batch,)`.
            cosine: Target cosines `(batch,)`.
            state: As for `of_samples`.

        Returns:
            Tensor `(k,)`; those of the parts of a batch are added up.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `sums`.")

    def moved(self, state, sums):
        """The state after a training step on a batch with these `sums`.

        Args:
            state: As for `of_samples`.
            sums: Sums over the whole batch, `(k,)`.

        Returns:
            Scalars by name, as in `state`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `moved`.")

    def penalty(self, norm):
        """What is added to the loss of a sample for its norm, `(batch,)`."""
        return ops.zeros_like(norm)

    def _psi(self, cosine, value):
        return cosine

    def _eta(self, cosine, value):
        return cosine

    def _differentiated(self, function, cosine, value):
        """ψ or η; where it is detached a gradient passes to `value` alone, if that has one."""
        cosine = ops.convert_to_tensor(cosine)
        cosine = ops.cast(cosine, keras.backend.result_type(cosine.dtype, "float32"))
        value = self._number(value, cosine)
        if self.gradient == "exact":
            return function(cosine, value)
        plain = ops.stop_gradient(cosine)
        return cosine + (function(ops.clip(plain, -1.0, 1.0), value) - plain)

    def _number(self, value, like):
        """The margin or what replaces it, of the type of `like`: schedules give float32."""
        value = self.value if value is None else value
        return keras.tree.map_structure(lambda part: ops.convert_to_tensor(part, dtype=like.dtype), value)

    def _angle(self, cosine):
        reach = 1.0 - CLIP if self.gradient == "exact" else 1.0
        return ops.arccos(ops.clip(cosine, -reach, reach))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"gradient": self.gradient}

    @classmethod
    def from_config(cls, config):
        """Make the margin that `get_config` described."""
        return cls(**config)


def pair(value):
    """The two parts of a value; a number alone is that of an average sample."""
    return value if isinstance(value, tuple | list) else (value, 0.0)


def in_range(argument, number, least, most):
    """A number as a float; raise if it is not in [least, most], or is infinite."""
    if not least <= number <= most or math.isinf(number):
        raise ValueError(f"`{argument}` must be in [{least:g}, {most:g}]. Received: {argument}={number!r}")
    return float(number)
