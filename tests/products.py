"""Tiny exported models, and made-up faces for them: a pattern for each person, with a little noise."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 10)


def export(path, seed=0, **options):
    """A dense layer on pixels, as a SavedModel; patterns stay as unlike as they are."""
    import keras

    import keras_normface as knf

    keras.utils.set_random_seed(seed)
    net = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(24)])
    options.setdefault("preprocessing", knf.Preprocessing(size=SIZE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        knf.export_embedding_model(net, path, **options)
    return Path(path)


def face(person, image, noise=0.35, size=SIZE):
    """Encoded PNG; `person` is any text."""
    pattern = np.random.default_rng([*person.encode()]).normal(size=(*size, 3))
    other = np.random.default_rng([*person.encode(), 1 + image]).normal(size=(*size, 3))
    pixels = np.clip(127.5 + 60 * (pattern + noise * other), 0, 255).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_face(root, name, person, image, **options):
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(face(person, image, **options))
    return path
