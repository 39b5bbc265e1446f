"""The reader of a directory of shards."""

import os

import numpy as np

from keras_normface._arrays import map_npy
from keras_normface._io import OpenFiles
from keras_normface.data._reader import (
    PackedNames,
    Reader,
    excluded_names,
    kept_identities,
    read_only,
    without_excluded,
)
from keras_normface.data.shards import INDEX_DTYPE, INDEX_NAME, MetadataError, file_sha256, read_metadata


class TFRecordShards(Reader):
    """Images in a directory of TFRecord shards with `dataset.json` and `index.npy`.

    The index says where each encoded image lies, so that any image is one reading, and the shards remain files
    that `tf.data.TFRecordDataset` reads too. Opening checks sizes and ranges; `verify` checks contents.

    Args:
        path: The directory.
        exclude: Names of identities to exclude, or `CASIA_LFW_OVERLAP`.

    Attributes:
        metadata: The dictionary of `dataset.json`; see `write_metadata`. It describes all that is there, also
            what `exclude` excludes.
        image_size: `(height, width)` in pixels if all images have it, else `None`.
        template: Name of the landmark template by which the faces were aligned, if `dataset.json` records it.

    Raises:
        MetadataError: A ValueError. If `dataset.json`, `index.npy` and the shards do not fit one another.
        ValueError: If `exclude` holds names that do not occur, or a file is a link that leads out of the directory.
        OSError: If a file cannot be read.

    Example:
    >>> import os, tempfile
    >>> from keras_normface.data.shards import write_index, write_metadata, write_shard
    >>> directory, name = tempfile.mkdtemp(), "shard-00000-of-00001.tfrecord"
    >>> entry = write_shard(os.path.join(directory, name), [(b"an image", 0, "0000045", "0000045/001.jpg")])
    >>> write_index(directory, entry.rows)
    >>> shard = {"name": name, "samples": 1, "bytes": entry.bytes, "sha256": entry.sha256}
    >>> write_metadata(directory, {
    ...     "format": "keras_normface.shards", "version": 2, "samples": 1, "num_identities": 1,
    ...     "identities": ["0000045"], "image_size": None, "template": None, "source": {},
    ...     "excluded": [], "skipped": [], "shards": [shard], "created_by": "keras_normface"})
    >>> faces = TFRecordShards(directory)
    >>> faces.sample(0)
    (b'an image', 0)
    >>> list(faces.verify())
    ['shard-00000-of-00001.tfrecord']
    """

    def __init__(self, path, exclude=()):
        self.path = os.fspath(path)
        self.metadata = read_metadata(self.path)
        self.image_size = None if self.metadata["image_size"] is None else tuple(self.metadata["image_size"])
        self.template = self.metadata["template"]
        shards = self.metadata["shards"]
        self._files = OpenFiles(self.path, [shard["name"] for shard in shards])
        self._check_sizes()
        self._open_index()
        _check_rows(self._index, self.metadata, os.path.join(self.path, INDEX_NAME))
        names = self.metadata["identities"]
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
        return f"{self.metadata['shards'][row['shard']]['name']}#byte {row['offset']}"

    def verify(self):
        """Compare the SHA-256 of each shard with that in `dataset.json`.

        Yields:
            The name of each shard that is as it was written.

        Raises:
            MetadataError: At the first that is not.
        """
        for shard in self.metadata["shards"]:
            found = file_sha256(self._files.files.checked_path(shard["name"]))
            if found != shard["sha256"]:
                raise MetadataError(
                    f"{shard['name']} in {self.path} is corrupt: its SHA-256 must be {shard['sha256']}. "
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
                raise MetadataError(f"{self.name(index)} is truncated: {len(image)} bytes of {length}")
        return images

    def _open_index(self):
        path = os.path.join(self.path, INDEX_NAME)
        try:
            self._index = map_npy(self._files.files.checked_file(INDEX_NAME))
        except OSError:
            raise
        except Exception as error:  # NumPy reads the head as Python's literals, and passes on what comes of it.
            raise MetadataError(f"{path} is not a valid array: {' '.join(str(error).split())[:200]}") from error
        found = self._index.dtype, self._index.shape
        wanted = INDEX_DTYPE, (self.metadata["samples"],)
        if found != wanted:
            raise MetadataError(f"{path} must hold an array of {wanted}. Received: {found}")

    def _check_sizes(self):
        for shard in self.metadata["shards"]:
            path = self._files.files.checked_path(shard["name"])
            size = os.path.getsize(path) if os.path.isfile(path) else "no file"
            if size != shard["bytes"]:
                raise MetadataError(f"{path} must have {shard['bytes']} bytes, says dataset.json. Received: {size}")


def _check_rows(rows, metadata, path):
    """Raise MetadataError if a row points out of its shard, or there is no such shard or identity."""
    sizes = np.array([shard["bytes"] for shard in metadata["shards"]], "int64")
    known = rows["shard"] < len(sizes)
    _require_readable(known, path, "name shards that are in dataset.json")
    lengths, offsets = rows["length"].astype("int64"), rows["offset"]
    inside = (offsets >= 0) & (lengths > 0) & (offsets <= sizes[rows["shard"]] - lengths)
    _require_readable(inside, path, "point at bytes inside their shards")
    labels = (rows["label"] >= 0) & (rows["label"] < metadata["num_identities"])
    _require_readable(labels, path, f"have labels from 0 to {metadata['num_identities'] - 1}")
    counts = np.bincount(rows["shard"], minlength=len(sizes))
    stated = np.array([shard["samples"] for shard in metadata["shards"]])
    _require_readable(counts == stated, path, "be as many for each shard as dataset.json says", "shard")


def _require_readable(holds, path, expected, what="row"):
    if not holds.all():
        raise MetadataError(f"The rows of {path} must {expected}. Received: {what} {np.argmin(holds)} that does not")
