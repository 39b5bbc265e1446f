"""A MobileFaceNet that learns the ready network's embeddings of ORL's people: what `train --teacher dlib` does."""

import keras
import numpy as np
import orl_photos
import tensorflow as tf
from PIL import Image

from keras_normface import EmbeddingModel, LearnableScale, MarginSoftmaxHead, Preprocessing, embedding_model
from keras_normface.backbones import MobileFaceNet
from keras_normface.heads import DistillationHead

SIDE, STEPS, BATCH_SIZE, RATE = 48, 100, 32, 3e-3
PIXELS = Preprocessing((SIDE, SIDE), template="dlib_150x150")


def heads(num_people):
    """Those of the recipe `mobilefacenet_distilled`: NormFace's softmax, and the teacher."""
    return [MarginSoftmaxHead(num_people, scale=LearnableScale(10.0)), DistillationHead(relation_weight=2.0)]


HEAD_WEIGHTS = [0.1, 1.0]


def resized(faces):
    """Aligned faces → float32 (n, SIDE, SIDE, 3), as the pupil takes them."""
    small = [Image.fromarray(face).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for face in faces]
    return np.asarray(PIXELS(np.stack([np.asarray(face) for face in small])))


def teacher_rows(embedder, faces):
    """Aligned faces → the teacher's unit embeddings of image and mirror image together."""
    encoded = [orl_photos.png(face) for face in faces]
    rows = embedder.embed(encoded) + embedder.embed(encoded, mirror=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def centred(rows):
    """Unit rows without what they have in common: dlib's lie in a narrow cone."""
    rows = rows - rows.mean(axis=0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Pupil:
    """A small network that is trained anew on each set of faces; it is compiled once."""

    def __init__(self, heads, head_weights=None, *, steps=STEPS, seed=0):
        keras.utils.set_random_seed(seed)
        self.steps, self.seed = steps, seed
        backbone = MobileFaceNet((SIDE, SIDE, 3), embedding_dim=128)
        self.model = EmbeddingModel(backbone, heads, head_weights=head_weights)
        warmup = max(steps // 10, 1)
        rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=RATE, warmup_steps=warmup)
        self.model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)
        self._variables = [*self.model.variables, *self.model.optimizer.variables]
        self._first = [np.array(variable) for variable in self._variables]
        self._cut = embedding_model(backbone, flip="sum")

    def fit(self, faces, targets, callbacks=()):
        """Aligned faces, and what the heads are given → a function from aligned faces to embeddings."""
        for variable, value in zip(self._variables, self._first, strict=True):
            variable.assign(value)
        data = tf.data.Dataset.from_tensor_slices((resized(faces), targets)).shuffle(len(faces), seed=self.seed)
        data = data.repeat().batch(BATCH_SIZE, drop_remainder=True)
        change = keras.Sequential(
            [
                keras.layers.RandomFlip("horizontal", seed=self.seed),
                keras.layers.RandomRotation(5 / 360, fill_mode="nearest", seed=self.seed + 1),
                keras.layers.RandomZoom(0.05, fill_mode="nearest", seed=self.seed + 2),
                keras.layers.RandomTranslation(0.04, 0.04, fill_mode="nearest", seed=self.seed + 3),
            ]
        )
        data = data.map(lambda x, y: (change(x, training=True), y)).prefetch(2)
        options = {"steps_per_epoch": self.steps, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
        self.model.fit(data, epochs=1, **options)
        return self.embed

    def embed(self, faces):
        """Aligned faces → (n, 128) unit rows."""
        return self._cut.predict(resized(faces), verbose=0, batch_size=100)
