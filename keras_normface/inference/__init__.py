"""From a trained model to the exported one, and from images to stored embeddings."""

from keras_normface._threshold import CalibratedThreshold
from keras_normface.inference._embedder import ImageEmbedder, model_fingerprint
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
    "ImageEmbedder",
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
