"""From a trained model to an exported one, and from images to stored embeddings.

The *exported model* maps raw RGB pixels to unit embeddings, without this package: scaling, channel order and the fusion
with the flipped image lie inside it. Its card records them, together with licence, source, figures and the threshold
that was calibrated for it. Embeddings are stored with the names of their images.

The five that matter: `export_embedding_model`, `embedding_model` (the same as a Keras model, in memory),
`Embedder` (a model that takes photos or aligned faces, as encoded images), `embed_images` (many images, with a cache
by which an interrupted run resumes), and `save_embeddings` with its counterpart `load_embeddings`. `read_card` gives
the `ModelCard` of an exported model, `write_card` replaces it: say with a threshold of `calibrate_threshold`.

Order to read: `_export` (what is cut out of the trained model), `_card` (what is recorded of it), `_embedder` (photos,
decoding, batches) with `_fingerprint` over `_runtimes` (what computes), `_store` (files of embeddings, and the
cache). Importing this imports neither Keras nor TensorFlow: what needs them is imported when it is first used.
"""

import importlib

from keras_normface._threshold import CalibratedThreshold
from keras_normface.inference._card import CardFigure, ModelCard, read_card, write_card
from keras_normface.inference._embedder import Embedder
from keras_normface.inference._fingerprint import model_fingerprint
from keras_normface.inference._store import (
    check_none_missing,
    embed_blocks,
    embed_images,
    load_embeddings,
    named_rows,
    save_embeddings,
)

__all__ = [
    "CalibratedThreshold",
    "CardFigure",
    "Embedder",
    "ModelCard",
    "check_none_missing",
    "embed_blocks",
    "embed_images",
    "embedding_model",
    "export_embedding_model",
    "load_embeddings",
    "model_fingerprint",
    "named_rows",
    "read_card",
    "save_embeddings",
    "write_card",
]


def __getattr__(name):
    if name in ("embedding_model", "export_embedding_model"):
        return getattr(importlib.import_module(f"{__name__}._export"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
