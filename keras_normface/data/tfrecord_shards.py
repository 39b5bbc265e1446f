"""Shards read at random, without TensorFlow's sequential reader."""

import os

import numpy as np

from keras_normface.data.exclusion import excluded_names, kept_identities, without_excluded
from keras_normface.data.open_files import OpenFiles
from keras_normface.data.packed_names import PackedNames
from keras_normface.data.reader import Reader, read_only
from keras_normface.data.shard_format import INDEX_DTYPE, INDEX_NAME, file_sha256
from keras_normface.data.sidecar import SidecarError, preprocessing_of, read_sidecar


class TFRecordShards(Reader):
    """Images in a directory of TFRecord shards with `dataset.json` and `index.npy`.

    The index says where each encoded image lies, so that any image is one reading, and the shards remain files
    that `tf.data.TFRecordDataset` reads too. Opening checks sizes and ranges; `verify` checks contents.

    Args:
        path: The directory.
        exclude: Names of identities to leave out, or `CASIA_LFW_OVERLAP`.

    Attributes:
        sidecar: The dictionary of `dataset.json`; see `write_sidecar`. It describes all that is there, also
            what `exclude` leaves out.
        image_size: `(height, width)` in pixels if all images have it, else `None`.
        preprocessing: The `Preprocessing` in `dataset.json`, if there is one.

    Raises:
        SidecarError: A ValueError. If `dataset.json`, `index.npy` and the shards do not fit one another.
        ValueError: If `exclude` holds names that do not occur.
        OSError: If a file cannot be read.

    Example:
    >>> import os, tempfile
    >>> from keras_normface.data.shard_format import write_index, write_shard
    >>> from keras_normface.data.sidecar import write_sidecar
    >>> directory, name = tempfile.mkdtemp(), "shard-00000-of-00001.tfrecord"
    >>> entry = write_shard(os.path.join(directory, name), [(b"an image", 0, "0000045", "0000045/001.jpg")])
    >>> write_index(directory, entry.rows)
    >>> shard = {"name": name, "samples": 1, "bytes": entry.bytes, "sha256": entry.sha256}
    >>> write_sidecar(directory, {
    ...     "format": "keras_normface.shards", "version": 1, "samples": 1, "num_identities": 1,
    ...     "identities": ["0000045"], "image_size": None, "preprocessing": None, "source": {},
    ...     "excluded": [], "skipped": [], "shards": [shard], "created_by": "keras_normface"})
    >>> faces = TFRecordShards(directory)
    >>> faces.sample(0)
    (b'an image', 0)
    >>> list(faces.verify())
    ['shard-00000-of-00001.tfrecord']
    """

    def __init__(self, path, exclude=()):
        self.path = os.fspath(path)
        self.sidecar = read_sidecar(self.path)
        self.image_size = None if self.sidecar["image_size"] is None else tuple(self.sidecar["image_size"])
        self.preprocessing = preprocessing_of(self.sidecar)
        shards = self.sidecar["shards"]
        self._files = OpenFiles([os.path.join(self.path, shard["name"]) for shard in shards])
        self._check_sizes()
        self._open_index()
        _check_rows(self._index, self.sidecar, os.path.join(self.path, INDEX_NAME))
        names = self.sidecar["identities"]
        exclude = excluded_names(exclude)
        self.labels, self._rows = read_only(self._index["label"].astype("int32")), None
        kept = kept_identities(names, exclude)
        if not kept.all():
            stays, self.labels = without_excluded(self.labels, kept)
            self._rows = np.flatnonzero(stays).astype("uint32" if len(stays) < 2**32 else "int64")
        self.identities = PackedNames(name for name, stay in zip(names, kept.tolist(), strict=True) if stay)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_index"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._open_index()

    def name(self, index):
        """Return what a sample is called: the shard, and the byte at which the image begins.

        Args:
            index: Number of the sample.
        """
        index = self.checked_index(index)
        row = self._index[index if self._rows is None else self._rows[index]]
        return f"{self.sidecar['shards'][row['shard']]['name']}#byte {row['offset']}"

    def verify(self):
        """Compare the SHA-256 of each shard with that in `dataset.json`.

        Yields:
            The name of each shard that is as it was written.

        Raises:
            SidecarError: At the first that is not.
        """
        for shard in self.sidecar["shards"]:
            found = file_sha256(os.path.join(self.path, shard["name"]))
            if found != shard["sha256"]:
                raise SidecarError(
                    f"{shard['name']} in {self.path} is damaged: its SHA-256 must be {shard['sha256']}. "
                    f"Received: {found}"
                )
            yield shard["name"]

    def _read(self, indices):
        rows = self._index[indices if self._rows is None else self._rows[indices]]
        read = self._files.read
        places = zip(rows["shard"].tolist(), rows["offset"].tolist(), rows["length"].tolist(), strict=True)
        images = [read(shard, offset, length) for shard, offset, length in places]
        for image, length, index in zip(images, rows["length"].tolist(), indices.tolist(), strict=True):
            if len(image) != length:
                raise SidecarError(f"{self.name(index)} is truncated: {len(image)} bytes of {length}")
        return images

    def _open_index(self):
        path = os.path.join(self.path, INDEX_NAME)
        try:
            self._index = np.lib.format.open_memmap(path, mode="r")
        except OSError:
            raise
        except Exception as error:  # NumPy reads the head as Python's literals, and passes on what comes of it.
            raise SidecarError(f"{path} is no array: {error}") from error
        found = self._index.dtype, self._index.shape
        wanted = INDEX_DTYPE, (self.sidecar["samples"],)
        if found != wanted:
            raise SidecarError(f"{path} must hold an array of {wanted}. Received: {found}")

    def _check_sizes(self):
        for shard in self.sidecar["shards"]:
            path = os.path.join(self.path, shard["name"])
            size = os.path.getsize(path) if os.path.isfile(path) else "no file"
            if size != shard["bytes"]:
                raise SidecarError(f"{path} must have {shard['bytes']} bytes, says dataset.json. Received: {size}")


def _check_rows(rows, sidecar, path):
    """Raise SidecarError if a row points out of its shard, or there is no such shard or identity."""
    sizes = np.array([shard["bytes"] for shard in sidecar["shards"]], "int64")
    known = rows["shard"] < len(sizes)
    _require(known, path, "name shards that are in dataset.json")
    lengths, offsets = rows["length"].astype("int64"), rows["offset"]
    inside = (offsets >= 0) & (lengths > 0) & (offsets <= sizes[rows["shard"]] - lengths)
    _require(inside, path, "point at bytes inside their shards")
    labels = (rows["label"] >= 0) & (rows["label"] < sidecar["num_identities"])
    _require(labels, path, f"have labels from 0 to {sidecar['num_identities'] - 1}")
    counts = np.bincount(rows["shard"], minlength=len(sizes))
    stated = np.array([shard["samples"] for shard in sidecar["shards"]])
    _require(counts == stated, path, "be as many for each shard as dataset.json says", "shard")


def _require(holds, path, expected, what="row"):
    if not holds.all():
        raise SidecarError(f"The rows of {path} must {expected}. Received: {what} {np.argmin(holds)} that does not")
