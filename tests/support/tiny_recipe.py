"""Recipes of which everything is kept but the size: a net of 4 layers on images of 16×16."""

import keras
import numpy as np

from keras_normface import recipes

CLASSES, BATCH, STEPS = 5, 4, 3


def shrunk(name, **changes):
    """The recipe, small enough for a test."""
    small = {
        "backbone": "SphereFaceNet",
        "backbone_options": {"depth": 4},
        "embedding_dim": 8,
        "preprocessing.size": [16, 16],
        "batch_size": BATCH,
    }
    return recipes.get(name).replace(**{**small, **changes})


def tiny_network(input_shape, embedding_dim, dropout, depth, name=None):
    """Stands for SphereFaceNet, which has tests of its own: the same kinds of weights under the same names."""
    image = keras.Input(input_shape)
    tensor = keras.layers.Conv2D(4, 3, 4, name="stage1_conv")(image)
    tensor = keras.layers.PReLU(shared_axes=[1, 2], name="stage1_prelu")(tensor)
    tensor = keras.layers.Dense(embedding_dim, name="embedding")(keras.layers.Flatten()(tensor))
    return keras.Model(image, tensor, name=name)


def images(recipe, count=BATCH * STEPS, seed=0):
    """Preprocessed noise and labels, with a teacher's rows for a recipe that needs them."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % CLASSES
    x = rng.normal(size=(count, *recipe.preprocessing.output_shape)).astype("float32")
    if not any(head["class_name"] == "DistillationHead" for head in recipe.heads):
        return x, labels
    return x, {"labels": labels, "teacher": rng.normal(size=(count, recipe.embedding_dim)).astype("float32")}


def trained(recipe, **options):
    """A model after three steps, eagerly unless told otherwise, and its losses."""
    keras.utils.set_random_seed(0)
    model = recipe.build_compiled(CLASSES, **{"run_eagerly": True, "jit_compile": False, **options})
    x, y = images(recipe)
    steps = [slice(step * BATCH, (step + 1) * BATCH) for step in range(STEPS)]
    rows = [keras.tree.map_structure(lambda part, step=step: part[step], y) for step in steps]
    return model, [float(model.train_on_batch(x[step], row)[0]) for step, row in zip(steps, rows, strict=True)]
