"""The three networks of MTCNN in NumPy, with the weights that the package `mtcnn` brings along."""

import importlib.metadata
import io
import itertools
import os
import pickletools

import numpy as np

LARGEST_FILE = 2**24
BLOCK = 2**18  # numbers in one block of patches: what stays in the cache
DENSE_INPUTS = 3 * 3  # positions that are left when the dense layers begin


def mtcnn_networks():
    """Functions of the three stages, from the files of the installed package, which is not imported."""
    try:
        package = importlib.metadata.distribution("mtcnn")
        import lz4.frame as _  # noqa: F401
    except ImportError as error:
        raise ImportError("Aligning needs the packages mtcnn and lz4: pip install 'keras-normface[align]'") from error
    directory = package.locate_file("mtcnn/assets/weights")
    networks = ("pnet", proposals, PROPOSAL), ("rnet", refined, REFINEMENT), ("onet", located, OUTPUT)
    return [
        _bound(network, read_weights(os.path.join(directory, f"{name}.lz4"), shapes))
        for name, network, shapes in networks
    ]


def _bound(network, weights):
    return lambda images: network(images, weights)


def _convolution(size, inputs, outputs):
    """Shapes of a convolution with PReLU: kernel, bias, slopes."""
    return (size, size, inputs, outputs), (outputs,), (1, 1, outputs)


def _dense(inputs, hidden, *outputs):
    """Shapes of a dense layer with PReLU, and of those that follow it."""
    last = itertools.chain.from_iterable(((hidden, count), (count,)) for count in outputs)
    return (inputs, hidden), (hidden,), (hidden,), *last


PROPOSAL = (
    *_convolution(3, 3, 10),
    *_convolution(3, 10, 16),
    *_convolution(3, 16, 32),
    *((1, 1, 32, 4), (4,), (1, 1, 32, 2), (2,)),
)
REFINEMENT = (
    *_convolution(3, 3, 28),
    *_convolution(3, 28, 48),
    *_convolution(2, 48, 64),
    *_dense(DENSE_INPUTS * 64, 128, 4, 2),
)
OUTPUT = (
    *_convolution(3, 3, 32),
    *_convolution(3, 32, 64),
    *_convolution(3, 64, 64),
    *_convolution(2, 64, 128),
    *_dense(DENSE_INPUTS * 128, 256, 4, 10, 2),
)


def proposals(images, weights):
    """(n, h, w, 3) → offsets (n, h', w', 4) and probabilities (n, h', w') of faces, 12 pixels large, 2 apart."""
    features = max_pool(convolved(images, *weights[0:3]), 2, whole=True)
    features = convolved(features, *weights[3:6])
    features = convolved(features, *weights[6:9])
    offsets = features @ weights[9][0, 0] + weights[10]
    return offsets, _probability(features @ weights[11][0, 0] + weights[12])


def refined(images, weights):
    """(n, 24, 24, 3) → offsets (n, 4), probabilities (n,)."""
    features = max_pool(convolved(images, *weights[0:3]), 3, whole=True)
    features = max_pool(convolved(features, *weights[3:6]), 3, whole=False)
    features = convolved(features, *weights[6:9])
    offsets, logits = _dense_layers(features, *weights[9:])
    return offsets, _probability(logits)


def located(images, weights):
    """(n, 48, 48, 3) → offsets (n, 4), points (n, 10) as five x and five y, probabilities (n,)."""
    features = max_pool(convolved(images, *weights[0:3]), 3, whole=True)
    features = max_pool(convolved(features, *weights[3:6]), 3, whole=False)
    features = max_pool(convolved(features, *weights[6:9]), 2, whole=True)
    features = convolved(features, *weights[9:12])
    offsets, points, logits = _dense_layers(features, *weights[12:])
    return offsets, points, _probability(logits)


