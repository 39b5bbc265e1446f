"""Images of pairs, each of which is embedded once."""

import numpy as np

from keras_normface.data import cut_in_the_middle
from keras_normface.models.checks import preprocessing_in
from keras_normface.preprocessing import check_same_preprocessing


class PairImages:
    """The images of a pair file, for `PairEvaluation`; see there.

    Args:
        images: List of encoded images, or an array `(2N, ...)`.
        preprocessing: A `Preprocessing`, or `None`.
        center_crop: Whether larger images are cut in their middle.
        fuse_mirror: Whether mirror images are embedded too.
        batch_size: Images in a batch.

    Raises:
        ValueError: If the arguments do not fit each other.
    """

    def __init__(self, images, preprocessing, center_crop, fuse_mirror, batch_size):
        if len(images) == 0:
            raise ValueError("`images` must hold two images at least. Received: none")
        encoded = isinstance(images[0], bytes)
        if (encoded or center_crop) and preprocessing is None:
            raise ValueError("`preprocessing` must be given for encoded images and for `center_crop`. Received: None")
        if (fuse_mirror or center_crop) and not encoded and np.ndim(images) != 4:
            raise ValueError(
                "`fuse_mirror` and `center_crop` need images (2N, height, width, channels). "
                f"Received: images of {np.ndim(images)} dimensions"
            )
        self.preprocessing, self.center_crop = preprocessing, center_crop
        self.fuse_mirror, self.batch_size, self.encoded = fuse_mirror, batch_size, encoded
        self._unique, self._where = _unique(images)
        if encoded:
            self._refuse_other_sizes()
        elif center_crop:
            self._unique = np.stack([cut_in_the_middle(image, preprocessing.size) for image in self._unique])

    def __len__(self):
        return len(self._where)

    def embeddings(self, model):
        """Embed all images with a model.

        Args:
            model: A `keras.Model` from images to embeddings.

        Returns:
            Float64 array `(2N, dim)` of unit rows.

        Raises:
            ValueError: If the embeddings are not `(batch, dim)`, or the model preprocesses otherwise.
        """
        own = preprocessing_in(model)
        if own is not None and self.preprocessing is not None:
            check_same_preprocessing(self.preprocessing, own, ("the pairs", "the model"))
        scale = self.preprocessing if own is None else None
        total = self._predict(model, scale, mirrored=False)
        if self.fuse_mirror:
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

        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        if self.center_crop:
            image = cut_in_the_middle(image, self.preprocessing.size)
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
