"""What happens to pixels between the decoded image and the backbone: one object for data, training and export."""

import dataclasses
import json
import operator

import keras
from keras import ops

SCALINGS = {
    "minus_127.5_over_128": (127.5, 128.0),
    "minus_128_over_128": (128.0, 128.0),
    "minus_127.5_over_127.5": (127.5, 127.5),
    "over_255": (0.0, 255.0),
    "none": (0.0, 1.0),
}
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
TEMPLATES = ("sphereface_112x96", "arcface_112x112")
LUMA = (0.299, 0.587, 0.114)
LARGEST_SIZE = 4096


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From RGB pixels in 0..255 to what a backbone reads.

    The same object belongs to the training data, lies beside prepared data as JSON, and is built into an
    exported model, so that the three cannot disagree. It does not resize: images come in its size.

    Args:
        size: Pair `(height, width)` in pixels, each from 1 to 4096.
        scaling: Name in `SCALINGS`, a table of `(offset, divisor)`; a pixel x becomes (x - offset) / divisor.
            "minus_127.5_over_128", "minus_128_over_128", "minus_127.5_over_127.5" (to [-1, 1]), "over_255"
            (to [0, 1]) or "none" (stays 0..255, as float32).
        channels: Order of the output channels: "RGB", "BGR", or "GRAY" for the one channel
            0.299 R + 0.587 G + 0.114 B, not rounded.
        template: Name of the landmark template by which the faces were aligned, "sphereface_112x96" or
            "arcface_112x112"; `None` if they were not, or if it is not known. It changes no pixel.

    Raises:
        ValueError: If an argument is none of these.

    Source: the authors' code of SphereFace (arXiv 1704.08063) for "minus_127.5_over_128", of AM-Softmax
    (arXiv 1801.05599) for "minus_128_over_128", of SphereFace-R (arXiv 2109.05565) for
    "minus_127.5_over_127.5"; ITU-R BT.601 for the weights of GRAY.

    Example:
    >>> import numpy as np
    >>> preprocessing = Preprocessing(size=(1, 2), channels="BGR")
    >>> images = np.array([[[[255, 0, 127], [0, 0, 0]]]], "uint8")
    >>> ops.convert_to_numpy(preprocessing(images))[0, 0, 0].tolist()
    [-0.00390625, -0.99609375, 0.99609375]
    """

    size: tuple[int, int] = (112, 112)
    scaling: str = "minus_127.5_over_128"
    channels: str = "RGB"
    template: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "size", _checked_size(self.size))
        _check_name("scaling", self.scaling, tuple(SCALINGS))
        _check_name("channels", self.channels, tuple(CHANNELS))
        _check_name("template", self.template, (None, *TEMPLATES))

    @property
    def output_shape(self):
        """Shape `(height, width, channels)` of one image that has been preprocessed."""
        return (*self.size, CHANNELS[self.channels])

    def __call__(self, images):
        """Scale images and order their channels.

        Args:
            images: uint8 or float array or tensor `(batch, height, width, 3)`, RGB, 0..255, channels last
                whatever Keras's `image_data_format` says. All but the batch size must be known.

        Returns:
            Float32 tensor `(batch, height, width, channels)` of the backend in use.

        Raises:
            ValueError: If the images are not of this shape.
        """
        self._check_shape(images)
        offset, divisor = SCALINGS[self.scaling]
        if self.channels == "BGR":
            images = ops.flip(images, axis=-1)  # before the cast: a quarter of the bytes
        images = ops.cast(images, "float32")
        if self.channels == "GRAY":
            weights = ops.convert_to_tensor([weight / divisor for weight in LUMA], dtype="float32")
            images = ops.sum(images * weights, axis=-1, keepdims=True)
        elif divisor != 1:
            images = images * (1 / divisor)
        return images - offset / divisor if offset else images

    def to_dict(self):
        """Return the fields as a dictionary that JSON can hold; `from_dict` takes it."""
        return {**dataclasses.asdict(self), "size": list(self.size)}

    @classmethod
    def from_dict(cls, fields):
        """Make the object that `to_dict` described.

        Args:
            fields: Dictionary with the names of the constructor's arguments, all of them.

        Raises:
            ValueError: If it is no dictionary, a key is missing or not known, or a value does not fit.
        """
        if not isinstance(fields, dict):
            raise ValueError(f"`fields` must be a dictionary. Received: {type(fields).__name__}")
        known = [field.name for field in dataclasses.fields(cls)]
        if set(fields) != set(known):
            raise ValueError(f"`fields` must have the keys {known}. Received: {list(fields)}")
        return cls(**fields)

    def replace(self, **changes):
        """Return a copy in which the named fields are changed.

        Args:
            **changes: Arguments of the constructor.

        Raises:
            ValueError: If a name or a value does not fit.
        """
        unknown = sorted(set(changes) - set(self.to_dict()))
        if unknown:
            raise ValueError(f"`changes` must name fields of Preprocessing. Received: {unknown}")
        return dataclasses.replace(self, **changes)

    def differences(self, other, names=("data", "model")):
        """Say in which fields two objects differ.

        Args:
            other: A `Preprocessing`.
            names: What this object and the other are called in the sentences.

        Returns:
            List of sentences, one for each field that differs.
        """
        fields, others = self.to_dict(), other.to_dict()
        return [
            f"{key}: {names[0]} {fields[key]!r}, {names[1]} {others[key]!r}"
            for key in fields
            if fields[key] != others[key]
        ]

    def _check_shape(self, images):
        shape = getattr(images, "shape", None)
        known = shape is not None and getattr(shape, "rank", 4) == 4 and len(shape) == 4
        wanted = (*self.size, 3)
        if not known or tuple(shape)[1:] != wanted:
            received = shape if shape is not None else type(images).__name__
            raise ValueError(
                f"`images` must have the shape (batch, {', '.join(map(str, wanted))}), that is the height and width "
                f"of this Preprocessing and three channels; it does not resize. Received: {received}"
            )


@keras.saving.register_keras_serializable(package="keras_normface")
class PixelScaling(keras.layers.Layer):
    """A `Preprocessing` as a layer, for models that take raw images.

    Args:
        preprocessing: A `Preprocessing`, or its dictionary.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, 3)`, RGB, 0..255. Output shape: `(batch, height, width, channels)`.

    Raises:
        ValueError: If the dictionary does not fit, or the input has another shape.

    Example:
    >>> layer = PixelScaling(Preprocessing(size=(4, 3), channels="GRAY"))
    >>> layer(keras.Input((4, 3, 3), dtype="uint8")).shape
    (None, 4, 3, 1)
    """

    def __init__(self, preprocessing, dtype="float32", **kwargs):
        super().__init__(dtype=dtype or "float32", autocast=False, **kwargs)
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing.from_dict(preprocessing)
        self.preprocessing = preprocessing
        self.built = True

    def call(self, inputs):
        """Return the preprocessed images."""
        return ops.cast(self.preprocessing(inputs), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return `(batch, height, width, channels)`."""
        return (input_shape[0], *self.preprocessing.output_shape)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "preprocessing": self.preprocessing.to_dict()}


def check_same_preprocessing(first, second, names=("data", "model")):
    """Refuse two objects that treat pixels differently.

    Args:
        first: A `Preprocessing`.
        second: A `Preprocessing`.
        names: What the two are called in the message.

    Raises:
        ValueError: If a field differs; the message has both values of each such field.

    Example:
    >>> check_same_preprocessing(Preprocessing(), Preprocessing(scaling="over_255"))
    Traceback (most recent call last):
    ...
    ValueError: The preprocessing differs. scaling: data 'minus_127.5_over_128', model 'over_255'
    """
    differences = first.differences(second, names)
    if differences:
        raise ValueError(f"The preprocessing differs. {'; '.join(differences)}")


def preprocessing_from_json(text):
    """Read the JSON of `Preprocessing.to_dict`, which may come from anywhere.

    Args:
        text: A string or bytes.

    Returns:
        A `Preprocessing`.

    Raises:
        ValueError: If it is no JSON, or does not describe a `Preprocessing`.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The preprocessing is no JSON: {error}") from error
    return Preprocessing.from_dict(fields)


def _checked_size(size):
    fits = isinstance(size, tuple | list) and len(size) == 2 and not any(isinstance(n, bool) for n in size)
    try:
        size = tuple(operator.index(n) for n in size) if fits else None
    except TypeError:
        fits = False
    if not fits or not all(1 <= n <= LARGEST_SIZE for n in size):
        raise ValueError(
            f"`size` must be two integers (height, width) from 1 to {LARGEST_SIZE}. Received: {_short(size)}"
        )
    return size


def _check_name(argument, value, names):
    if not isinstance(value, str | None) or value not in names:
        raise ValueError(f"`{argument}` must be one of {list(names)}. Received: {_short(value)}")


def _short(value):
    return repr(value)[:80] if isinstance(value, str | int | float | None) else _type_of(value)


def _type_of(value):
    plain = isinstance(value, tuple | list) and all(isinstance(item, str | int | float | None) for item in value)
    return repr(value)[:80] if plain else type(value).__name__


PREPROCESSING = {
    # Liu et al. 2017 (arXiv 1704.08063): the authors' evaluation code, MATLAB, which gives Caffe BGR.
    "sphereface": Preprocessing((112, 96), "minus_127.5_over_128", "BGR", "sphereface_112x96"),
    # Wang et al. 2018 (arXiv 1801.05599) and the authors' Caffe code, whose images OpenCV reads as BGR.
    "am_softmax": Preprocessing((112, 96), "minus_128_over_128", "BGR", "sphereface_112x96"),
    # Liu et al. 2022 (arXiv 2109.05565): the authors' code, OpenSphere.
    "sphereface_r": Preprocessing((112, 112), "minus_127.5_over_127.5", "RGB", "arcface_112x112"),
}
