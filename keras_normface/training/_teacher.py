"""A teacher's embeddings of the training images: made once, kept in chunks, so that no step computes the teacher."""

import numpy as np

from keras_normface import _validation
from keras_normface.inference import embed_images

CHUNK_IMAGES = 1024


def reader_embeddings(embedder, reader, *, cache=None, center=False, progress=None):
    """Embed every image of a reader by another model: image and mirror image together, at unit length.

    The sum of both is the same for an image and its mirror image, so mirroring in training does not change it.

    Args:
        embedder: An `inference.Embedder` of aligned faces (`faces="aligned"`).
        reader: A `data.Reader`. If it records a template, it must be that of the embedder.
        cache: `None`, or a directory in which chunks of 1024 images are kept, each under the model's fingerprint and
            the names and contents of its images, which are read for that each time. An interrupted run resumes with
            the next chunk.
        center: Whether the mean of all rows is taken from each before it is brought to unit length. For networks whose
            embeddings lie in a narrow cone, as dlib's, nearly all of a cosine is then about the person; but the pupil's
            embeddings can no longer be compared with the model's own.
        progress: `None`, or a function that is called with the number of images done and that of all.

    Returns:
        float32 array `(images, dim)`, in the order of the reader; what `ImageBatches(teacher=...)` takes.

    Raises:
        ValueError: If the embedder takes photos, the templates differ, or an image cannot be decoded or is of another
            size.
        OSError: If a file cannot be read or written.

    Example:
    >>> import keras, tempfile
    >>> import tensorflow as tf
    >>> from keras_normface.data import Reader
    >>> from keras_normface.inference import Embedder, export_embedding_model
    >>> from keras_normface.preprocessing import Preprocessing
    >>> class Two(Reader):
    ...     path, identities, labels = "memory", ["Ada", "Grace"], np.array([0, 1], "int32")
    ...     def name(self, index):
    ...         return f"memory#{index}"
    ...     def _read(self, indices):
    ...         return [tf.io.encode_png(np.full((6, 5, 3), 90 * i + 9, "uint8")).numpy() for i in indices]
    >>> net = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(net, directory + "/model", preprocessing=Preprocessing(size=(6, 5)))
    ...     reader_embeddings(Embedder(directory + "/model", faces="aligned"), Two()).shape
    (2, 4)
    """
    if embedder.faces != "aligned":
        raise ValueError("`embedder` must take aligned faces. Received: an Embedder with faces='photo'")
    _validation.boolean("center", center)
    ours, theirs = reader.template, embedder.preprocessing.template
    if None not in (ours, theirs) and ours != theirs:
        raise ValueError(
            f"`reader` must hold faces aligned by the template of {embedder.name}, {theirs}. Received: {ours}; align "
            f"the photos with template={theirs!r}"
        )
    mirror, rows = "none" if embedder.flip == "sum" else "both", []
    for start in range(0, len(reader), CHUNK_IMAGES):
        places = np.arange(start, min(start + CHUNK_IMAGES, len(reader)))
        # Lists may hold an image twice; under its number it has a name of its own.
        images = [
            (f"{place}: {reader.name(place)}", encoded)
            for place, encoded in zip(places.tolist(), reader.encoded(places), strict=True)
        ]
        found = embed_images(embedder, images, mirror=mirror, cache=cache)
        rows.append(found.front if found.mirrored is None else found.front + found.mirrored)
        if progress is not None:
            progress(int(places[-1]) + 1, len(reader))
    rows = np.concatenate(rows)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if center:
        rows -= rows.mean(axis=0, dtype="float64").astype("float32")
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
