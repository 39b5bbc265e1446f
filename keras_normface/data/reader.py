"""What all readers of face images have in common: numbered samples, each some encoded bytes and a label."""

import abc
import operator

import numpy as np

CHUNK = 256


class Reader(abc.ABC):
    """Encoded images with labels, addressed by number. The base of `IdentityFolder`, `ImageList` and the others.

    A subclass sets the attributes in its constructor and defines `name` and `_read`. Readers can be used by
    several threads at once, after a fork, and after pickling.

    Attributes:
        path: The path it was opened with.
        labels: Read-only int32 array `(samples,)`, from 0 to `num_identities - 1`.
        identities: Sequence of `num_identities` names, by label.
        image_size: `(height, width)` if the data say it, else `None`.
        preprocessing: The `Preprocessing` that the data say they were made for, else `None`.

    Example:
    >>> import numpy as np
    >>> class TwoImages(Reader):
    ...     path, identities, labels = "memory", ["Ada", "Grace"], np.array([0, 1], "int32")
    ...     def name(self, index):
    ...         return f"memory#{index}"
    ...     def _read(self, indices):
    ...         return [[b"first", b"second"][index] for index in indices]
    >>> reader = TwoImages()
    >>> len(reader), reader.num_identities, reader.sample(1)
    (2, 2, (b'second', 1))
    >>> [(encoded.numpy(), label.numpy().item()) for encoded, label in reader.source([1, 0])]
    [(b'second', 1), (b'first', 0)]
    """

    path = None
    labels = None
    identities = ()
    image_size = None
    preprocessing = None

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        return f"<{type(self).__name__} {self.path}: {len(self)} images of {self.num_identities} identities>"

    def __setstate__(self, state):
        self.__dict__.update(state)
        # Pickling makes arrays writeable.
        self.labels.flags.writeable = False

    @property
    def num_identities(self):
        """Number of identities."""
        return len(self.identities)

    @property
    def nbytes(self):
        """Bytes of memory that the index takes; arrays that stay in their files do not count."""
        own = (value for value in vars(self).values() if not isinstance(value, np.memmap))
        return sum(getattr(value, "nbytes", 0) for value in own)

    @abc.abstractmethod
    def name(self, index):
        """Return what a sample is called in messages, such as its path below that of the reader.

        Args:
            index: Number of the sample.
        """

    @abc.abstractmethod
    def _read(self, indices):
        """Return the encoded images of an int64 array of valid indices, a list of bytes."""

    def sample(self, index):
        """Read one sample.

        Args:
            index: Its number, from 0 to `len(reader) - 1`.

        Returns:
            Pair of the encoded image, bytes, and its label, an int.

        Raises:
            IndexError: If there is no such sample.
            ValueError: If what is stored there is garbled.
        """
        index = self.checked_index(index)
        (encoded,) = self._read(np.array([index]))
        return encoded, int(self.labels[index])

    def encoded(self, indices):
        """Read many samples at once.

        Args:
            indices: Integers `(n,)`, in any order, repeated or not.

        Returns:
            List of n encoded images, bytes.

        Raises:
            IndexError: If there is no such sample.
            ValueError: If what is stored there is garbled.
        """
        return self._read(self.checked_indices(indices))

    def source(self, indices=None):
        """Return samples as a dataset.

        Args:
            indices: Integers `(n,)`: which samples, in this order. `None`: all, in theirs.

        Returns:
            A `tf.data.Dataset` of pairs of an encoded image, a scalar string, and its label, int32.

        Raises:
            IndexError: If there is no such sample.
        """
        import tensorflow as tf

        if indices is None:
            number, numbers = len(self), tf.data.Dataset.range(len(self))
        else:
            indices = self.checked_indices(indices)
            number, numbers = len(indices), tf.data.Dataset.from_tensor_slices(indices)
        chunks = numbers.batch(CHUNK).map(self._read_chunk, num_parallel_calls=tf.data.AUTOTUNE)
        return chunks.unbatch().apply(tf.data.experimental.assert_cardinality(number))

    def checked_index(self, index):
        """Return `index` as an int, or raise IndexError if there is no such sample."""
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"`index` must be from 0 to {len(self) - 1}, for {len(self)} samples. Received: {index}")
        return number

    def checked_indices(self, indices):
        """Return `indices` as an int64 array `(n,)`, or raise IndexError if there is no such sample."""
        array = np.asarray(indices)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise IndexError(f"`indices` must be integers (n,). Received: shape {array.shape}, dtype {array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() < len(self)):
            wrong = array[(array < 0) | (array >= len(self))][0]
            raise IndexError(f"`indices` must be from 0 to {len(self) - 1}, for {len(self)} samples. Received: {wrong}")
        return array.astype("int64", copy=False)

    def _read_chunk(self, indices):
        import tensorflow as tf

        encoded, labels = tf.numpy_function(self._chunk, [indices], [tf.string, tf.int32], stateful=False)
        return tf.ensure_shape(encoded, [None]), tf.ensure_shape(labels, [None])

    def _chunk(self, indices):
        return np.array(self._read(indices), dtype=object), self.labels[indices]


def read_only(array):
    """Return the array, which can no longer be written to.

    Args:
        array: NumPy array that nobody else holds.

    Example:
    >>> import numpy as np
    >>> read_only(np.zeros(2)).flags.writeable
    False
    """
    array.flags.writeable = False
    return array
