"""The embedding model as `model.onnx` or `model.tflite`, in float32 or quantized."""

import contextlib
import io
import logging
import os
import warnings

from keras_normface.startup import stderr_without

INPUT = "image"
_WEIGHTED = ("Conv", "Gemm", "MatMul")  # what is quantized; scaling and normalisation stay in float32


def write_onnx(model, path, quantize, images):
    """Write a Keras model from raw pixels to unit embeddings; `images` uint8 `(n, h, w, 3)` set the ranges of int8."""
    with _quiet():
        model(images[:1], training=False)  # Keras exports to ONNX only what was called once
        model.export(path, format="onnx", verbose=False)
        if quantize == "float16":
            _halve(path)
        elif quantize != "none":
            _quantize(path, quantize, images)
    _name_batch(path)


def onnx_versions():
    """Versions of what writes the file; ImportError, which says what to install, if it is not there."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise ImportError(f'format="onnx" needs {error.name}: pip install "keras-normface[onnx]"') from error
    except AttributeError as error:  # onnx 1.19 beside the ml_dtypes of TensorFlow 2.18
        reason = f'format="onnx" needs an onnx that fits the other packages: {error}'
        raise ImportError(f'{reason}; pip install "keras-normface[onnx]"') from error
    return {package.__name__: package.__version__ for package in (onnx, onnxruntime, tf2onnx)}


def write_litert(model, path, quantize, images):
    """As `write_onnx`, in LiteRT's form; `images` uint8 `(n, h, w, 3)` set the ranges of int8."""
    import tensorflow as tf

    image = tf.TensorSpec((None, *model.inputs[0].shape[1:]), model.inputs[0].dtype, name="image")
    function = tf.function(lambda image: model(image, training=False), input_signature=[image])
    # Keras's format="litert" came with 3.13; this is what it does, with the options of the converter.
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif quantize == "int8":
            converter.representative_dataset = lambda: ([images[k : k + 1]] for k in range(len(images)))
        with stderr_without(rb"^fully_quantize: "):
            content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)


def litert_versions():
    """Versions of what reads the file; ImportError, which says what to install, if it is not there."""
    try:
        import ai_edge_litert
    except ImportError as error:
        raise ImportError('format="litert" needs ai_edge_litert: pip install "keras-normface[litert]"') from error
    return {"ai_edge_litert": ai_edge_litert.__version__}


@contextlib.contextmanager
def _quiet():
    """Without what Keras and TensorFlow print, and tf2onnx and onnxruntime log and warn of."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _name_batch(path):
    """The first axis, whose names tf2onnx numbers, becomes `batch` in input and output."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)


def _halve(path):
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def _quantize(path, quantize, images):
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, made = f"{path}.prepared", f"{path}.quantized"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    if quantize == "dynamic":
        # The CPU's ConvInteger takes weights of uint8 alone.
        quantize_dynamic(prepared, made, weight_type=QuantType.QUInt8, op_types_to_quantize=list(_WEIGHTED))
    else:
        quantize_static(
            prepared,
            made,
            _reader(images),
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(_WEIGHTED),
        )
    os.remove(prepared)
    os.replace(made, path)


def _reader(images, batch=8):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Batches of the calibration images."""

        def __init__(self):
            self._batches = iter(range(0, len(images), batch))

        def get_next(self):
            """The next batch, or `None`."""
            start = next(self._batches, None)
            return None if start is None else {INPUT: images[start : start + batch]}

    return Reader()
