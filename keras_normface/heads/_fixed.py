"""A margin softmax whose class centres are given and never trained: those of an older model."""

import keras
import numpy as np

from keras_normface.heads._margin_softmax import MarginSoftmaxHead


@keras.saving.register_keras_serializable(package="keras_normface")
class FixedCentersHead(MarginSoftmaxHead):
    """Margin softmax on class centres of another model, which `set_centers` gives and no optimizer changes.

    Beside a head that is trained it makes the new embeddings comparable with the other model's: each is pulled to where
    that model has the person. Of classes that the other model was trained on these are the rows of its classifier, of
    others the means of its embeddings. Until centres are set the losses are NaN. They are saved as weights.

    Args:
        units: Number of classes.
        margin: As this and all others for `MarginSoftmaxHead`.
        **kwargs: Further arguments of `MarginSoftmaxHead`, but `kernel_initializer`.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Shen et al., "Towards Backward-Compatible Representation Learning" (arXiv 2003.11942), the influence loss;
    for classes that are new, its classifier synthesised from the old model's embeddings.

    Example:
    >>> import numpy as np
    >>> head = FixedCentersHead(3, scale=30.0)
    >>> head.set_centers(np.eye(3, 4))
    >>> len(head.trainable_weights), keras.ops.convert_to_numpy(head(np.eye(3, 4))).round(3)[0].tolist()
    (0, [1.0, 0.0, 0.0])
    """

    optimizer_trains_kernel = False

    def __init__(self, units, margin=None, **kwargs):
        kwargs.pop("kernel_initializer", None)
        super().__init__(units, margin, kernel_initializer=keras.initializers.Constant(float("nan")), **kwargs)

    def set_centers(self, centers):
        """Give the class centres.

        Args:
            centers: Array `(units, dim)`, one a class, in the order of the class ids. Their norms do not matter.

        Raises:
            ValueError: If they are of another shape, or not finite, or one is zero.
        """
        centers = np.asarray(centers, "float32")
        dim = self.kernel.shape[-1] if self.built else centers.shape[-1]
        if centers.shape != (self.units, dim):
            raise ValueError(
                f"`centers` must have the shape {(self.units, dim)}, a row for each class in the dimension of the new "
                f"embeddings. Received: centers.shape={centers.shape}"
            )
        wrong = np.flatnonzero(~np.isfinite(centers).all(axis=1) | ~centers.any(axis=1))
        if len(wrong):
            raise ValueError(f"`centers` must hold finite rows that are not zero. Received: centers[{wrong[0]}]")
        if not self.built:
            self.build((None, dim))
        self.kernel.assign(centers)

    def get_config(self):
        """Return the arguments of the constructor."""
        config = super().get_config()
        del config["kernel_initializer"]
        return config
