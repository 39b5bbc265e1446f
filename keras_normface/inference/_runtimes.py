"""What computes embeddings: a SavedModel, a Keras network, ONNX or LiteRT, each as one function of raw pixels.

Each is a function from uint8 RGB `(n, height, width, 3)` to float32 unit embeddings `(n, dim)`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_normface.inference._card import FORMATS
from keras_normface.startup import stderr_without

SMALLEST_NORM = 1e-12
NOTICE = rb"XNNPACK delegate"  # of LiteRT, whenever it is made


class Runtime(NamedTuple):
    """A function from pixels to embeddings, and their dimension, or `None` where the file does not say."""

    call: object
    dimension: int | None


def open_runtime(path, format, quantization="none"):
    """Directory of an exported model, and its form by the card → its `Runtime`."""
    file = Path(path) / FORMATS[format]
    if not file.is_file():
        raise FileNotFoundError(f"{path} must hold {file.name}, as its card says")
    opened = {"saved_model": _saved_model, "onnx": _onnx, "litert": _litert}[format]
    runtime = opened(os.fspath(path if format == "saved_model" else file))
    # ONNX's dynamic ranges are those of the whole batch: an image's embedding would depend on its neighbours.
    return _one_by_one(runtime) if (format, quantization) == ("onnx", "dynamic") else runtime


def _one_by_one(runtime):
    def embed(images):
        return np.concatenate([runtime.call(images[place : place + 1]) for place in range(len(images))])

    return Runtime(embed, runtime.dimension)


def keras_runtime(network):
    """A Keras model from raw pixels to unit embeddings → its `Runtime`."""
    import keras

    call = network
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        image = network.inputs[0]
        call = tf.function(network, input_signature=[tf.TensorSpec((None, *image.shape[1:]), image.dtype)])

    def embed(images):
        return np.asarray(keras.ops.convert_to_numpy(call(images)), "float32")

    return Runtime(_checked("the network", embed), network.output_shape[-1])


def _checked(path, call):
    """The function with a check that it takes the images, and makes a row of finite numbers of each."""

    def embed(images):
        try:
            embeddings = call(images)
        except MemoryError:
            raise
        except Exception as error:  # each runtime has its own, such as for images of another size
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ValueError(f"{path} does not take images {images.dtype} {images.shape}: {reason}") from error
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise ValueError(f"{path} must make a row of each image. Received: embeddings of shape {embeddings.shape}")
        if not np.isfinite(embeddings).all():
            raise ValueError(f"{path} makes numbers of an image that are not finite")
        return embeddings.astype("float32", copy=False)

    return embed


def _damaged(path, kind, error):
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ValueError(f"{path} must be {kind}, but it is truncated or corrupt: {reason}")


def _saved_model(path):
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"{path} is a SavedModel, which needs the package tensorflow: pip install tensorflow"
        ) from error
    try:
        loaded = tf.saved_model.load(path)
    # TensorFlow raises whatever its readers meet in files that are cut or corrupt: IndexError, DataLossError, ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(path, "a SavedModel", error) from error
    serving = loaded.signatures.get("serving_default")
    inputs = {} if serving is None else serving.structured_input_signature[1]
    if len(inputs) != 1 or len(serving.structured_outputs) != 1:
        raise ValueError(f"{path} must map one input to one output by its signature serving_default")
    ((argument, spec),) = inputs.items()
    ((output, made),) = serving.structured_outputs.items()
    dtype = spec.dtype.as_numpy_dtype

    def call(images):
        # `loaded` must outlive its signature, which holds it only weakly.
        serve = loaded.signatures["serving_default"]
        return serve(**{argument: tf.constant(images.astype(dtype, copy=False))})[output].numpy()

    return Runtime(_checked(path, call), made.shape[-1] if made.shape.rank == 2 else None)


def _onnx(path):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{path} needs the package onnxruntime: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    except Exception as error:  # its own, one for each status, which are no ValueError
        raise _damaged(path, "an ONNX file", error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{path} must map one input to one output. Received: {len(inputs)} to {len(outputs)}")
    name, dtype = inputs[0].name, {"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(inputs[0].type)
    if dtype is None:
        raise ValueError(f"{path} must take uint8 or float32. Received: {inputs[0].type}")

    def call(images):
        (embeddings,) = session.run(None, {name: images.astype(dtype, copy=False)})
        return embeddings

    dimension = outputs[0].shape[-1] if outputs[0].shape else None
    return Runtime(_checked(path, call), dimension if isinstance(dimension, int) else None)


def _litert(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(f"{path} needs the package ai-edge-litert: pip install ai-edge-litert") from error
    try:
        with stderr_without(NOTICE):
            interpreter = Interpreter(path, num_threads=os.cpu_count())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception as error:  # RuntimeError, ValueError, and others from its C++
        raise _damaged(path, "a LiteRT file", error) from error
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{path} must map one input to one output. Received: {len(inputs)} to {len(outputs)}")
    (image,), (made,) = inputs, outputs
    allocated = []

    def call(images):
        if allocated != [images.shape]:
            interpreter.resize_tensor_input(image["index"], images.shape, strict=True)
            with stderr_without(NOTICE):
                interpreter.allocate_tensors()
            allocated[:] = [images.shape]
        interpreter.set_tensor(image["index"], images.astype(image["dtype"], copy=False))
        interpreter.invoke()
        rows = interpreter.get_tensor(made["index"])
        # In int8 the normalisation is quantized too, and lengths are up to 1 % from one.
        return rows if rows.ndim != 2 else rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALLEST_NORM)

    return Runtime(_checked(path, call), int(made["shape"][-1]) if len(made["shape"]) == 2 else None)
