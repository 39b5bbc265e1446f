"""Write what `keras-normface export` makes for ONNX and LiteRT, for the tests that run without TensorFlow.

    python tests/inference/export_models.py DIRECTORY

The network is linear: sums over cells of the face, less their mean, so that faces of one person have a larger cosine.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from keras_normface import Preprocessing, export_embedding_model

SIZE, CELL = (112, 112), 7


def network():
    """Image (112, 112, 3) → 256 means of cells, less the mean of all."""
    image = keras.Input((*SIZE, 3))
    grey = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / 3))(image)
    cells = keras.layers.Flatten()(keras.layers.AveragePooling2D(CELL)(grey))
    count = cells.shape[-1]
    centred = keras.layers.Dense(count, use_bias=False)
    outputs = centred(cells)
    centred.set_weights([np.eye(count, dtype="float32") - 1 / count])
    return keras.Model(image, outputs)


def main(directory):
    """One directory for each form, with check_images.npy and check_embeddings.npy beside them."""
    model, preprocessing = network(), Preprocessing(SIZE, template="arcface_112x112")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), "uint8")
    rows = model.predict(np.asarray(preprocessing(pixels)), verbose=0)
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / "check_images.npy", pixels)
    np.save(directory / "check_embeddings.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    for form in ("onnx", "litert"):
        export_embedding_model(model, directory / form, preprocessing=preprocessing, format=form, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
