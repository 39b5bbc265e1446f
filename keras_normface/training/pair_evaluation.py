"""Verification accuracy on a file of pairs, while training goes on."""

import numpy as np

from keras_normface.evaluation import cross_validated_accuracy
from keras_normface.training.at_steps import AtSteps
from keras_normface.training.pair_images import PairImages


class PairEvaluation(AtSteps):
    """Verify pairs of images at the end of each epoch, and at some steps, and add the accuracy to the logs.

    Adds `val_<name>_accuracy`, the mean over the folds with the threshold from the other folds, and
    `val_<name>_standard_error`; history, progress bar and `EventLog` show them. Each image is embedded once,
    however many pairs it is in, by the model's `predict`, under its strategy.

    Args:
        images: 2N encoded images (bytes), such as `read_pair_file(path).images`, or an array `(2N, ...)`; pair k
            is `images[2 * k]` and `images[2 * k + 1]`.
        same: `(N,)` bool: whether a pair shows the same person.
        preprocessing: The `Preprocessing` of the training data. Needed for encoded images; `None` feeds an array
            as it is. A model with `PixelScaling` gets raw pixels.
        every_steps: After how many training steps it is done besides, or `None`.
        folds: See `cross_validated_accuracy`.
        fuse_mirror: Whether the embeddings of an image and of its mirror image are summed.
        center_crop: Whether larger images are cut to `preprocessing.size` in their middle; faces aligned to
            112x112 become those aligned to 112x96.
        batch_size: Images in a batch, all replicas together.
        name: What the pairs are called in the logs.

    Attributes:
        results: List of pairs (training step, `FoldAccuracy`) of this process, in order.

    Raises:
        ValueError: If an argument does not fit, or the first image is of another size; in training, if the
            model's embeddings are not `(batch, dim)`, or it preprocesses otherwise.

    Source: Huang et al. 2007, "Labeled Faces in the Wild", View 2; NormFace (arXiv 1704.06369), §5.1, for the mirror.

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface import EmbeddingModel, MarginSoftmaxHead
    >>> faces, people = np.random.default_rng(0).normal(size=(8, 6)), np.arange(8) % 2
    >>> model = EmbeddingModel(keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)]), MarginSoftmaxHead(2))
    >>> model.compile("sgd")
    >>> pairs = PairEvaluation(faces, [True, False] * 2, folds=2, fuse_mirror=False, name="toy")
    >>> history = model.fit(faces, people, verbose=0, callbacks=[pairs]).history
    >>> history["val_toy_accuracy"] == [pairs.results[0][1].mean]
    True
    """

    def __init__(
        self, images, same, *, preprocessing=None, every_steps=None, folds=10, fuse_mirror=True, center_crop=False,
        batch_size=128, name="pairs",
    ):  # fmt: skip
        super().__init__()
        self.images = PairImages(images, preprocessing, center_crop, fuse_mirror, batch_size)
        self.same, self.folds, self.name = np.asarray(same, bool), folds, name
        if self.same.shape != (len(self.images) // 2,) or len(self.images) % 2:
            raise ValueError(
                "`images` must hold two images for each entry of `same`. "
                f"Received: {len(self.images)} images, same of shape {self.same.shape}"
            )
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"`every_steps` must be at least 1. Received: every_steps={every_steps}")
        cross_validated_accuracy(np.arange(len(self.same)), self.same, folds=folds)  # refuses folds that do not fit
        self.every_steps, self.results = every_steps, []

    def is_due(self, before, now):
        """Whether a multiple of `every_steps` was passed."""
        return self.every_steps is not None and now // self.every_steps > before // self.every_steps

    def act(self, before, now, logs):
        """Evaluate."""
        logs.update(self._evaluate())

    def on_epoch_end(self, epoch, logs=None):
        """Evaluate, unless that was done after the last step."""
        fresh = self.results and self.results[-1][0] == self.now
        entries = self._entries() if fresh else self._evaluate()
        if logs is not None:
            logs.update(entries)

    def evaluate(self, model):
        """Verify the pairs with a model, outside of training.

        Args:
            model: A `keras.Model` from images to embeddings, such as an `EmbeddingModel`.

        Returns:
            A `FoldAccuracy`.
        """
        embeddings = self.images.embeddings(model)
        scores = np.sum(embeddings[0::2] * embeddings[1::2], axis=1)
        return cross_validated_accuracy(scores, self.same, folds=self.folds)

    def _evaluate(self):
        self.results.append((self.now, self.evaluate(self.model)))
        return self._entries()

    def _entries(self):
        result = self.results[-1][1]
        return {f"val_{self.name}_accuracy": result.mean, f"val_{self.name}_standard_error": result.standard_error}
