"""Training batches of images that can be entered at any step of any epoch."""

import copy
import dataclasses
import hashlib
import os
from typing import Protocol

import numpy as np

from keras_normface import _validation
from keras_normface._image_headers import check_pixels
from keras_normface.data._images import Augmentation, center_crop, check_images_fit, decode_image, resize_image
from keras_normface.data._plans import IdentityBatches, ShuffledBatches, check_position, evenly


class ResumableData(Protocol):
    """Data that can be entered at any step: a callable `data(epoch, step)`.

    It returns a `tf.data.Dataset` of the batches of that epoch from that step on, both counted from 0. Called
    twice with the same numbers it must return the same batches; `data(epoch, 0)` without its first k batches
    must be `data(epoch, k)`. The dataset must know its number of batches, or the callable must have an
    attribute `steps_per_epoch`.

    Data may have `fingerprint`, a dictionary of what makes them these data, such as seed, batch size and number of
    samples, which JSON can hold: `fit_resumable` saves it and refuses to resume on others.

    With several workers, data that have `share(worker, workers)` and `batch_size` are asked for the rows of one worker:
    `share(w, n)` is such data again, whose batches are the w-th n-th of the rows of each batch.
    """

    def __call__(self, epoch, step):
        """Return the batches of `epoch` from `step` on, a `tf.data.Dataset`."""


MIRRORED = Augmentation()
BATCHES_AT_ONCE = 8


