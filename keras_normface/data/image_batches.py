"""From a reader to training batches: shuffle, decode, mirror, scale; entered at any step."""

import copy
import os

import numpy as np

from keras_normface.data.augmentation import Augmentation
from keras_normface.data.batch_plans import IdentityBatches, ShuffledBatches
from keras_normface.data.center_crop import cut_in_the_middle, preprocessing_of_the_middle
from keras_normface.data.protocol import check_position
from keras_normface.preprocessing import check_same_preprocessing

MIRRORED = Augmentation()
BATCHES_AT_ONCE = 8


class ImageBatches:
    """Training batches from a reader, in an order that differs by epoch, repeats by seed, and starts anywhere.

    `data(epoch, step)` is what `fit_resumable` trains on. Nothing is read or decoded for the steps that are
    skipped. Images are decoded by what they are, whatever their names say.

    Args:
        reader: A `Reader`: `IdentityFolder`, `ImageList`, `RecordIO` or `TFRecordShards`.
        batch_size: Images in a batch; with several replicas or workers, in that of all of them.
        preprocessing: A `Preprocessing`. If the reader brings one, as prepared shards do, the two must be the same;
            `None` takes the reader's.
        seed: Non-negative integer. Order and augmentation follow from it.
        augmentation: An `Augmentation`, or `None` for none at all. By default half of the images are mirrored.
        scale: Whether batches are preprocessed, float32 `(batch, height, width, channels)`. Otherwise they are
            RGB, uint8 `(batch, height, width, 3)`, a quarter of the bytes, for a model that begins with
            `PixelScaling`.
        resize: Whether images of another size than `preprocessing.size` are resized, bilinear with antialiasing;
            otherwise they are an error.
        center_crop: Whether larger images are cut to `preprocessing.size` in their middle. So faces aligned by the
            template "arcface_112x112" become those of "sphereface_112x96", exactly.
        images_per_identity: `None`, or K: a batch then holds `batch_size / K` different identities with K images
            each, drawn anew for each batch, as losses on pairs and triplets need them. An epoch has as many
            batches as without it; not every image need occur in it.
        drop_remainder: Whether a last batch that is not full is left out.

    Raises:
        ValueError: If an argument does not fit, or two preprocessings differ, naming both.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import tensorflow as tf
    >>> from keras_normface import Preprocessing
    >>> from keras_normface.data import IdentityFolder
    >>> root, black = Path(tempfile.mkdtemp()), tf.io.encode_jpeg(tf.zeros((112, 112, 3), "uint8"))
    >>> for person in ("Ada", "Grace"):
    ...     (root / person).mkdir()
    ...     _ = (root / person / "1.jpg").write_bytes(black.numpy())
    >>> data = ImageBatches(IdentityFolder(root), 2, Preprocessing(), seed=0)
    >>> images, labels = next(iter(data(epoch=0, step=0)))
    >>> images.shape, float(images[0, 0, 0, 0]), sorted(labels.numpy().tolist())
    (TensorShape([2, 112, 112, 3]), -0.99609375, [0, 1])
    """

    def __init__(
        self, reader, batch_size, preprocessing=None, seed=0, *, augmentation=MIRRORED, scale=True, resize=False,
        center_crop=False, images_per_identity=None, drop_remainder=True,
    ):  # fmt: skip
        if seed < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={seed}")
        if resize and center_crop:
            raise ValueError("`resize` and `center_crop` exclude each other. Received: both")
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.preprocessing = _agreed(reader, preprocessing, center_crop)
        self.augmentation, self.scale, self.resize, self.center_crop = augmentation, scale, resize, center_crop
        if images_per_identity is None:
            self._plan = ShuffledBatches(len(reader), batch_size, seed, drop_remainder)
        else:
            self._plan = IdentityBatches(reader.labels, batch_size, images_per_identity, seed)
        self.worker, self.workers = 0, 1

    @property
    def steps_per_epoch(self):
        """Number of batches in an epoch."""
        return self._plan.steps_per_epoch

    def share(self, worker, workers):
        """Return the data of one of several workers: its rows of each batch, without reading the others'.

        Args:
            worker: Which worker, from 0.
            workers: How many. They must divide the batch size, and only full batches count.

        Raises:
            ValueError: If the numbers do not fit.
        """
        if not 0 <= worker < workers or self.batch_size % workers or not self._plan.drop_remainder:
            raise ValueError(
                "`worker` must be from 0 to workers - 1, `workers` must divide the batch size, and "
                f"`drop_remainder` must be set. Received: worker={worker}, workers={workers}, "
                f"batch_size={self.batch_size}, drop_remainder={self._plan.drop_remainder}"
            )
        shared = copy.copy(self)
        shared.worker, shared.workers = worker, workers
        return shared

    def __call__(self, epoch, step):
        """Return the rest of an epoch.

        Args:
            epoch: Which epoch, from 0.
            step: How many of its batches are left out at its beginning.

        Returns:
            A `tf.data.Dataset` of `steps_per_epoch - step` batches of images and int32 labels `(batch,)`.

        Raises:
            ValueError: If there is no such epoch or step.
        """
        import tensorflow as tf

        check_position(epoch, step, self.steps_per_epoch)
        # Whole batches at once: tf.data's own work for each single image costs a tenth of decoding it.
        at_once = min(_cores(), BATCHES_AT_ONCE)
        batches = tf.data.Dataset.range(step, self.steps_per_epoch).map(self._reading(epoch), num_parallel_calls=2)
        batches = batches.map(self._images, num_parallel_calls=at_once)
        return batches.prefetch(1).with_options(_one_thread_an_operation())

    def _reading(self, epoch):
        """Return the TensorFlow function from a step to its encoded images, labels, mirrorings and seeds."""
        import tensorflow as tf

        of_step, kinds = self._plan.of_epoch(epoch), (tf.string, tf.int32, tf.int32, tf.int32)

        def read(step):
            indices = of_step(step)
            rng = np.random.default_rng([self.seed, epoch, step, 1])
            mirrored = rng.integers(0, 2, len(indices), dtype="int32")
            seeds = rng.integers(0, 2**31, (len(indices), 2), dtype="int32")
            own = len(indices) // self.workers
            part = slice(self.worker * own, (self.worker + 1) * own)
            indices = indices[part]
            encoded = np.array(self.reader.encoded(indices), dtype=object)
            return encoded, self.reader.labels[indices], mirrored[part], seeds[part]

        def graph(step):
            values = tf.numpy_function(read, [step], kinds, stateful=False)
            rows = self.batch_size // self.workers if self._plan.drop_remainder else None
            shapes = ([rows], [rows], [rows], [rows, 2])
            return tuple(tf.ensure_shape(value, shape) for value, shape in zip(values, shapes, strict=True))

        return graph

    def _images(self, encoded, labels, mirrored, seeds):
        """Return the images of a batch and their labels."""
        import tensorflow as tf

        shape = self.preprocessing.output_shape if self.scale else (*self.preprocessing.size, 3)
        images = tf.map_fn(
            lambda parts: self._image(*parts),
            (encoded, mirrored, seeds),
            fn_output_signature=tf.TensorSpec(shape, "float32" if self.scale else "uint8"),
            parallel_iterations=-(-_cores() // BATCHES_AT_ONCE),
        )
        return images, labels

    def _image(self, encoded, mirrored, seed):
        """Return one image."""
        import tensorflow as tf

        height, width = self.preprocessing.size
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        if self.resize:
            image = _resized(image, height, width)
        if self.center_crop:
            image = cut_in_the_middle(image, (height, width))
        image = tf.ensure_shape(image, (height, width, 3))
        if self.augmentation is not None:
            image = self.augmentation(image, mirrored, seed)
        if self.scale:
            image = self.preprocessing(image[None])[0]
        return image


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread_an_operation():
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return options


def _agreed(reader, preprocessing, center_crop):
    stored = getattr(reader, "preprocessing", None)
    if center_crop and stored is not None and preprocessing is not None:
        stored = preprocessing_of_the_middle(stored, preprocessing.size)
    if preprocessing is None and stored is None:
        raise ValueError(f"`preprocessing` must be given, for {reader} brings none. Received: None")
    if preprocessing is not None and stored is not None:
        check_same_preprocessing(stored, preprocessing, ("the reader", "the argument"))
    return preprocessing or stored


def _resized(image, height, width):
    import tensorflow as tf

    image = tf.ensure_shape(image, (None, None, 3))

    def other_size():
        resized = tf.image.resize(image, (height, width), "bilinear", antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == (height, width)), lambda: image, other_size)
