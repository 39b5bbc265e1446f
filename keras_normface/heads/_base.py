"""What all heads share: class centres, and the losses that need labels and embeddings together."""

from typing import NamedTuple

import keras
from keras import ops

from keras_normface import _labels as label_checks
from keras_normface import sphere
from keras_normface._validation import integer
from keras_normface.heads._cost import head_cost
from keras_normface.layers import UnitSphere


def class_shards(kernel):
    """Number of devices that share the class axis of a (C, D) kernel under the present `keras.distribution`."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    layout = distribution.get_variable_layout(kernel)
    axis = layout.axes[0]
    if axis is None:
        return 1
    mesh = layout.device_mesh
    return int(mesh.shape[list(mesh.axis_names).index(axis)])


class HeadStatistics(NamedTuple):
    """Per-sample tensors of shape `(batch,)`, from one pass over the classes.

    Attributes:
        loss: The loss, float32, or float64 if the head is.
        correct: 1 where the nearest class centre is the sample's own, else 0; float32.
        target_cosine: Cosine between the embedding and its own class centre, of the type of the loss.
    """

    loss: object
    correct: object
    target_cosine: object


class Head(keras.layers.Layer):
    """Base of the heads: a layer that owns the class centres and gives one loss a sample.

    `head(embeddings)` returns cosines, `head.loss(labels, embeddings)` losses, `head.statistics(labels, embeddings)`
    losses with what is worth watching. A label out of range is a `ValueError` when called eagerly and NaN in a
    graph. Labels may be of any integer, float or bool type. Integers stay integers, so there is no limit of 2^24
    classes as for losses.

    Args:
        units: Number of classes. Positive integer.
        kernel_initializer: Initializer of the class centres; `None` means `UnitSphere()`.
        kernel_regularizer: Regularizer of the class centres.
        kernel_constraint: Constraint of the class centres.
        dtype: float32 by default, whatever the global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, dim)`. Weight: `kernel`, `(units, dim)`, class centres as rows.

    Raises:
        ValueError: If `units` is not a positive integer.
    """

    target = "labels"
    """What of a batch's targets a head is given, where these are a dictionary."""

    optimizer_trains_kernel = True
    """Whether the model's optimizer trains the kernel, and not the head itself."""

    needs_of_batch = frozenset()
    """Which of `"place"`, `"sums"` and `"cosines"` of the whole batch a share of it must be told in training."""

    def __init__(
        self,
        units,
        kernel_initializer=None,
        kernel_regularizer=None,
        kernel_constraint=None,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype or "float32", **kwargs)
        self.units = integer("units", units, 1)
        initializer = UnitSphere() if kernel_initializer is None else kernel_initializer
        self.kernel_initializer = keras.initializers.get(initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.input_spec = keras.layers.InputSpec(ndim=2)

    def build(self, input_shape):
        """Create the class centres for embeddings of `input_shape`."""
        if input_shape[-1] is None:
            raise ValueError(
                "The embeddings' dimension must be known when a head is built. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.units, input_shape[-1]),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            trainable=self.optimizer_trains_kernel,
        )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def call(self, embeddings):
        """Return the cosines `(batch, units)`."""
        return sphere.cosines(embeddings, self.kernel)

    def loss(self, labels, embeddings, training=False):
        """Return the loss of each sample, `(batch,)`; see `statistics`."""
        return self.statistics(labels, embeddings, training=training).loss

    def statistics(self, labels, embeddings, training=False, sample=None, batch=None):
        """Losses and what is worth watching, from one pass over the classes.

        Args:
            labels: Class ids `(batch,)` or `(batch, 1)`, or one-hot rows `(batch, units)`.
            embeddings: Tensor `(batch, dim)`, not normalised.
            training: Whether this is a training step: a schedule then moves on.
            sample: The classes to compare with, for heads that take a sample of them; see `SampledMarginSoftmaxHead`.
                `None` means all classes.
            batch: A `WholeBatch`, where labels and embeddings are a share of a batch and the head has
                `needs_of_batch`; `None` means that they are all of it.

        Returns:
            `HeadStatistics`.

        Raises:
            ValueError: For labels that do not fit, when called eagerly, or a `sample` or `batch` that this head does
                not take.
        """
        if batch is not None and not self.needs_of_batch:
            raise ValueError(
                f"`batch` must be None for {type(self).__name__} with this margin, which needs nothing of the whole "
                f"batch. Received: a {type(batch).__name__}"
            )
        options = {} if batch is None else {"batch": batch}
        embeddings = label_checks.as_tensor("embeddings", embeddings, self.compute_dtype)
        if not self.built:
            self.build(tuple(embeddings.shape))
        ids, valid = label_checks.class_ids(labels, (embeddings.shape[0], self.units))
        if sample is None:
            loss, correct, target = self.statistics_of_ids(ids, embeddings, training, **options)
        else:
            loss, correct, target = self.statistics_of_sample(embeddings, training, sample)
        return HeadStatistics(label_checks.nan_where_invalid(loss, valid), correct, target)

    def statistics_of_ids(self, ids, embeddings, training, **options):
        """Return `HeadStatistics`, given valid class ids and embeddings in the head's type; `batch` in the options."""
        cosines = self(embeddings)
        loss = self.loss_of_cosines(ids, cosines, embeddings, training, **options)
        target = ops.squeeze(ops.take_along_axis(cosines, ops.expand_dims(ids, -1), axis=-1), axis=-1)
        correct = ops.cast(target >= ops.max(cosines, axis=-1), "float32")
        return HeadStatistics(loss, correct, target)

    def statistics_of_sample(self, embeddings, training, sample):
        """Return `HeadStatistics` among a sample of the classes; for heads that take one."""
        raise ValueError(
            f"`sample` must be None for {type(self).__name__}, which compares with all classes. "
            f"Received: a {type(sample).__name__}"
        )

    def loss_of_cosines(self, ids, cosines, embeddings, training):
        """Return the loss of each sample, given valid class ids; what a head must implement."""
        raise NotImplementedError(f"{type(self).__name__} must implement `loss_of_cosines`.")

    def mode_for(self, batch_size):
        """Return how a batch is computed: `False`, with plain ops, unless a head knows better."""
        return False

    def cost(self, batch_size, dim=None, mode=None, optimizer_slots=1, jit_compile=True):
        """Estimate the memory and the operations of a training step, on one device.

        The bytes are those of TensorFlow on a CPU, within 15 % where it was measured: the margin softmax with SGD and
        momentum, and with TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1 in the environment; without it TensorFlow keeps what it
        once had, and may hold half as much again. The network, its activations and TensorFlow itself come on top. A
        replica of a `MirroredStrategy` holds all of it, and computes the update outside XLA. Where the classes are
        split over devices (`class_sharding`), it is the share of one of them.

        Args:
            batch_size: Samples of a batch on the device.
            dim: Of the embeddings; `None` means that of the kernel, if the head is built.
            mode: `False` (plain), `"buffer"` or `"stream"`; `None` means what the head does.
            optimizer_slots: Arrays of the kernel's shape that the optimizer keeps: SGD 0, with momentum 1, Adam 2.
            jit_compile: Whether XLA compiles the whole step, forward, backward and update.

        Returns:
            `HeadCost`; `print` it for a table.

        Raises:
            ValueError: If an argument is out of its range, or `dim` is not known.

        Example:
        >>> from keras_normface.heads import MarginSoftmaxHead
        >>> print(MarginSoftmaxHead(1_000_000).cost(batch_size=256, dim=512))
        mode              stream
        kernel          1.91 GiB
        gradients       1.91 GiB
        optimizer       1.91 GiB
        activations     49.5 MiB
        update           0.0 MiB
        program         64.0 MiB
        total           5.83 GiB
        operations    1048.6 GFLOP a step
        """
        if dim is None and not self.built:
            raise ValueError("`dim` must be given before the head is built. Received: dim=None")
        dim = self.kernel.shape[-1] if dim is None else dim
        mode = self.mode_for(batch_size) if mode is None else mode
        classes = self.units // (class_shards(self.kernel) if self.built else 1)
        itemsize = 8 if self.variable_dtype == "float64" else 4
        options = {"optimizer_slots": optimizer_slots, "jit_compile": jit_compile, "itemsize": itemsize}
        return head_cost(classes, dim, batch_size, mode, **options)

    def compute_output_shape(self, input_shape):
        """Return `(batch, units)`."""
        return (input_shape[0], self.units)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
        }