class ImageBatches:
    """Training batches from a reader, in an order that differs by epoch, repeats by seed, and starts anywhere.

    `data(epoch, step)` is what `fit_resumable` trains on. Nothing is read or decoded for the steps that are
    skipped. Images are decoded by content, whatever their file names say.

    Args:
        reader: A `Reader`: `IdentityFolder`, `ImageList`, `RecordIO` or `TFRecordShards`.
        batch_size: Images in a batch; with several replicas or workers, in that of all of them.
        preprocessing: A `Preprocessing`, such as `recipe.preprocessing`. If the reader records the size and the
            template of its images, as prepared shards and the directories of `align` do, they must be those of it.
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
        drop_remainder: Whether an incomplete last batch is dropped.
        teacher: `None`, or a teacher's embeddings `(images, dim)`, a row for each image of the reader in its order. A
            batch's labels then are `{"labels": ids, "teacher": rows}`, as `heads.DistillationHead` needs them. A
            memory-mapped array stays one.

    Raises:
        ValueError: If an argument does not fit, or the images are of another size or template, naming both and the
            option that mends it.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import tensorflow as tf
    >>> from keras_normface.preprocessing import Preprocessing
    >>> from keras_normface.data._folder import IdentityFolder
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
        self, reader, batch_size, preprocessing, seed=0, *, augmentation=MIRRORED, scale=True, resize=False,
        center_crop=False, images_per_identity=None, drop_remainder=True, teacher=None,
    ):  # fmt: skip
        _validation.integer("seed", seed, 0)
        if resize and center_crop:
            raise ValueError("`resize` and `center_crop` exclude each other. Received: both")
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.preprocessing = preprocessing
        check_images_fit(_recorded_size(reader), getattr(reader, "template", None), preprocessing, resize, center_crop)
        self.augmentation, self.scale, self.resize, self.center_crop = augmentation, scale, resize, center_crop
        if images_per_identity is None:
            self._plan = ShuffledBatches(len(reader), batch_size, seed, drop_remainder)
        else:
            self._plan = IdentityBatches(reader.labels, batch_size, images_per_identity, seed)
        self.teacher = None if teacher is None else _checked_teacher(teacher, len(reader))
        self.worker, self.workers = 0, 1

    @property
    def steps_per_epoch(self):
        """Number of batches in an epoch."""
        return self._plan.steps_per_epoch

    @property
    def fingerprint(self):
        """What makes them these data, a dictionary that JSON can hold; `share` does not change it."""
        of_plan = {name: getattr(self._plan, name, None) for name in ("images_per_identity", "drop_remainder")}
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "samples": len(self.reader),
            "steps_per_epoch": self.steps_per_epoch,
            **of_plan,
            "preprocessing": self.preprocessing.to_dict(),
            "augmentation": _plain(self.augmentation),
            "scale": self.scale,
            "resize": self.resize,
            "center_crop": self.center_crop,
            "labels_sha256": hashlib.sha256(np.ascontiguousarray(self.reader.labels, "<i4")).hexdigest(),
            "names_sha256": _names_digest(self.reader),
            "teacher_sha256": None if self.teacher is None else _rows_digest(self.teacher),
        }

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
            step: How many batches to skip at its beginning.

        Returns:
            A `tf.data.Dataset` of `steps_per_epoch - step` batches of images and int32 labels `(batch,)`, in
            a dictionary beside the float32 rows `(batch, dim)` of a `teacher` if there is one.

        Raises:
            ValueError: If `epoch` or `step` is out of range.
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

        of_step, kinds = self._plan.of_epoch(epoch), [tf.string, tf.int32, tf.int32, tf.int32]
        kinds += [] if self.teacher is None else [tf.float32]

        def read(step):
            indices = of_step(step)
            rng = np.random.default_rng([self.seed, epoch, step, 1])
            mirrored = rng.integers(0, 2, len(indices), dtype="int32")
            seeds = rng.integers(0, 2**31, (len(indices), 2), dtype="int32")
            own = len(indices) // self.workers
            part = slice(self.worker * own, (self.worker + 1) * own)
            indices = indices[part]
            encoded = self.reader.encoded(indices)
            check_pixels(encoded, lambda place: self.reader.name(indices[place]))
            rows = [] if self.teacher is None else [np.asarray(self.teacher[indices], "float32")]
            return np.array(encoded, dtype=object), self.reader.labels[indices], mirrored[part], seeds[part], *rows

        def graph(step):
            values = tf.numpy_function(read, [step], kinds, stateful=False)
            rows = self.batch_size // self.workers if self._plan.drop_remainder else None
            shapes = [[rows], [rows], [rows], [rows, 2]]
            shapes += [] if self.teacher is None else [[rows, self.teacher.shape[1]]]
            return tuple(tf.ensure_shape(value, shape) for value, shape in zip(values, shapes, strict=True))

        return graph

    def _images(self, encoded, labels, mirrored, seeds, *teacher):
        """Return the images of a batch and their labels, with the teacher's rows if there are any."""
        import tensorflow as tf

        shape = self.preprocessing.output_shape if self.scale else (*self.preprocessing.size, 3)
        images = tf.map_fn(
            lambda parts: self._image(*parts),
            (encoded, mirrored, seeds),
            fn_output_signature=tf.TensorSpec(shape, "float32" if self.scale else "uint8"),
            parallel_iterations=-(-_cores() // BATCHES_AT_ONCE),
        )
        return images, {"labels": labels, "teacher": teacher[0]} if teacher else labels

    def _image(self, encoded, mirrored, seed):
        """Return one image."""
        import tensorflow as tf

        size = self.preprocessing.size
        image = decode_image(encoded)
        if self.resize:
            image = resize_image(image, size)
        if self.center_crop:
            image = center_crop(image, size)
        image = tf.ensure_shape(image, (*size, 3))
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


def _names_digest(reader):
    """Checksum of the names of up to 1024 samples, evenly spaced."""
    names = (reader.name(index) for index in evenly(len(reader)).tolist())
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()


def _plain(augmentation):
    """Fields of an `Augmentation`, a function by its name; `None` for none."""
    if augmentation is None:
        return None
    function = augmentation.image and getattr(augmentation.image, "__qualname__", "a callable object")
    return {**dataclasses.asdict(dataclasses.replace(augmentation, image=None)), "image": function}


def _recorded_size(reader):
    size = getattr(reader, "image_size", None)
    return None if size is None else tuple(size)


def _checked_teacher(teacher, samples):
    """A teacher's embeddings as an array, as many rows as samples."""
    teacher = np.asanyarray(teacher)
    if teacher.ndim != 2 or len(teacher) != samples or teacher.dtype.kind != "f":
        raise ValueError(
            f"`teacher` must be floats (images, dim), a row for each of {samples} images. "
            f"Received: teacher of shape {teacher.shape}, {teacher.dtype}"
        )
    if not np.isfinite(teacher).all():
        raise ValueError(f"`teacher` must be finite. Received: teacher[{int(np.isfinite(teacher).all(1).argmin())}]")
    return teacher


def _rows_digest(teacher):
    """Checksum of the shape of a matrix and of up to 1024 of its rows."""
    rows = np.ascontiguousarray(teacher[evenly(len(teacher))], "<f4")
    return hashlib.sha256(f"{teacher.shape}\0".encode() + rows.tobytes()).hexdigest()
