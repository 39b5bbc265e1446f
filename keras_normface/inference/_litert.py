"""The embedding model as `model.tflite`, in float32 or quantized."""

import contextlib
import io
import logging
import warnings


def write(model, path, quantize, images):
    """Write a Keras model from raw pixels to unit embeddings; `images` uint8 `(n, h, w, 3)` set the ranges of int8."""
    import tensorflow as tf

    image = tf.TensorSpec((None, *model.inputs[0].shape[1:]), model.inputs[0].dtype, name="image")
    function = tf.function(lambda image: model(image, training=False), input_signature=[image])
    # Keras's format="litert" came with 3.13; this is what it does, with the options of the converter.
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif quantize == "int8":
            converter.representative_dataset = lambda: ([images[k : k + 1]] for k in range(len(images)))
        content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)


def versions():
    """Versions of what reads the file; ImportError, which says what to install, if it is not there."""
    try:
        import ai_edge_litert
    except ImportError as error:
        raise ImportError('format="litert" needs ai_edge_litert: pip install "keras-normface[litert]"') from error
    return {"ai_edge_litert": ai_edge_litert.__version__}


@contextlib.contextmanager
def _quiet():
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
