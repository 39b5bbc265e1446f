"""Many images to embeddings, each once, with what is in the cache left undone."""

from typing import NamedTuple

import numpy as np

from keras_normface.embedding_store.chunk_cache import ChunkCache, identity_of
from keras_normface.embedding_store.image_embedder import ImageEmbedder

CHUNK_IMAGES = 1024
MIRRORS = ("none", "both")


class Embedded(NamedTuple):
    """Embeddings of images, and of their mirror images if they were asked for.

    Attributes:
        front: Float32 array `(N, dim)`.
        mirrored: The same of the images mirrored left to right, or `None`.
    """

    front: np.ndarray
    mirrored: np.ndarray | None


def embed_images(model, images, *, mirror="none", batch_size=64, resize=False, cache=None, progress=None):
    """Embed images with an exported model.

    Args:
        model: Directory of a SavedModel of `export_embedding_model`, or an `ImageEmbedder`.
        images: List of pairs of a name and the image: its bytes, or the path of its file.
        mirror: "none", or "both" for the embeddings of the mirror images too.
        batch_size: Images in one step of the model; unused if `model` is an `ImageEmbedder`.
        resize: Whether images of another size are resized; unused if `model` is an `ImageEmbedder`.
        cache: `None`, or a directory. Embeddings are kept there in chunks of 1024 images, under the model's
            fingerprint and each image's name and bytes, or name, path, size and time of change. A run that was cut
            goes on with the next chunk; a damaged chunk is made anew, with a warning.
        progress: `None`, or a function that is called with the number of images done and that of all; mirror images
            count.

    Returns:
        An `Embedded`, with a row for each image.

    Raises:
        ValueError: If there are no images or a name occurs twice, an image cannot be decoded or is of another size,
            or the mirror images are asked for and the model adds them by itself; or from `ImageEmbedder`.
        OSError: If a file cannot be read or written.

    Example:
    >>> import keras, tempfile
    >>> import tensorflow as tf
    >>> from keras_normface.export import export_embedding_model
    >>> from keras_normface.preprocessing import Preprocessing
    >>> net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> picture = tf.io.encode_png(np.full((6, 5, 3), 9, "uint8")).numpy()
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(net, directory + "/model", preprocessing=Preprocessing(size=(6, 5)))
    ...     embed_images(directory + "/model", [("a", picture), ("b", picture)], cache=directory).front.shape
    (2, 4)
    """
    blocks = list(
        embed_blocks(model, images, mirror=mirror, batch_size=batch_size, resize=resize, cache=cache, progress=progress)
    )
    mirrored = np.concatenate([block.mirrored for block in blocks]) if mirror == "both" else None
    return Embedded(np.concatenate([block.front for block in blocks]), mirrored)


def embed_blocks(model, images, *, mirror="none", batch_size=64, resize=False, cache=None, progress=None):
    """Embed images as `embed_images` does, but give a chunk at a time, for more than fit into memory.

    Args:
        model: See `embed_images`.
        images: See `embed_images`.
        mirror: See `embed_images`.
        batch_size: See `embed_images`.
        resize: See `embed_images`.
        cache: See `embed_images`.
        progress: See `embed_images`.

    Yields:
        `Embedded` of up to 1024 images, in their order.

    Raises:
        ValueError: See `embed_images`.
        OSError: See `embed_images`.
    """
    images = list(images)
    if mirror not in MIRRORS:
        raise ValueError(f"`mirror` must be one of {MIRRORS}. Received: mirror={mirror!r}")
    if not images or len({name for name, _ in images}) != len(images):
        raise ValueError(f"`images` must hold at least one image, and each name once. Received: {len(images)} images")
    embedder = model
    if not isinstance(model, ImageEmbedder):
        embedder = ImageEmbedder(model, batch_size=batch_size, resize=resize)
    if mirror == "both" and embedder.fuses_mirror():
        raise ValueError(
            f"`mirror` must be 'none' for {embedder.path}, which adds the mirror image's embedding by itself: "
            "it embeds an image and its mirror image alike. Received: mirror='both'"
        )
    cache = None if cache is None else ChunkCache(cache)
    sides = (False,) if mirror == "none" else (False, True)
    done, total = 0, len(sides) * len(images)

    def report(count):
        if progress is not None:
            progress(done + count, total)

    for start in range(0, len(images), CHUNK_IMAGES):
        chunk, found = images[start : start + CHUNK_IMAGES], [None, None]
        for side in sides:
            found[side] = _chunk(embedder, chunk, side, cache, report)
            report(len(chunk))
            done += len(chunk)
        yield Embedded(*found)


def _chunk(embedder, chunk, mirror, cache, report):
    names, images = zip(*chunk, strict=True)
    if cache is None:
        return embedder.embed(images, names, mirror=mirror, progress=report)
    identities = [identity_of(name, image) for name, image in chunk]
    key = cache.key(embedder.fingerprint, identities, {"mirror": mirror, "resize": embedder.resize})
    embeddings = cache.read(key, len(chunk))
    if embeddings is None:
        embeddings = embedder.embed(images, names, mirror=mirror, progress=report)
        cache.write(key, embeddings)
    return embeddings
