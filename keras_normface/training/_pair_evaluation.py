"""Images of pairs, each of which is embedded once."""

import numpy as np

from keras_normface import _validation
from keras_normface._image_headers import check_pixels
from keras_normface.checks import preprocessing_in
from keras_normface.data import center_crop as cropped
from keras_normface.data import decode_image
from keras_normface.metrics.folds import cross_validated_accuracy
from keras_normface.preprocessing import check_same_preprocessing
from keras_normface.training._callbacks import AtSteps


class PairImages:
    """The images of a pair file, each embedded once; arguments as in `PairEvaluation`."""

    def __init__(self, images, preprocessing, center_crop, flip, batch_size):
        if len(images) == 0:
            raise ValueError("`images` must hold two images at least. Received: none")
        encoded = isinstance(images[0], bytes)
        if (encoded or center_crop) and preprocessing is None:
            raise ValueError("`preprocessing` must be given for encoded images and for `center_crop`. Received: None")
        if flip not in ("none", "sum"):
            raise ValueError(f'`flip` must be "none" or "sum". Received: flip={flip!r}')
        if (flip == "sum" or center_crop) and not encoded and np.ndim(images) != 4:
            raise ValueError(
                "`flip` and `center_crop` need images (2N, height, width, channels). "
                f"Received: images of {np.ndim(images)} dimensions"
            )
        self.preprocessing, self.center_crop = preprocessing, center_crop
        self.flip, self.batch_size, self.encoded = flip, batch_size, encoded
        self._unique, self._where = _unique(images)
        if encoded:
            check_pixels(images, "number {} of `images`".format)
            self._refuse_other_sizes()
        elif center_crop:
            self._unique = np.stack([cropped(image, preprocessing.size) for image in self._unique])

    def __len__(self):
        return len(self._where)

    def embeddings(self, model):
        """A model from images to embeddings → float64 (2N, dim) of unit rows."""
        own = preprocessing_in(model)
        if own is not None and self.preprocessing is not None:
            check_same_preprocessing(self.preprocessing, own, ("the pairs", "the model"))
        scale = self.preprocessing if own is None else None
        total = self._predict(model, scale, mirrored=False)
        if self.flip == "sum":
            total = total + self._predict(model, scale, mirrored=True)
        return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))[self._where]

    def _predict(self, model, scale, mirrored):
        batches = self._batches(scale, mirrored)
        found = np.asarray(model.predict(batches, verbose=0), "float64")
        if found.ndim != 2:
            raise ValueError(f"`model` must give embeddings (batch, dim). Received: outputs of shape {found.shape}")
        return found[: len(self._unique)]

    def _batches(self, scale, mirrored):
        """Full batches, so that XLA compiles one shape; what fills the last one is cut off later."""
        import tensorflow as tf

        rows = min(self.batch_size, len(self._unique))
        filled = np.arange(-(-len(self._unique) // rows) * rows) % len(self._unique)
        batches = tf.data.Dataset.from_tensor_slices(filled).batch(rows, drop_remainder=True)
        with tf.device("CPU:0"):
            source = tf.constant(self._unique)

        def images(numbers):
            pixels = tf.gather(source, numbers)
            if self.encoded:
                pixels = tf.map_fn(self._pixels, pixels, fn_output_signature=self._spec())
            if mirrored:
                pixels = tf.reverse(pixels, [2])
            return pixels if scale is None else scale(pixels)

        return batches.map(images, num_parallel_calls=2).prefetch(1)

    def _spec(self):
        import tensorflow as tf

        return tf.TensorSpec((*self.preprocessing.size, 3), "uint8")

    def _pixels(self, encoded):
        import tensorflow as tf

        image = decode_image(encoded)
        if self.center_crop:
            image = cropped(image, self.preprocessing.size)
        return tf.ensure_shape(image, (*self.preprocessing.size, 3))

    def _refuse_other_sizes(self):
        """Look at the first image: better now than after an epoch."""
        import tensorflow as tf

        try:
            self._pixels(self._unique[0])
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise ValueError(
                f"`images` must be of the size {self.preprocessing.size} of `preprocessing`, or larger and "
                f"`center_crop` set. Received: center_crop={self.center_crop}, and of the first image: {error}"
            ) from error


def _unique(images):
    """Return the different images, and which of them each is."""
    keys = list(images) if isinstance(images[0], bytes) else [np.ascontiguousarray(i).tobytes() for i in images]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    where = np.array([numbers[key] for key in keys])
    if isinstance(images[0], bytes):
        return np.array(list(numbers), dtype=object), where
    return np.asarray(images)[np.unique(where, return_index=True)[1]], where


class PairEvaluation(AtSteps):
    """Verify pairs of images at the end of each epoch, and at some steps, and add the accuracy to the logs.

    Adds `val_<name>_accuracy`, the mean over the folds with the threshold from the other folds, and
    `val_<name>_standard_error`; history, progress bar and `ScalarLog` show them. Each image is embedded once,
    however many pairs it is in, by the model's `predict`, under its strategy.

    Args:
        images: 2N encoded images (bytes), such as `read_pair_file(path).images`, or an array `(2N, ...)`; pair k
            is `images[2 * k]` and `images[2 * k + 1]`.
        same: `(N,)` bool: whether a pair shows the same person.
        preprocessing: The `Preprocessing` of the training data. Needed for encoded images; `None` feeds an array
            as it is. A model with `PixelScaling` gets raw pixels.
        every_steps: After how many training steps it is done besides, or `None`.
        folds: See `cross_validated_accuracy`.
        flip: `"sum"`: the embeddings of an image and of the flipped image are summed; or `"none"`.
        center_crop: Whether larger images are cut to `preprocessing.size` in their middle; faces aligned to
            112x112 become those aligned to 112x96.
        batch_size: Images in a batch, all replicas together.
        name: What the pairs are called in the logs.

    Attributes:
        results: List of pairs (training step, `FoldAccuracy`) of this process, in order.
        monitor_modes: Whether each of the two values is to rise or to fall. In `fit` of this package's models it holds
            for callbacks that monitor them in mode `"auto"`; with others, give those callbacks a `mode`.

    Raises:
        ValueError: If an argument does not fit, an image has more than 50 megapixels by its header, or the first is
            of another size; in training, if the model's embeddings are not `(batch, dim)`, or it preprocesses
            otherwise.

    Source: Huang et al. 2007, "Labeled Faces in the Wild", View 2; NormFace (arXiv 1704.06369), §5.1, for the mirror.

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface.heads import MarginSoftmaxHead
    >>> from keras_normface.models import EmbeddingModel
    >>> faces, people = np.random.default_rng(0).normal(size=(8, 6)), np.arange(8) % 2
    >>> model = EmbeddingModel(keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)]), MarginSoftmaxHead(2))
    >>> model.compile("sgd")
    >>> pairs = PairEvaluation(faces, [True, False] * 2, folds=2, flip="none", name="toy")
    >>> history = model.fit(faces, people, verbose=0, callbacks=[pairs]).history
    >>> history["val_toy_accuracy"] == [pairs.results[0][1].mean]
    True
    """

    def __init__(
        self, images, same, *, preprocessing=None, every_steps=None, folds=10, flip="sum", center_crop=False,
        batch_size=128, name="pairs",
    ):  # fmt: skip
        super().__init__()
        self.images = PairImages(images, preprocessing, center_crop, flip, batch_size)
        self.same, self.folds, self.name = np.asarray(same, bool), folds, name
        if self.same.shape != (len(self.images) // 2,) or len(self.images) % 2:
            raise ValueError(
                "`images` must hold two images for each entry of `same`. "
                f"Received: {len(self.images)} images, same of shape {self.same.shape}"
            )
        if every_steps is not None:
            _validation.integer("every_steps", every_steps, 1)
        cross_validated_accuracy(np.arange(len(self.same)), self.same, folds=folds)  # refuses folds that do not fit
        self.every_steps, self.results = every_steps, []
        self.monitor_modes = {f"{name}_accuracy": "max", f"{name}_standard_error": "min"}

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
