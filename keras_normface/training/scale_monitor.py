"""Watch the scale: the trap of a softmax on too small cosines."""

import warnings

import keras
from keras import ops

from keras_normface.heads import MarginSoftmaxHead
from keras_normface.layers import CosineDense, LearnableScale
from keras_normface.losses import NormFaceLoss
from keras_normface.sphere import softmax_loss_lower_bound


class ScaleMonitor(keras.callbacks.Callback):
    """Log the scale and the least loss it allows each epoch, and warn when training sits on that bound.

    Adds `scale` and `loss_lower_bound` to the logs, so they show in the history and the progress bar's
    summary. Warns, once, when the bound is above 0.1 and the loss is within 5 % of it: the scale is then too
    small for the loss to fall, whatever the network learns.

    Args:
        num_classes: Number of classes; `None` takes the units of the model's only `CosineDense`, or
            `MarginSoftmaxHead` with a hard feature norm.
        loss_name: Which entry of the logs is the softmax loss. With several outputs, Keras calls it
            `<output>_loss`.

    Raises:
        ValueError: When training starts, if the number of classes or the scale cannot be told.

    Source: NormFace (arXiv 1704.06369), §3.3 and Proposition 2.

    Example:
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), CosineDense(3), LearnableScale(20.0)])
    >>> model.compile(loss=NormFaceLoss())
    >>> data = np.eye(4)[:3], np.arange(3)
    >>> history = model.fit(*data, verbose=0, callbacks=[ScaleMonitor()])
    >>> sorted(history.history)
    ['loss', 'loss_lower_bound', 'scale']
    """

    BOUND_THAT_MATTERS = 0.1
    NEARNESS = 1.05

    def __init__(self, num_classes=None, loss_name="loss"):
        super().__init__()
        self.num_classes = num_classes
        self.loss_name = loss_name
        self._warned = False

    def on_train_begin(self, logs=None):
        """Find the number of classes and the scale in the model."""
        layers = list(_all_layers(self.model))
        heads = [layer for layer in layers if isinstance(layer, MarginSoftmaxHead) and layer.feature_norm == "hard"]
        agents = heads or [layer for layer in layers if isinstance(layer, CosineDense)]
        if self.num_classes is None:
            if len(agents) != 1:
                raise ValueError(
                    "`num_classes` must be given unless the model has exactly one CosineDense, or one "
                    f"MarginSoftmaxHead. Received: num_classes=None and {len(agents)} such layers"
                )
            self.num_classes = agents[0].units
        self._weight = heads[0].loss_weight if heads else 1.0
        scales = [head.scale for head in heads] or [layer for layer in layers if isinstance(layer, LearnableScale)]
        if not scales and isinstance(self.model.loss, NormFaceLoss) and self.model.loss.scale is not None:
            scales = [self.model.loss.scale]
        if len(scales) != 1:
            raise ValueError(
                "The model must have exactly one LearnableScale, one NormFaceLoss with a fixed scale, or one "
                f"MarginSoftmaxHead. Received: {len(scales)} scales and loss={self.model.loss!r}"
            )
        (self._scale,) = scales

    def on_epoch_end(self, epoch, logs=None):
        """Add the scale and the bound to `logs`, and warn where training is stuck."""
        learnable = isinstance(self._scale, LearnableScale)
        scale = float(ops.convert_to_numpy(self._scale.value)) if learnable else self._scale
        bound = self._weight * softmax_loss_lower_bound(self.num_classes, scale)
        if logs is None:
            return
        loss = logs.get(self.loss_name)
        logs["scale"], logs["loss_lower_bound"] = scale, bound
        stuck = loss is not None and bound > self.BOUND_THAT_MATTERS and loss <= self.NEARNESS * bound
        if stuck and not self._warned:
            self._warned = True
            warnings.warn(
                f"Epoch {epoch + 1}: the loss {loss:.4g} sits on {bound:.4g}, the least that "
                f"{self.num_classes} classes allow at scale {scale:.4g}. The scale is too small; start at 20 "
                "or more, or use LearnableScale.for_classes.",
                stacklevel=2,
            )


def _all_layers(model):
    for layer in model.layers:
        yield from _all_layers(layer) if isinstance(layer, keras.Model) else (layer,)
