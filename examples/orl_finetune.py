"""The ready network fine-tuned on people of ORL: what `keras-normface finetune --from dlib` does, in Python."""

import tempfile

import keras
import numpy as np
import orl_photos
import tensorflow as tf

from keras_normface import embedding_model, fit_resumable, recipes
from keras_normface.backbones import pretrained
from keras_normface.data import ArrayBatches
from keras_normface.prepare import FaceAligner
from keras_normface.training import BestWeights, fit_heads

AT_ONCE = 16


def aligned_faces(template="dlib_150x150", progress=None):
    """Faces of the 400 photos, aligned: uint8 (400, height, width, 3)."""
    files, align, faces = orl_photos.face_files(), FaceAligner(template), []
    for start in range(0, len(files), AT_ONCE):
        faces += align([orl_photos.photo(file) for file in files[start : start + AT_ONCE]])
        if progress is not None:
            progress(len(faces))
    return np.stack(faces)


def mirrored(images, labels, seed):
    """Each image of a batch mirrored or not."""
    flips = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(flips, tf.reverse(images, [2]), images), labels


def finetuned(faces, people, *, steps=None, seed=0, callbacks=()):
    """Functions from aligned faces to embeddings: of the fine-tuned network as it is kept, and after its last step.

    The last fifth of the people are not trained on: they choose what is kept.
    """
    keras.utils.set_random_seed(seed)
    names = np.unique(people)
    chosen = np.isin(people, names[-(len(names) // 5) :])
    ids = np.unique(people[~chosen], return_inverse=True)[1]
    ready, recipe = pretrained("dlib"), recipes.get("normface_ready")
    recipe = recipe if steps is None else recipe.replace(steps=steps)
    images = np.asarray(ready.preprocessing(faces))
    model = recipe.build_compiled(int(ids.max()) + 1)
    model.backbone.set_weights(ready.network.get_weights())
    with tempfile.TemporaryDirectory() as directory:
        everything = ArrayBatches(images[~chosen], ids, recipe.batch_size, seed, drop_remainder=False)
        optimizer = recipe.replace(learning_rate=recipe.frozen_learning_rate).optimizer()
        options = {"steps": recipe.frozen_steps, "batch_size": recipe.batch_size, "seed": seed}
        fit_heads(model, everything, f"{directory}/heads", optimizer=optimizer, **options)
        looks = {"every_steps": recipe.evaluation_steps, "patience": recipe.patience}
        best = BestWeights(images[chosen], people[chosen], f"{directory}/best", **looks)
        data = ArrayBatches(images[~chosen], ids, recipe.batch_size, seed, augment=mirrored)
        options = {"steps": recipe.steps, "save_every": 10**6, "keep": 1, "verbose": 0, "callbacks": [best, *callbacks]}
        fit_resumable(model, data, None, f"{directory}/checkpoints", **options)
        last = model.backbone.get_weights()
        best.restore(model)
    kept, cut = model.backbone.get_weights(), embedding_model(model.backbone, flip="sum")

    def embedder(weights):
        def embed(x):
            model.backbone.set_weights(weights)
            return cut.predict(np.asarray(ready.preprocessing(x)), verbose=0, batch_size=50)

        return embed

    return embedder(kept), embedder(last)