def convolved(images, kernel, bias, slopes):
    """(n, h, w, c) float32 → PReLU of the convolution, without padding."""
    height, width, channels, filters = kernel.shape
    count, rows, columns = images.shape[0], images.shape[1] - height + 1, images.shape[2] - width + 1
    images = np.ascontiguousarray(images)
    # A row of a window lies in memory in one piece.
    windows = np.lib.stride_tricks.as_strided(
        images,
        (count, rows, columns, height, width * channels),
        (*images.strides[:3], images.strides[1], images.strides[3]),
        writeable=False,
    )
    matrix, slopes = kernel.reshape(-1, filters), slopes.ravel() - 1
    out = np.empty((count, rows, columns, filters), "float32")
    # Blocks of some rows, or of some small images, which stay in the cache from one step to the next.
    lines = max(1, BLOCK // (columns * len(matrix)))
    together = max(1, lines // rows)
    for first in range(0, count, together):
        for top in range(0, rows, lines):
            block = (slice(first, first + together), slice(top, top + lines))
            part = windows[block].reshape(-1, len(matrix)) @ matrix
            part += bias
            below = np.minimum(part, 0)
            below *= slopes
            part += below
            out[block] = part.reshape(out[block].shape)
    return out


def max_pool(images, size, whole):
    """(n, h, w, c) → maxima of windows, 2 apart; `whole`: those at the end may reach beyond the image."""
    height, width = images.shape[1:3]
    if whole:
        rows, columns = -(-height // 2), -(-width // 2)
        missing = 2 * rows + size - 2 - height, 2 * columns + size - 2 - width
        images = np.pad(images, ((0, 0), (0, max(0, missing[0])), (0, max(0, missing[1])), (0, 0)), mode="edge")
    else:
        rows, columns = (height - size) // 2 + 1, (width - size) // 2 + 1
    shifted = (images[:, i : i + 2 * rows - 1 : 2] for i in range(size))
    images = _maximum(shifted)
    return _maximum(images[:, :, j : j + 2 * columns - 1 : 2] for j in range(size))


def _maximum(arrays):
    arrays = iter(arrays)
    result = np.maximum(next(arrays), next(arrays))
    for array in arrays:
        np.maximum(result, array, out=result)
    return result


def _dense_layers(features, kernel, bias, slopes, *outputs):
    """(n, 3, 3, c) → the outputs of the layers that follow the hidden one; they were trained on columns first."""
    hidden = features.transpose(0, 2, 1, 3).reshape(-1, len(kernel)) @ kernel + bias
    hidden += (slopes - 1) * np.minimum(hidden, 0)
    return [hidden @ kernel + bias for kernel, bias in zip(outputs[::2], outputs[1::2], strict=True)]


def _probability(logits):
    """Logits (..., 2) of "no face" and "face" → probability of "face"."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))


def read_weights(path, shapes):
    """Arrays of these shapes from a file of joblib's under LZ4; the pickle in it is parsed, nothing of it is run."""
    try:
        if os.path.getsize(path) > LARGEST_FILE:
            raise ValueError("it is too large")
        with open(path, "rb") as file:
            content = file.read()
        return _parsed(_decompressed(content, shapes), shapes)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is not a file of weights of mtcnn 1.0: {error}") from error


def _decompressed(content, shapes):
    import lz4.frame

    # What is not numbers is a few hundred bytes an array.
    most = sum(4 * int(np.prod(shape)) + 1024 for shape in shapes)
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        content = decompressor.decompress(content, max_length=most)
    except RuntimeError as error:
        raise ValueError(f"it is not LZ4: {error}") from error
    if not decompressor.eof:
        raise ValueError("it is truncated, or holds more than these weights")
    return content


def _parsed(content, shapes):
    """Bytes of joblib's pickle → the arrays; each follows the instruction that ends its description."""
    stream, arrays, integers, before = io.BytesIO(content), [], [], None
    for instruction, argument, _ in pickletools.genops(stream):
        if isinstance(argument, int) and instruction.name.startswith("BININT"):
            integers.append(argument)
        if instruction.name == "BUILD" and before == "SETITEMS":
            shape = shapes[len(arrays)] if len(arrays) < len(shapes) else None
            if shape is None or tuple(integers[: len(shape)]) != shape:
                raise ValueError(f"array {len(arrays) + 1} does not have the shape {shape}")
            stream.seek(stream.read(1)[0], os.SEEK_CUR)
            numbers = np.frombuffer(stream.read(4 * int(np.prod(shape))), "<f4").astype("float32")
            arrays.append(numbers.reshape(shape))
            integers = []
        before = instruction.name
    if len(arrays) != len(shapes) or stream.read(1):
        raise ValueError(f"it holds {len(arrays)} arrays instead of {len(shapes)}, or more bytes than they have")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("a weight is not finite")
    return arrays
