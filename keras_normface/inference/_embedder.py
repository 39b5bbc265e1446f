"""One way from encoded images to embeddings, whatever form the model has; and what tells one model from another."""

import collections
import contextlib
import functools
import os
from typing import NamedTuple

import numpy as np

from keras_normface import _validation
from keras_normface._image_headers import check_pixels
from keras_normface._io import read_whole, threads
from keras_normface.data import center_crop, decode_image, resize_image
from keras_normface.inference._card import read_card
from keras_normface.inference._fingerprint import SHOWN_DIGITS, model_fingerprint, network_fingerprint
from keras_normface.inference._pillow import cropped_face, decoded_face, resized_face
from keras_normface.inference._runtimes import keras_runtime, open_runtime
from keras_normface.prepare import FaceAligner

BATCHES_AT_ONCE, IMAGES_AT_ONCE = 2, 16
PHOTOS_AT_ONCE = 16  # three times as many may be in memory, each of up to Pillow's limit
FACES, NO_FACE = ("photo", "aligned"), ("error", "nan")


class Embedder:
    """A model that takes encoded images: photos, in which it finds and aligns the face, or faces that are aligned.

    Aligned faces are decoded as in training (by Pillow for an ONNX or LiteRT model, which need no TensorFlow) and
    given to the model as raw RGB pixels: the model itself scales them, as it was exported with its `Preprocessing`. In
    a photo, `prepare.FaceAligner` first finds the face, of several the one that `prepare.chosen_face` chooses, and
    brings it to the template of the model's `Preprocessing`, then to its size if that is another of the same shape.

    Args:
        model: Directory of an exported model, or a `backbones.PretrainedNetwork`.
        batch_size: Images in one step, at least 1; of photos at most 16 are taken in one step.
        faces: "photo", or "aligned" for images that hold an aligned face in the model's size.
        resize: Whether aligned faces of another size are resized, bilinearly; otherwise they are errors.
        center_crop: Whether larger aligned faces are cut to the model's size in their middle, as faces of 112x112 for
            a model of 112x96; exclusive with `resize`.
        no_face: What becomes of a photo without a face: "error", or "nan", a row of NaN.
        detect: Function that finds faces in photos, see `prepare.FaceAligner`. `None`: `prepare.Mtcnn()`.

    Attributes:
        name: The directory, or the name of the network; for people.
        preprocessing: The model's `Preprocessing`.
        flip: `"sum"` if the model adds the flipped image's embedding by itself, otherwise `"none"`.
        threshold: The `CalibratedThreshold` that comes with the model, or `None`.
        dimension: Of an embedding; `None` if the model does not say.
        licence: Of the weights, a text, or `None` if the model does not say.
        source: Where the weights come from, a text, or `None`.
        compatible_with: Fingerprints of older models, with whose embeddings its own may be compared, a tuple.
        fingerprint: See `model_fingerprint`; for a network, that of its name, preprocessing and weights.
        embedded: How many images it has embedded so far, mirror images included.

    Raises:
        FileNotFoundError: If there is no model in the directory.
        ValueError: If `model` is neither, or it was exported without `preprocessing`, its card is corrupt, or it does
            not map one input to one matrix; or if `faces` is "photo" and its preprocessing names no template, or one
            of another ratio of height to width.
        ImportError: If the package that runs the model, or with "photo" the one that finds faces, is not installed.

    Example:
    >>> import keras, tempfile
    >>> import tensorflow as tf
    >>> from keras_normface.inference import export_embedding_model
    >>> from keras_normface.preprocessing import Preprocessing
    >>> net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> picture = tf.io.encode_png(np.full((6, 5, 3), 9, "uint8")).numpy()
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(net, directory + "/model", preprocessing=Preprocessing(size=(6, 5)))
    ...     Embedder(directory + "/model", faces="aligned").embed([picture], ["9.png"]).shape
    (1, 4)
    """

    def __init__(
        self,
        model,
        *,
        batch_size=64,
        faces="photo",
        resize=False,
        center_crop=False,
        no_face="error",
        detect=None,
    ):
        _validation.integer("batch_size", batch_size, 1)
        self.faces = _validation.choice("faces", faces, FACES)
        self.no_face = _validation.choice("no_face", no_face, NO_FACE)
        if resize and center_crop:
            raise ValueError("`resize` and `center_crop` exclude each other. Received: both")
        if faces == "photo" and (resize or center_crop):
            raise ValueError("`resize` and `center_crop` are for faces='aligned'. Received: faces='photo'")
        self.batch_size, self.resize, self.center_crop = batch_size, bool(resize), bool(center_crop)
        self.embedded = 0
        describe = _exported if isinstance(model, (str, os.PathLike)) else _pretrained
        found = describe(model)
        self.name, self.preprocessing, self.flip = found.name, found.preprocessing, found.flip
        self.threshold, self.licence, self.source = found.threshold, found.licence, found.source
        self.compatible_with, self._by_tensorflow = found.compatible_with, found.by_tensorflow
        self._aligner = self._template_aligner(detect) if faces == "photo" else None
        self.fingerprint, runtime = found.opened()
        self._call, self.dimension = runtime

    @property
    def shown_fingerprint(self):
        """The first 16 digits of the model's fingerprint."""
        return self.fingerprint[:SHOWN_DIGITS]

    @property
    def settings(self):
        """What decides the embeddings of an image besides the model and the mirroring, as a dictionary for JSON."""
        if self._aligner is None:
            return {"resize": self.resize, "center_crop": self.center_crop}
        found_by = {"template": self._aligner.template, "detector": self._aligner.detector}
        return {"faces": "photo", "no_face": self.no_face, **found_by}

    def embed(self, images, names=None, *, mirror=False, progress=None):
        """Embed images.

        Args:
            images: List of N, at least one: the bytes of each, or the path of its file. Aligned faces are JPEG, PNG,
                BMP or GIF; photos also PPM, TIFF or WebP.
            names: List of N names, for errors. `None`: the paths, and the places of bytes in the list.
            mirror: Whether the images, or the aligned faces of photos, are mirrored, left to right, first.
            progress: `None`, or a function that is called with the number of images done, after each batch.

        Returns:
            Float32 array `(N, dim)` of unit rows; of NaN for a photo without a face if `no_face` is "nan".

        Raises:
            ValueError: If an image cannot be decoded, is of another size, holds no face, or has more than 50 megapixels
                by its header (a photo: more than Pillow's limit), with which it is not decoded; it is named. If there
                are no images, or another number of names, or the model makes numbers that are not finite.
            OSError: If a file cannot be read.
        """
        if names is None:
            names = [f"image {place}" if isinstance(image, bytes) else image for place, image in enumerate(images)]
        if not len(images) or len(names) != len(images):
            raise ValueError(
                f"`images` must hold at least one image, and `names` as many. Received: {len(images)} and {len(names)}"
            )
        photos = self._aligner is not None
        step = min(self.batch_size, PHOTOS_AT_ONCE) if photos else self.batch_size
        parts = [slice(start, start + step) for start in range(0, len(names), step)]
        blocks, quiet = [], self._aligner.decoding if photos else contextlib.nullcontext
        with quiet(), threads(1 if photos else BATCHES_AT_ONCE) as pool:
            work = self._photos if photos else self._decoded
            tasks = (lambda part=part: work(images[part], names[part]) for part in parts)
            for batch, part in zip(_ahead(pool, tasks, 1 if photos else BATCHES_AT_ONCE), parts, strict=True):
                blocks.append(self._faces_embedded(batch, names[part], mirror))
                self.embedded += len(batch)
                if progress is not None:
                    progress(sum(map(len, blocks)))
        return self._joined(blocks)

    def embed_every_face(self, photo, name=None):
        """Embed all faces in one photo, for an embedder of photos.

        Args:
            photo: The bytes of a photo, or the path of its file.
            name: Of the photo, for errors. `None`: its path, or "the photo".

        Returns:
            Pair of a list of `prepare.Face`, from left to right, and a float32 array `(faces, dim)` of unit rows;
            `([], None)` if no face is found.

        Raises:
            ValueError: If the embedder takes aligned faces, or the photo cannot be decoded.
            OSError: If the file cannot be read.
        """
        if self._aligner is None:
            raise ValueError("`embed_every_face` needs an Embedder of photos. Received: faces='aligned'")
        if not isinstance(photo, (bytes, str, os.PathLike)):
            raise ValueError(
                f"`photo` must be the bytes or the path of a photo. {_validation.received('photo', photo)}"
            )
        if name is None:
            name = "the photo" if isinstance(photo, bytes) else os.fspath(photo)
        with self._aligner.decoding():
            (pixels,) = self._photos([photo], [name])
        found = self._aligner.every_face(pixels)
        if not found:
            return [], None
        parts = [found[start : start + self.batch_size] for start in range(0, len(found), self.batch_size)]
        rows = [self._embedded(self._fitted([pixels for _, pixels in part]), False) for part in parts]
        self.embedded += len(found)
        return [face for face, _ in found], np.concatenate(rows)

    def _faces_embedded(self, batch, names, mirror):
        """A batch of `_decoded` or `_photos` → (n, dim), or (n, 0) if none of the photos has a face."""
        if self._aligner is None:
            return self._embedded(batch, mirror)
        faces = self._aligner(batch)
        there = np.array([face is not None for face in faces])
        if self.no_face == "error" and not there.all():
            raise ValueError(f"{names[int(np.argmin(there))]} holds no face that is found")
        if not there.any():
            return np.empty((len(faces), 0), "float32")
        found = self._embedded(self._fitted([face for face in faces if face is not None]), mirror)
        rows = np.full((len(faces), found.shape[1]), np.nan, "float32")
        rows[there] = found
        return rows

    def _fitted(self, faces):
        """Faces in the template's size → (n, *size, 3) in the model's."""
        return np.stack([resized_face(face, self.preprocessing.size) for face in faces])

    def _joined(self, blocks):
        dimension = max(block.shape[1] for block in blocks) or self.dimension
        if dimension is None:
            raise ValueError(f"None of the photos holds a face, and {self.name} does not say its dimension")
        return np.concatenate(
            [block if block.shape[1] else np.full((len(block), dimension), np.nan, "float32") for block in blocks]
        )

    def _embedded(self, images, mirror):
        if mirror:
            images = images[:, :, ::-1]
        return self._call(np.ascontiguousarray(images))

    def _photos(self, images, names):
        photos = []
        for image, name in zip(images, names, strict=True):
            content = image if isinstance(image, bytes) else read_whole(image)
            try:
                photos.append(self._aligner.decode(content))
            except ValueError as error:
                raise ValueError(f"{name} cannot be decoded: {error}") from error
        return photos

    def _decoded(self, images, names):
        encoded = [image if isinstance(image, bytes) else read_whole(image) for image in images]
        check_pixels(encoded, names.__getitem__)
        if not self._by_tensorflow:
            return np.stack([self._by_pillow(image, name) for image, name in zip(encoded, names, strict=True)])
        import tensorflow as tf

        try:
            return decoder(*self.preprocessing.size, self.resize, self.center_crop)(tf.constant(encoded)).numpy()
        except tf.errors.InvalidArgumentError:
            for image, name in zip(encoded, names, strict=True):
                self._check(image, name)
            raise

    def _by_pillow(self, encoded, name):
        pixels, size = decoded_face(encoded, name), self.preprocessing.size
        self._check_size(pixels.shape, name)
        return resized_face(pixels, size) if self.resize else cropped_face(pixels, size)

    def _check(self, encoded, name):
        import tensorflow as tf

        try:
            shape = decode_image(encoded).shape
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"{name} cannot be decoded: {' '.join(str(error.message).split())[:200]}") from error
        self._check_size(shape, name)

    def _check_size(self, shape, name):
        height, width = self.preprocessing.size
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

    def _template_aligner(self, detect):
        template, size = self.preprocessing.template, self.preprocessing.size
        if template is None:
            raise ValueError(
                f"{self.name} does not say by which template faces are aligned for it: align them yourself and give "
                "faces='aligned' (--aligned), or export it with a `Preprocessing` that has a `template`"
            )
        aligner = FaceAligner(template, detect=detect)
        if aligner.size[0] * size[1] != aligner.size[1] * size[0]:
            raise ValueError(
                f"{self.name} takes faces of {size[0]} x {size[1]} pixels, but its template {template} makes them of "
                f"{aligner.size[0]} x {aligner.size[1]}: align them yourself and give faces='aligned' (--aligned)"
            )
        return aligner


