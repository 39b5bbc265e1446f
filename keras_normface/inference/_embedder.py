"""What tells one exported model from another."""

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from keras_normface import _validation
from keras_normface._image_headers import check_pixels
from keras_normface._io import read_whole, regular_file, threads
from keras_normface.data import center_crop, decode_image, resize_image
from keras_normface.inference._export import read_flip, read_preprocessing, saved_model

SHOWN_DIGITS = 16
_BLOCK_BYTES = 1 << 20
# What may be stored with a model later, such as a threshold, does not change what it computes.
_COMPUTING = ("saved_model.pb", "variables", "assets", "assets.extra/preprocessing.json")


def model_fingerprint(path):
    """Return the SHA-256 of an exported model: of the names and bytes of the files that decide what it computes.

    These are the graph, the variables, the assets and the stored preprocessing. A threshold that is stored with the
    model later leaves the fingerprint as it is.

    Args:
        path: Directory of a SavedModel.

    Returns:
        64 hexadecimal digits. The first 16 are shown to people.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        OSError: If a file cannot be read.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.inference._export import export_embedding_model
    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(backbone, directory + "/model")
    ...     len(model_fingerprint(directory + "/model"))
    64
    """
    path = saved_model(path)
    whole = hashlib.sha256()
    for name in sorted(_files(path)):
        whole.update(f"{len(name)}:{name}:{_digest(path / name)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _files(path):
    for part in _COMPUTING:
        if (path / part).is_file():
            yield part
        for directory, _, names in os.walk(path / part):
            for name in names:
                yield (Path(directory) / name).relative_to(path).as_posix()


def _digest(path):
    digest = hashlib.sha256()
    with regular_file(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


BATCHES_AT_ONCE, IMAGES_AT_ONCE = 2, 16


class ImageEmbedder:
    """An exported model that takes encoded images.

    Images are decoded as in training and given to the model as raw RGB pixels: the model itself scales them, as it
    was exported with its `Preprocessing`.

    Args:
        path: Directory of a SavedModel of `export_embedding_model`, exported with `preprocessing`.
        batch_size: Images in one step, at least 1.
        resize: Whether images of another size are resized, bilinearly; otherwise they are errors.
        center_crop: Whether larger images are cut to the model's size in their middle, as faces of 112x112 for a model
            of 112x96; exclusive with `resize`.

    Attributes:
        preprocessing: The model's `Preprocessing`.
        flip: `"sum"` if the model adds the flipped image's embedding by itself, otherwise `"none"`.
        fingerprint: See `model_fingerprint`.
        embedded: How many images it has embedded so far, mirror images included.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        ValueError: If it was exported without `preprocessing`, has no record of `flip`, or does not map
            one input to one matrix.

    Example:
    >>> import keras, tempfile
    >>> import tensorflow as tf
    >>> from keras_normface.inference._export import export_embedding_model
    >>> from keras_normface.preprocessing import Preprocessing
    >>> net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> picture = tf.io.encode_png(np.full((6, 5, 3), 9, "uint8")).numpy()
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(net, directory + "/model", preprocessing=Preprocessing(size=(6, 5)))
    ...     ImageEmbedder(directory + "/model").embed([picture], ["9.png"]).shape
    (1, 4)
    """

    def __init__(self, path, *, batch_size=64, resize=False, center_crop=False):
        _validation.integer("batch_size", batch_size, 1)
        if resize and center_crop:
            raise ValueError("`resize` and `center_crop` exclude each other. Received: both")
        self.path, self.batch_size = os.fspath(path), batch_size
        self.resize, self.center_crop = bool(resize), bool(center_crop)
        self.preprocessing = read_preprocessing(path)
        if self.preprocessing is None:
            raise ValueError(
                f"{self.path} does not say how its images are scaled: it must be exported with `preprocessing`, or its "
                "embeddings be made elsewhere and given as a file"
            )
        self.flip = read_flip(path)
        if self.flip is None:
            raise ValueError(
                f"{self.path} does not record whether it adds the flipped image's embedding: export it again"
            )
        self.fingerprint = model_fingerprint(path)
        self.embedded = 0
        self._call, self._dtype = _loaded(self.path)

    @property
    def shown_fingerprint(self):
        """The first 16 digits of the model's fingerprint."""
        return self.fingerprint[:SHOWN_DIGITS]

    def embed(self, images, names, *, mirror=False, progress=None):
        """Embed images.

        Args:
            images: List of N, at least one: the bytes of each, JPEG, PNG, BMP or GIF, or the path of its file. All of
                them are held in memory, decoded.
            names: List of N names, for errors.
            mirror: Whether the images are mirrored, left to right, first.
            progress: `None`, or a function that is called with the number of images done, after each batch.

        Returns:
            Float32 array `(N, dim)`.

        Raises:
            ValueError: If an image cannot be decoded, is of another size, or has more than 50 megapixels by its
                header, with which it is not decoded; it is named.
            OSError: If a file cannot be read.
        """
        blocks = []
        parts = [slice(start, start + self.batch_size) for start in range(0, len(names), self.batch_size)]
        with threads(BATCHES_AT_ONCE) as pool:
            for batch in pool.map(lambda part: self._decoded(images[part], names[part]), parts):
                blocks.append(self._embedded(batch, mirror))
                self.embedded += len(batch)
                if progress is not None:
                    progress(sum(map(len, blocks)))
        return np.concatenate(blocks)

    def _embedded(self, images, mirror):
        if mirror:
            images = images[:, :, ::-1]
        return self._call(np.ascontiguousarray(images, self._dtype))

    def _decoded(self, images, names):
        import tensorflow as tf

        encoded = [image if isinstance(image, bytes) else read_whole(image) for image in images]
        check_pixels(encoded, names.__getitem__)
        try:
            return decoder(*self.preprocessing.size, self.resize, self.center_crop)(tf.constant(encoded)).numpy()
        except tf.errors.InvalidArgumentError:
            for image, name in zip(encoded, names, strict=True):
                self._check(image, name)
            raise

    def _check(self, encoded, name):
        import tensorflow as tf

        height, width = self.preprocessing.size
        try:
            shape = decode_image(encoded).shape
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"{name} cannot be decoded: {' '.join(str(error.message).split())[:200]}") from error
        fits = shape[:2] == (height, width) or self.resize
        if not fits and not (self.center_crop and shape[0] >= height and shape[1] >= width):
            raise ValueError(
                f"{name} must be {height} x {width} pixels, as the model takes them. "
                f"Received: {shape[0]} x {shape[1]} (height x width); {self._remedy(shape)}"
            )

    def _remedy(self, shape):
        larger = shape[0] >= self.preprocessing.size[0] and shape[1] >= self.preprocessing.size[1]
        if larger and not self.center_crop:
            return "`center_crop` (--center-crop) cuts it in its middle, `resize` (--resize) squashes it"
        return "align it, or `resize` (--resize) it"


@functools.lru_cache
def decoder(height, width, resize, crop=False):
    """Return a function from encoded images to uint8 RGB `(batch, height, width, 3)`, decoded as in training."""
    import tensorflow as tf

    def decoded(encoded):
        image = decode_image(encoded)
        if resize:
            image = resize_image(image, (height, width))
        if crop:
            image = center_crop(image, (height, width))
        return tf.ensure_shape(image, (height, width, 3))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def batch(encoded):
        shape = tf.TensorSpec((height, width, 3), tf.uint8)
        return tf.map_fn(decoded, encoded, fn_output_signature=shape, parallel_iterations=IMAGES_AT_ONCE)

    return batch


def _loaded(path):
    """Return a function from images to embeddings, and the dtype that it takes."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(path)
    except OSError:
        raise
    # TensorFlow raises whatever its readers meet in files that are cut or corrupt: IndexError, DataLossError, ...
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{path} must be a SavedModel, but it is truncated or corrupt: {reason}") from error
    serving = loaded.signatures.get("serving_default")
    inputs = {} if serving is None else serving.structured_input_signature[1]
    if len(inputs) != 1 or len(serving.structured_outputs) != 1:
        raise ValueError(f"{path} must map one input to one output by its signature serving_default")
    ((argument, spec),) = inputs.items()
    (output,) = serving.structured_outputs

    def call(images):
        # `loaded` must outlive its signature, which holds it only weakly.
        embeddings = loaded.signatures["serving_default"](**{argument: tf.constant(images)})[output].numpy()
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise ValueError(f"{path} must make a row of each image. Received: embeddings of shape {embeddings.shape}")
        return embeddings.astype("float32", copy=False)

    return call, spec.dtype.as_numpy_dtype
