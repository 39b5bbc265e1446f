"""What tells a source of images from another, without reading its images."""

import hashlib
import os

import numpy as np

from keras_normface.data.shard_format import INDEX_NAME, file_sha256
from keras_normface.data.sidecar import SIDECAR_NAME

HASHED_WHOLE = 1 << 26
FILES_BESIDE = ("property", SIDECAR_NAME, INDEX_NAME)


def describe_source(reader):
    """Return what tells a source from another: kind, name, counts, a checksum of names and labels, its files.

    Args:
        reader: A `Reader`. Its images are not read.
    """
    digest = hashlib.sha256(np.ascontiguousarray(reader.labels, "<i4"))
    for names in (reader.identities, map(reader.name, range(len(reader)))):
        for name in names:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    path = os.path.abspath(os.fspath(reader.path or type(reader).__name__))
    if os.path.isfile(path):
        paths = [path, os.path.splitext(path)[0] + ".idx", os.path.join(os.path.dirname(path), "property")]
    else:
        paths = [os.path.join(path, name) for name in FILES_BESIDE]
    return {
        "kind": type(reader).__name__,
        "name": os.path.basename(path),
        "samples": len(reader),
        "num_identities": reader.num_identities,
        "names_and_labels_sha256": digest.hexdigest(),
        "files": {os.path.basename(path): _describe_file(path) for path in paths if os.path.isfile(path)},
    }


def _describe_file(path):
    size = os.path.getsize(path)
    return {"bytes": size, "sha256": file_sha256(path)} if size <= HASHED_WHOLE else {"bytes": size}
