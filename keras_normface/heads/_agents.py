"""Heads of NormFace's C-contrastive and C-triplet losses, where the class centres are called agents."""

import keras
from keras import ops

from keras_normface import fused as fused_terms
from keras_normface.heads._base import Head, HeadStatistics
from keras_normface.heads._sharding import fused_mode
from keras_normface.losses import AgentContrastiveLoss, AgentTripletLoss


class _LossHead(Head):
    """A head around a loss on cosines, whose options it takes by name, and around the fused form of that loss."""

    loss_class = None
    fused_loss = None

    def __init__(self, units, options, fused, **kwargs):
        super().__init__(units, **kwargs)
        if fused not in fused_terms.MODES:
            raise ValueError(f'`fused` must be "auto", "buffer", "stream" or False. Received: fused={fused!r}')
        self.fused = fused
        self._loss = self.loss_class(**options, reduction=None)
        self._options = tuple(options)

    def mode_for(self, batch_size):
        """Return how a batch is computed: `False`, `"buffer"` or `"stream"`."""
        return fused_mode(self, batch_size, fused_terms.has_compiler())

    def statistics_of_ids(self, ids, embeddings, training):
        """Return `HeadStatistics`, given valid class ids; fused if `fused` says so."""
        mode = self.mode_for(embeddings.shape[0])
        if not mode:
            return super().statistics_of_ids(ids, embeddings, training)
        agents = ops.convert_to_tensor(self.kernel)
        terms = self.fused_loss(embeddings, agents, ids, mode=mode, **self._loss_options())
        correct = ops.cast(terms.target_cosine >= terms.top_other_cosine, "float32")
        return HeadStatistics(terms.loss, correct, terms.target_cosine)

    def loss_of_cosines(self, ids, cosines, embeddings, training):
        """Return the loss of each sample, given valid class ids."""
        return self._loss.loss_of_ids(ids, cosines)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), **self._loss_options(), "fused": self.fused}

    def _loss_options(self):
        return {name: getattr(self._loss, name) for name in self._options}


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentContrastiveHead(_LossHead):
    """C-contrastive loss with agents of its own.

    Args:
        units: Number of agents, one a class.
        positive_margin: m⁺; this and the next six as in `AgentContrastiveLoss`.
        negative_margin: m⁻.
        positive_weight: w⁺.
        negative_weight: w⁻.
        positive_cap: T.
        hardest_negative_only: Whether only the nearest other agent pushes.
        exponential_negatives: Whether a push decays exponentially.
        fused: How the loss and its gradients are computed. `False`: plain ops, several arrays `batch × units`.
            `"buffer"`: one such array. `"stream"`: none. `"auto"`: what `fused.choose_mode` says for the batch.
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
    fused_loss = staticmethod(fused_terms.fused_agent_contrastive)

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
        fused="auto",
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
        super().__init__(units, options, fused, **kwargs)


@keras.saving.register_keras_serializable(package="keras_normface")
class AgentTripletHead(_LossHead):
    """C-triplet loss with agents of its own.

    Args:
        units: Number of agents, one a class.
        margin: m; this and the next three as in `AgentTripletLoss`.
        hardest_negative_only: Whether only the nearest other agent counts.
        positive_pull: Whether the own agent always pulls.
        gradient: `"exact"` or `"caffe"`.
        fused: As for `AgentContrastiveHead`.
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
    fused_loss = staticmethod(fused_terms.fused_agent_triplet)

    def __init__(
        self,
        units,
        margin=0.8,
        hardest_negative_only=False,
        positive_pull=False,
        gradient="exact",
        fused="auto",
        **kwargs,
    ):
        options = {
            "margin": margin,
            "hardest_negative_only": hardest_negative_only,
            "positive_pull": positive_pull,
            "gradient": gradient,
        }
        super().__init__(units, options, fused, **kwargs)