class _Description(NamedTuple):
    """What a model says of itself, and a function that opens it: → fingerprint, `Runtime`."""

    name: str
    preprocessing: object
    flip: str
    threshold: object
    licence: str | None
    source: str | None
    compatible_with: tuple[str, ...]
    by_tensorflow: bool  # whether it computes the model
    opened: object


def _exported(path):
    """Directory of an exported model → its `_Description`."""
    name = os.fspath(path)
    card = read_card(path)
    if card.preprocessing is None:
        raise ValueError(
            f"{name} does not say how its images are scaled: it must be exported with `preprocessing`, or its "
            "embeddings be made elsewhere and given as a file"
        )
    return _Description(
        name,
        card.preprocessing,
        card.flip,
        card.threshold,
        card.licence,
        card.source,
        card.compatible_with,
        card.format == "saved_model",
        lambda: _opened(path, card),
    )


def _opened(path, card):
    """Fingerprint and `Runtime` of an exported model; ValueError if it is not what its card says."""
    runtime = open_runtime(path, card.format, card.quantization)
    if runtime.dimension not in (None, card.dimension):
        raise ValueError(f"{path} makes {runtime.dimension} numbers of an image, but its card says {card.dimension}")
    return model_fingerprint(path), runtime


def _pretrained(model):
    """A `PretrainedNetwork` → its `_Description`."""
    from keras_normface.backbones import PretrainedNetwork  # here, since it imports Keras

    if not isinstance(model, PretrainedNetwork):
        raise ValueError(f"`model` must be a directory or a PretrainedNetwork. Received: {model!r}")

    def opened():
        from keras_normface.inference._export import embedding_model

        whole = embedding_model(model.network, preprocessing=model.preprocessing)
        return network_fingerprint(model), keras_runtime(whole)

    return _Description(
        model.name, model.preprocessing, "none", model.threshold, model.licence, model.source, (), True, opened
    )


def _ahead(pool, tasks, count):
    """Yield the results of tasks in their order; at most `count` are worked at or wait beside the one given."""
    waiting = collections.deque()
    for task in tasks:
        waiting.append(pool.submit(task))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
