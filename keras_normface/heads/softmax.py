"""The ordinary softmax as a head: with weights of any length and a bias, on features that may be normalised."""

import keras
from keras import ops

from keras_normface.heads.base import Head
from keras_normface.layers import LearnableScale
from keras_normface.losses import softmax_loss
from keras_normface.sphere import EPSILON


@keras.saving.register_keras_serializable(package="keras_normface")
class SoftmaxHead(Head):
    """Softmax of `⟨f, W_j⟩ + b_j`, with f = α·x̃ (L2-softmax) or f = x (the plain softmax).

    Accuracy and angle, as in all heads, are those of the directions of embeddings and weights.

    Args:
        units: Number of classes.
        scale: α, a positive number or a `LearnableScale`; `None` leaves the features as they are.
        use_bias: Whether there is a bias.
        **kwargs: Arguments of `Head`.

    Weights: `kernel`, `(units, dim)`; `bias`, `(units,)`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: L2-softmax (arXiv 1703.09507), §3.

    Example:
    >>> import numpy as np
    >>> head = SoftmaxHead(3, scale=16.0)
    >>> head.loss(np.array([0, 2]), np.ones((2, 4), dtype="float32")).shape[0]
    2
    """

    def __init__(self, units, scale=None, use_bias=True, **kwargs):
        super().__init__(units, **kwargs)
        self.scale = keras.saving.deserialize_keras_object(scale) if isinstance(scale, dict) else scale
        if not (self.scale is None or isinstance(self.scale, LearnableScale)) and not self.scale > 0:
            raise ValueError(f"`scale` must be None, positive or a LearnableScale. Received: scale={scale!r}")
        self.use_bias = bool(use_bias)

    def build(self, input_shape):
        """Create weights, bias and scale."""
        super().build(input_shape)
        if isinstance(self.scale, LearnableScale) and not self.scale.built:
            self.scale.build((None, self.units))
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    @property
    def current_scale(self):
        """The scale α that acts: a number, a scalar tensor if it is learnable, or `None`."""
        return self.scale.value if isinstance(self.scale, LearnableScale) else self.scale

    def loss_of_cosines(self, ids, cosines, embeddings, training):
        """Return the loss of each sample, given valid class ids."""
        # ⟨x, W_j⟩ = cos_j · ‖x‖ · ‖W_j‖, with the norms that the cosines were divided by: no second matrix product.
        logits = cosines * ops.sqrt(ops.sum(ops.square(self.kernel), axis=-1) + EPSILON)
        if self.scale is None:
            logits = logits * ops.sqrt(ops.sum(ops.square(embeddings), axis=-1, keepdims=True) + EPSILON)
        else:
            logits = logits * self.current_scale
        if self.use_bias:
            logits = logits + self.bias
        return softmax_loss(logits, ids)

    def get_config(self):
        """Return the arguments of the constructor."""
        learnable = isinstance(self.scale, LearnableScale)
        scale = keras.saving.serialize_keras_object(self.scale) if learnable else self.scale
        return {**super().get_config(), "scale": scale, "use_bias": self.use_bias}
