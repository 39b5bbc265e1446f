"""Embeddings of many images: made once by an exported model, cached by its fingerprint, stored under names."""

from keras_normface.embedding_store.embed_images import embed_blocks, embed_images
from keras_normface.embedding_store.fingerprint import model_fingerprint
from keras_normface.embedding_store.image_embedder import ImageEmbedder
from keras_normface.embedding_store.stored import load_embeddings, named_rows, save_embeddings

__all__ = [
    "ImageEmbedder",
    "embed_blocks",
    "embed_images",
    "load_embeddings",
    "model_fingerprint",
    "named_rows",
    "save_embeddings",
]
