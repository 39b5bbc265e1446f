"""Heads of the agent-based metric losses."""

import keras

from keras_normface.heads.base import Head
from keras_normface.losses import AgentContrastiveLoss, AgentTripletLoss


class _LossHead(Head):
    """A head around a loss on cosines, whose options it takes by name."""

    loss_class = None

    def __init__(self, units, options, **kwargs):
        super().__init__(units, **kwargs)
        self._loss = self.loss_class(**options, reduction=None)
        self._options = tuple(options)

    def loss_of_cosines(self, ids, cosines, embeddings, training):
        """Return the loss of each sample, given valid class ids."""
        return self._loss.loss_of_ids(ids, cosines)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), **{name: getattr(self._loss, name) for name in self._options}}


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentContrastiveHead(_LossHead):
    """C-contrastive loss with agents of its own.

    Args:
        units: Number of agents, one a class.
        positive_margin: m⁺.
        negative_margin: m⁻.
        positive_weight: w⁺.
        negative_weight: w⁻.
        positive_cap: T.
        hardest_negative_only: Whether only the nearest other agent pushes.
        exponential_negatives: Whether a push inside the margin is `w⁻·exp(−d)`.
        **kwargs: Arguments of `Head`.

    Raises:
        ValueError: If an argument is out of its range; see `AgentContrastiveLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 10.

    Example:
    >>> import numpy as np
    >>> head = AgentContrastiveHead(3)
    >>> head.loss(np.array([0, 2]), np.ones((2, 4), dtype="float32")).shape[0]
    2
    """

    loss_class = AgentContrastiveLoss

    def __init__(
        self,
        units,
        positive_margin=0.0,
        negative_margin=1.0,
        positive_weight=1.0,
        negative_weight=1.0,
        positive_cap=4.0,
        hardest_negative_only=False,
        exponential_negatives=False,
        **kwargs,
    ):
        options = {
            "positive_margin": positive_margin,
            "negative_margin": negative_margin,
            "positive_weight": positive_weight,
            "negative_weight": negative_weight,
            "positive_cap": positive_cap,
            "hardest_negative_only": hardest_negative_only,
            "exponential_negatives": exponential_negatives,
        }
        super().__init__(units, options, **kwargs)


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentTripletHead(_LossHead):
    """C-triplet loss with agents of its own.

    Args:
        units: Number of agents, one a class.
        margin: m.
        hardest_negative_only: Whether only the nearest other agent counts.
        positive_pull: Whether `d_iy` is added, also where no triplet violates.
        gradient: `"exact"` or `"caffe"`; see `AgentTripletLoss`.
        **kwargs: Arguments of `Head`.

    Raises:
        ValueError: If an argument is out of its range; see `AgentTripletLoss`.

    Source: NormFace (arXiv 1704.06369), Eq. 11.

    Example:
    >>> import numpy as np
    >>> head = AgentTripletHead(3, positive_pull=True)
    >>> head.loss(np.array([0, 2]), np.ones((2, 4), dtype="float32")).shape[0]
    2
    """

    loss_class = AgentTripletLoss

    def __init__(self, units, margin=0.8, hardest_negative_only=False, positive_pull=False, gradient="exact", **kwargs):
        options = {
            "margin": margin,
            "hardest_negative_only": hardest_negative_only,
            "positive_pull": positive_pull,
            "gradient": gradient,
        }
        super().__init__(units, options, **kwargs)
