"""Millions of names in one block of bytes."""

import abc
import json
import operator
from array import array
from collections.abc import Sequence
from importlib import resources

import numpy as np


class PackedNames(Sequence):
    """Strings in one block of bytes: a sequence that costs each name its bytes and four or eight more."""

    def __init__(self, names):
        blob, ends = bytearray(), [np.zeros(1, "uint64")]
        part = []
        for name in names:
            blob += name.encode("utf-8", "surrogatepass")
            part.append(len(blob))
            if len(part) == 65536:
                ends.append(np.array(part, "uint64"))
                part = []
        self._blob = bytes(blob)
        ends.append(np.array(part, "uint64"))
        self._ends = np.concatenate(ends).astype("uint32" if len(blob) < 2**32 else "uint64")

    @property
    def nbytes(self):
        """Bytes of memory the names take."""
        return len(self._blob) + self._ends.nbytes

    def __len__(self):
        return len(self._ends) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} names. Received: index={index}")
        return self._blob[int(self._ends[number]) : int(self._ends[number + 1])].decode("utf-8", "surrogatepass")

    def __eq__(self, other):
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} names: {shown}{', ...' if len(self) > 3 else ''}>"


class PackedPaths(Sequence):
    """Paths with `/`, of which each directory is kept once: a path costs the bytes of its file name and eight more."""

    def __init__(self, paths):
        numbers, numbers_of = {}, array("i")
        self._names = PackedNames(_file_names(paths, numbers, numbers_of))
        self._directories = PackedNames(numbers)
        self._directory_of = np.array(numbers_of, "int32")

    @property
    def nbytes(self):
        """Bytes of memory the paths take."""
        return self._names.nbytes + self._directories.nbytes + self._directory_of.nbytes

    def __len__(self):
        return len(self._names)

    def __getitem__(self, index):
        return self._directories[self._directory_of[index]] + self._names[index]


def _file_names(paths, numbers, numbers_of):
    for path in paths:
        cut = path.rfind("/") + 1
        numbers_of.append(numbers.setdefault(path[:cut], len(numbers)))
        yield path[cut:]


CHUNK = 256


class Reader(abc.ABC):
    """Encoded images with labels, addressed by number. The base of `IdentityFolder`, `ImageList` and the others.

    A subclass sets the attributes in its constructor and defines `name` and `_read`. Readers can be used by
    several threads at once, after a fork, and after pickling.

    Attributes:
        path: The path it was opened with.
        labels: Read-only int32 array `(samples,)`, from 0 to `num_identities - 1`.
        identities: Sequence of `num_identities` names, by label.
        image_size: `(height, width)` if the data record it, else `None`.
        ignored: Paths of files beside the images that the reader does not take.
        empty_identities: Names of identities that have no image.
        template: Name of the landmark template by which the faces were aligned, if the data record it, else `None`.

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
    template = None
    ignored = ()
    empty_identities = ()

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
            ValueError: If the stored sample is corrupt.
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
            ValueError: If the stored sample is corrupt.
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
    """Return the array, which can no longer be written to."""
    array.flags.writeable = False
    return array


def _shipped_names():
    text = resources.files("keras_normface.data").joinpath("casia_lfw_overlap.json").read_text("utf-8")
    return frozenset(json.loads(text)["names"])


CASIA_LFW_OVERLAP = _shipped_names()


def is_overlap(exclude):
    """Whether `exclude` is `CASIA_LFW_OVERLAP`, all of it and nothing else."""
    return frozenset(exclude) == CASIA_LFW_OVERLAP


def excluded_names(exclude):
    """Return the argument `exclude` of a reader as a set of names."""
    if isinstance(exclude, (str, bytes)):
        raise ValueError(f"`exclude` must be several names of identities, not one string. Received: {exclude!r}")
    names = frozenset(exclude)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"`exclude` must hold names of identities, strings. Received: {wrong[0]!r}")
    return names


def kept_identities(identities, exclude):
    """Tell which identities stay."""
    names = excluded_names(exclude)
    if not names:
        return np.ones(len(identities), bool)
    kept = np.fromiter((name not in names for name in identities), bool, len(identities))
    if len(kept) - kept.sum() < len(names) and names != CASIA_LFW_OVERLAP:
        unknown = sorted(names.difference(identities))
        raise ValueError(
            f"`exclude` must hold names of identities that occur. Received: {unknown[:5]}"
            f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}, which do not"
        )
    if not kept.any():
        raise ValueError(f"`exclude` must leave an identity. Received: {len(names)} names, all there are")
    return kept


def without_excluded(labels, kept):
    """Make labels dense after identities are excluded."""
    stays = kept[labels]
    renumbered = (np.cumsum(kept) - 1).astype("int32")
    return stays, read_only(renumbered[labels[stays]])
