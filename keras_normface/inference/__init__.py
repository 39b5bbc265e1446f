"""From a trained model to an exported one, and from images to stored embeddings.

The *exported model* is a SavedModel that maps raw RGB pixels to unit embeddings, without this package: scaling,
channel order and the fusion with the flipped image lie inside it, and are recorded beside the graph together with the
threshold that was calibrated for it. Embeddings are stored with the names of their images.

The five that matter: `export_embedding_model`, `embedding_model` (the same as a Keras model, in memory),
`Embedder` (a model that takes photos or aligned faces, as encoded images), `embed_images` (many images, with a cache
by which an interrupted run resumes), and `save_embeddings` with its counterpart `load_embeddings`. A threshold from
`metrics.calibrate_threshold` is stored with `store_threshold` and read with `read_threshold`.

Order to read: `_export` (what is cut out of the trained model, and what is recorded), `_embedder` (photos, decoding,
batches, the model's fingerprint) over `_runtimes` (what computes), `_store` (files of embeddings, and the cache).
"""

from keras_normface._threshold import CalibratedThreshold
from keras_normface.inference._embedder import Embedder, model_fingerprint
from keras_normface.inference._export import (
    embedding_model,
    export_embedding_model,
    read_flip,
    read_preprocessing,
    read_threshold,
    store_threshold,
)
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
    "Embedder",
    "check_none_missing",
    "embed_blocks",
    "embed_images",
    "embedding_model",
    "export_embedding_model",
    "load_embeddings",
    "model_fingerprint",
    "named_rows",
    "read_flip",
    "read_preprocessing",
    "read_threshold",
    "save_embeddings",
    "store_threshold",
]
