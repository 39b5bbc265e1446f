"""What happens to pixels between the decoded image and the backbone: one object for data, training and export."""

import dataclasses
import operator

from keras_normface._io import parse_json

SCALINGS = {
    "sphereface": {"scale": 1 / 128, "offset": -127.5 / 128},  # (x - 127.5) / 128
    "am_softmax": {"scale": 1 / 128, "offset": -1.0},  # (x - 128) / 128
    "minus_one_to_one": {"scale": 1 / 127.5, "offset": -1.0},  # (x - 127.5) / 127.5
    "zero_to_one": {"scale": 1 / 255, "offset": 0.0},
    "none": {"scale": 1.0, "offset": 0.0},
}
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
TEMPLATE_SIZES = {"sphereface_112x96": (112, 96), "arcface_112x112": (112, 112), "dlib_150x150": (150, 150)}
TEMPLATES = tuple(TEMPLATE_SIZES)
LUMA = (0.299, 0.587, 0.114)
LARGEST_SIZE = 4096
LARGEST_NUMBER = 1e30
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pixels in 0..255 become the input of a backbone: x · scale + offset, as `keras.layers.Rescaling`.

    The same object belongs to the recipe, to the training data, and to the exported model, so that the three
    cannot disagree. Prepared shards record size and template alone: their bytes are not scaled. It does not resize:
    images come in its size.

    Args:
        size: Pair `(height, width)` in pixels, each from 1 to 4096.
        scale: A number, or a sequence with one for each output channel, in the order of `channels`; not 0.
        offset: A number, or a sequence with one for each output channel; added after the multiplication.
        channels: Order of the output channels: "RGB", "BGR", or "GRAY" for the one channel
            0.299 R + 0.587 G + 0.114 B, not rounded.
        template: Name of the landmark template by which the faces were aligned, "sphereface_112x96",
            "arcface_112x112" or "dlib_150x150"; `None` if they were not, or if it is not known. It changes no pixel.

    `SCALINGS` holds scale and offset by name: "sphereface", (x - 127.5) / 128, which is the default; "am_softmax",
    (x - 128) / 128; "minus_one_to_one", (x - 127.5) / 127.5; "zero_to_one", x / 255; "none", x as float32.
    `PREPROCESSING` holds whole objects by the name of the paper.

    Raises:
        ValueError: If an argument is none of these.

    Source: the authors' code of SphereFace (arXiv 1704.08063), AM-Softmax (arXiv 1801.05599) and SphereFace-R
    (arXiv 2109.05565, "minus_one_to_one"); ITU-R BT.601 for the weights of GRAY.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> preprocessing = Preprocessing(size=(1, 2), channels="BGR")
    >>> images = np.array([[[[255, 0, 127], [0, 0, 0]]]], "uint8")
    >>> ops.convert_to_numpy(preprocessing(images))[0, 0, 0].tolist()
    [-0.00390625, -0.99609375, 0.99609375]
    >>> Preprocessing(size=(1, 2), **SCALINGS["zero_to_one"]).offset
    0.0
    """

    size: tuple[int, int] = (112, 112)
    scale: float | tuple[float, ...] = SCALINGS["sphereface"]["scale"]
    offset: float | tuple[float, ...] = SCALINGS["sphereface"]["offset"]
    channels: str = "RGB"
    template: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "size", _checked_size(self.size))
        _check_name("channels", self.channels, tuple(CHANNELS))
        _check_name("template", self.template, (None, *TEMPLATES))
        for name in ("scale", "offset"):
            object.__setattr__(self, name, _checked_numbers(name, getattr(self, name), CHANNELS[self.channels]))
        if 0.0 in _several(self.scale):
            raise ValueError(f"`scale` must not be 0. Received: {self.scale}")

    @property
    def output_shape(self):
        """Shape `(height, width, channels)` of one image that has been preprocessed."""
        return (*self.size, CHANNELS[self.channels])

    @property
    def scales_pixels(self):
        """Whether scale or offset change a pixel's value."""
        return set(_several(self.scale)) != {1.0} or set(_several(self.offset)) != {0.0}

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
        from keras import ops

        self._check_shape(images)
        if self.channels == "BGR":
            images = ops.flip(images, axis=-1)  # before the cast: a quarter of the bytes
        images = ops.cast(images, "float32")
        if self.channels == "GRAY":
            (scale,) = _several(self.scale)
            weights = ops.convert_to_tensor([weight * scale for weight in LUMA], dtype="float32")
            images = ops.sum(images * weights, axis=-1, keepdims=True)
        elif set(_several(self.scale)) != {1.0}:
            images = images * _factor(self.scale)
        return images + _factor(self.offset) if any(_several(self.offset)) else images

    def to_dict(self):
        """Return the fields and the version of this form as a dictionary that JSON can hold."""
        fields = {name: getattr(self, name) for name in _names()}
        return {"version": VERSION, **{k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}}

    @classmethod
    def from_dict(cls, fields):
        """Make the object that `to_dict` described.

        Args:
            fields: Dictionary with `version` and the names of the constructor's arguments, all of them.

        Raises:
            ValueError: If it is not a dictionary, is of another version (those before 2 named their scaling and
                have no number), a key is missing or not known, or a value does not fit.
        """
        if not isinstance(fields, dict):
            raise ValueError(f"`fields` must be a dictionary. Received: {type(fields).__name__}")
        version = fields.get("version", "none, as version 1 had")
        if isinstance(version, bool) or version != VERSION:
            raise ValueError(f"`version` of a Preprocessing must be {VERSION}. Received: {_short(version)}")
        if set(fields) != {"version", *_names()}:
            raise ValueError(f"`fields` must have the keys {['version', *_names()]}. Received: {list(fields)}")
        fields = {name: fields[name] for name in _names()}
        return cls(**fields)

    def replace(self, **changes):
        """Return a copy in which the named fields are changed.

        Args:
            **changes: Arguments of the constructor.

        Raises:
            ValueError: If a name or a value does not fit.
        """
        unknown = sorted(set(changes) - set(_names()))
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
        fields = {name: (getattr(self, name), getattr(other, name)) for name in _names()}
        return [
            f"{name}: {names[0]} {first!r}, {names[1]} {second!r}"
            for name, (first, second) in fields.items()
            if first != second
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


def check_same_preprocessing(first, second, names=("data", "model"), remedy=""):
    """Refuse two objects that treat pixels differently.

    Args:
        first: A `Preprocessing`.
        second: A `Preprocessing`.
        names: What the two are called in the message.
        remedy: How the message ends: what to change.

    Raises:
        ValueError: If a field differs; the message has both values of each such field.

    Example:
    >>> check_same_preprocessing(Preprocessing(), Preprocessing(channels="BGR"))
    Traceback (most recent call last):
    ...
    ValueError: The preprocessing differs. channels: data 'RGB', model 'BGR'
    """
    differences = first.differences(second, names)
    if differences:
        raise ValueError(f"The preprocessing differs. {'; '.join(differences)}{remedy and f'. {remedy}'}")


def preprocessing_from_json(text):
    """Read the JSON of `Preprocessing.to_dict`, which may come from anywhere.

    Args:
        text: A string or bytes.

    Returns:
        A `Preprocessing`.

    Raises:
        ValueError: If it is not valid JSON, or does not describe a `Preprocessing`.
    """
    return Preprocessing.from_dict(parse_json(text))


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


def _checked_numbers(argument, value, channels):
    """A finite number, or one per channel → float or tuple of floats."""
    several = list(value) if isinstance(value, tuple | list) else [value]
    fits = len(several) == (channels if isinstance(value, tuple | list) else 1)
    fits = fits and all(isinstance(n, int | float) and not isinstance(n, bool) for n in several)
    if not fits or not all(abs(n) < LARGEST_NUMBER for n in several):  # beyond it float32 overflows; false for NaN
        raise ValueError(
            f"`{argument}` must be a finite number, or {channels} of them, one per channel. Received: {_short(value)}"
        )
    return tuple(map(float, several)) if isinstance(value, tuple | list) else float(value)


def _several(value):
    return value if isinstance(value, tuple) else (value,)


def _factor(value):
    """Number, or (channels,) float32 tensor."""
    from keras import ops

    return ops.convert_to_tensor(value, dtype="float32") if isinstance(value, tuple) else value


def _names():
    return [field.name for field in dataclasses.fields(Preprocessing)]


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
    "sphereface": Preprocessing((112, 96), **SCALINGS["sphereface"], channels="BGR", template="sphereface_112x96"),
    # Wang et al. 2018 (arXiv 1801.05599) and the authors' Caffe code, whose images OpenCV reads as BGR.
    "am_softmax": Preprocessing((112, 96), **SCALINGS["am_softmax"], channels="BGR", template="sphereface_112x96"),
    # Liu et al. 2022 (arXiv 2109.05565): the authors' code, OpenSphere.
    "sphereface_r": Preprocessing(
        (112, 112), **SCALINGS["minus_one_to_one"], channels="RGB", template="arcface_112x112"
    ),
}
