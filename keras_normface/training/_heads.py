"""The heads alone: class centres at the classes' means, and their training on a network that stays as it is."""

import keras
import numpy as np

from keras_normface import _validation
from keras_normface.data import ArrayBatches
from keras_normface.heads import FixedCentersHead, Head
from keras_normface.models import EmbeddingModel
from keras_normface.training._resume import fit_resumable

NARROW = 1e-6  # a mean of unit vectors that is shorter has no direction


def class_means(embeddings, labels, num_classes):
    """The mean embedding of each class, at unit length: where class centres of a trained network can begin.

    Args:
        embeddings: Numbers `(N, dim)`; each row counts at unit length.
        labels: Integers `(N,)` from 0 to `num_classes - 1`.
        num_classes: Number of classes, each of which must have an embedding.

    Returns:
        float32 array `(num_classes, dim)` of unit rows.

    Raises:
        ValueError: If the lengths differ, a label is out of range, a class has no embedding, a row is zero or not
            finite, or the embeddings of a class cancel each other.

    Example:
    >>> class_means([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], [1, 0, 0], 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    rows, labels = np.asarray(embeddings, "float64"), np.asarray(labels)
    num_classes = _validation.integer("num_classes", num_classes, 1)
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must be integers (N,) for embeddings (N, dim). "
            f"Received: embeddings of shape {rows.shape}, labels {labels.dtype} of shape {labels.shape}"
        )
    labels = labels.astype("int64")
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"`labels` must be from 0 to {num_classes - 1}. Received: from {labels.min()} to {labels.max()}"
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if missing.size:
        raise ValueError(f"`labels` must hold each of {num_classes} classes. Received: none of class {missing[0]}")
    norms = np.linalg.norm(rows, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError(
            "`embeddings` must be finite and nonzero in every row. Received: "
            f"embeddings[{np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0]}] is not"
        )
    sums = np.zeros((num_classes, rows.shape[1]))
    np.add.at(sums, labels, rows / norms[:, None])
    means = sums / np.bincount(labels, minlength=num_classes)[:, None]
    lengths = np.linalg.norm(means, axis=1)
    if lengths.min() < NARROW:
        raise ValueError(
            f"`embeddings` must have a mean in every class. Received: those of class {lengths.argmin()} cancel"
        )
    return (means / lengths[:, None]).astype("float32")


def fit_heads(
    model,
    data,
    directory,
    *,
    optimizer,
    steps,
    batch_size,
    initial_centers="class_means",
    seed=0,
    progress=None,
):
    """Train the heads of a model while its network stays as it is: the first steps of fine-tuning.

    The network embeds each image and its mirror image once, as in inference; the heads are then trained on these
    embeddings, which costs next to nothing a step. Without that, the first gradients of centres that know nothing
    would change a network that knows a lot.

    Args:
        model: An `EmbeddingModel` that is built. Its network is not changed.
        data: Batches of preprocessed images and class ids, see `data.ResumableData`, of which epoch 0 holds every image
            once: without augmentation and with `drop_remainder=False`.
        directory: For the checkpoints of these steps; see `fit_resumable`, by which the steps are resumed.
        optimizer: A Keras optimizer of its own, for these steps alone, made in the scope of the model's strategy.
        steps: How many; 0 for none.
        batch_size: Embeddings in a step; at most twice the number of images.
        initial_centers: "class_means": every head's class centres begin at the mean embedding of each class, but
            for a `FixedCentersHead`, whose are another model's. "random": they begin where they are.
        seed: Of the order.
        progress: `None`, or a function that is called with the number of batches embedded and that of all.

    Returns:
        A `keras.callbacks.History`, without an epoch if `steps` is 0.

    Raises:
        ValueError: If an argument does not fit, or a class has no image.

    Source: NormFace (arXiv 1704.06369), §5.1, fine-tunes with new class centres; these first steps are ours.

    Example:
    >>> import tempfile
    >>> from keras_normface.heads import MarginSoftmaxHead
    >>> net = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(net, MarginSoftmaxHead(3))
    >>> images = np.random.default_rng(0).normal(size=(9, 2, 2, 3)).astype("float32")
    >>> data = ArrayBatches(images, np.arange(9) % 3, batch_size=4, seed=0, drop_remainder=False)
    >>> history = fit_heads(
    ...     model, data, tempfile.mkdtemp(), optimizer=keras.optimizers.SGD(0.1), steps=8, batch_size=6
    ... )
    >>> history.history["loss"][-1] < history.history["loss"][0]
    True
    """
    _validation.choice("initial_centers", initial_centers, ("class_means", "random"))
    _validation.integer("steps", steps, 0)
    if not isinstance(model, EmbeddingModel) or not model.built:
        raise ValueError(f"`model` must be an EmbeddingModel that is built. {_validation.received('model', model)}")
    embeddings, labels = _embedded(model.backbone, data, progress)
    if initial_centers == "class_means":
        for head in model.heads:
            if isinstance(head, Head) and not isinstance(head, FixedCentersHead):
                head.kernel.assign(class_means(embeddings, labels, head.units))
    if not steps:
        return _no_epoch()
    with model.distribute_strategy.scope():
        network = keras.Sequential([keras.Input(embeddings.shape[1:]), keras.layers.Identity()])
        alone = EmbeddingModel(network, model.heads, head_weights=model.head_weights, name="heads")
        alone.compile(optimizer)
    batches = ArrayBatches(embeddings, labels, batch_size, seed)
    return fit_resumable(alone, batches, None, directory, steps=steps, verbose=0)


def _no_epoch():
    history = keras.callbacks.History()
    history.on_train_begin()
    return history


def _embedded(backbone, data, progress):
    """Batches of epoch 0 → (2N, dim) float32 embeddings of images and their mirror images, (2N,) int64 labels."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def both(images):
        sides = (backbone(images, training=False), backbone(tf.reverse(images, [2]), training=False))
        return [tf.cast(side, "float32") for side in sides]

    batches, rows, labels = data(0, 0), [], []
    total = int(batches.cardinality())
    for done, (images, ids) in enumerate(batches, start=1):
        rows += [side.numpy() for side in both(images)]
        labels += 2 * [np.asarray(ids, "int64").reshape(-1)]
        if progress is not None:
            progress(done, total)
    return np.concatenate(rows), np.concatenate(labels)
