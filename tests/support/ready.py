"""A tiny network as `backbones.pretrained` returns one, a detector that finds faces anywhere, and photos for both."""

import dataclasses
import io
import os

import keras
import numpy as np
from PIL import Image

from keras_normface import Preprocessing
from keras_normface.backbones import PretrainedNetwork
from keras_normface.inference import CalibratedThreshold
from keras_normface.prepare import Face
from tests.support import faces

TEMPLATE = Preprocessing(size=(112, 96), template="sphereface_112x96")
THRESHOLD = CalibratedThreshold(0.001, 0.5, None, 0.0009, 0.9, num_genuine=10, num_impostor=5000, protocol="toy pairs")


def network(size, seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.AveragePooling2D(8), keras.layers.Flatten(), keras.layers.Dense(6)]
    return keras.Sequential([keras.Input((*size, 3)), *layers])


def ready_network(**changes):
    """The network with weights, and all that is needed to compare faces with it."""
    return dataclasses.replace(
        PretrainedNetwork("tiny", network(TEMPLATE.size), TEMPLATE, "cosine", THRESHOLD, "CC0-1.0", "a test"), **changes
    )


def found_at(images):
    """Two faces in each photo, at places that follow from its size; none in what is all black."""
    height, width = images[0].shape[:2]
    x, y = width * 0.3, height * 0.3
    points = ((x, y), (x + 30, y + 2), (x + 14, y + 20), (x + 2, y + 36), (x + 28, y + 37))
    large = Face((x - 20, y - 30, x + 60, y + 60), points, 0.99)
    small = Face((0.0, 0.0, 9.0, 9.0), ((1, 1), (5, 1), (3, 3), (1, 6), (5, 6)), 0.99)
    return [[small, large] if image.any() else [] for image in images]


found_at.name = "faces anywhere"


def write_photos(folder):
    """Sorted paths of photos of three sizes, one of them turned by EXIF."""
    for number, size in enumerate(((150, 130), (200, 160), (150, 130), (120, 140))):
        image = Image.open(io.BytesIO(faces.face(1 + number, 1))).resize(size)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        os.makedirs(folder / f"p{number}")
        image.save(folder / f"p{number}" / "1.png", exif=exif)
    return sorted((folder).rglob("*.png"))


def write_album(folder, people, each, size=(184, 224), room=73):
    """A folder for each person of ORL, with photos as a camera makes them: enlarged, with room around the head."""
    for person in range(1, people + 1):
        directory = os.path.join(folder, f"{person:07d}")
        os.makedirs(directory)
        for number in range(1, each + 1):
            face = Image.open(io.BytesIO(faces.face(person, number))).convert("RGB").resize(size)
            photo = np.pad(np.asarray(face), ((room, room), (room, room), (0, 0)), mode="edge")
            Image.fromarray(photo).save(os.path.join(directory, f"{number:03d}.png"))
    return folder


def write_aligned(folder, people, each):
    """A folder for each person with faces of 150×150, as if they were aligned for the ready network."""
    return write_album(folder, people, each, (150, 150), 0)
