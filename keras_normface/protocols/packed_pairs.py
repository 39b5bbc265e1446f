"""InsightFace's packed pairs as a protocol: lfw.bin, agedb_30.bin, calfw.bin, cplfw.bin, cfp_fp.bin."""

import hashlib

import numpy as np

from keras_normface.data import read_pair_file
from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.protocols.images import PackedImages
from keras_normface.protocols.pair_table import pairs_name
from keras_normface.protocols.text_lines import faults_of

NAMES = {
    "lfw": "LFW",
    "agedb_30": "AgeDB-30",
    "agedb30": "AgeDB-30",
    "calfw": "CALFW",
    "cplfw": "CPLFW",
    "cfp_fp": "CFP-FP",
    "cfp_ff": "CFP-FF",
    "vgg2_fp": "VGG2-FP",
}


def read_packed_pairs(path, folds=10, name=None):
    """Read a pair file as a protocol.

    The folds are contiguous blocks of pairs; where their number does not divide that of the pairs, the first ones are
    larger by a pair. Images whose bytes are equal are one image. Such a file does not say who is shown, so there are
    no subjects.

    Args:
        path: The file, a pickle of encoded images and flags; nothing in it runs.
        folds: How many.
        name: What the protocol is called; by default told by the file's name.

    Returns:
        Pair of a `PairProtocol` and the `PackedImages` that hold the bytes. Images are called after the file and by
        where they first occur in it, "agedb_30/0", "agedb_30/3", ...: what was stored for one file fits no other.

    Raises:
        UnsafePickleError, PairFileError: From `read_pair_file`.
        ValueError: If there are fewer pairs than folds, or fewer than two folds.
        OSError: If the file cannot be read.

    Source: the layout and the blocks are those of the InsightFace project's verification sets.

    Example:
    >>> import os, pickle, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "agedb_30.bin")
    >>> with open(path, "wb") as file:
    ...     pickle.dump(([b"Ada", b"Ada later", b"Bob", b"Ada"], [True, False]), file)
    >>> protocol, images = read_packed_pairs(path, folds=2)
    >>> protocol.name, protocol.images[1:], protocol.right.tolist(), images.read("agedb_30/2")
    ('AgeDB-30, 2 pairs, 2 folds', ('agedb_30/1', 'agedb_30/2'), [1, 0], b'Bob')
    """
    pairs = read_pair_file(path)
    if not 2 <= folds <= len(pairs):
        raise ValueError(
            f"`folds` must be from 2 to the number of pairs, {len(pairs)} in {pairs.path}. Received: folds={folds}"
        )
    kept, numbers = {}, []
    for place, image in enumerate(pairs.images):
        digest = hashlib.sha256(image).digest()
        numbers.append(kept.setdefault(digest, (len(kept), place))[0])
    encoded = {f"{pairs.path.stem}/{place}": pairs.images[place] for _, place in kept.values()}
    sizes = [len(block) for block in np.array_split(pairs.same, folds)]
    name = NAMES.get(pairs.path.stem, pairs.path.stem) if name is None else name
    with faults_of(path):
        protocol = PairProtocol(
            name=pairs_name(name, len(pairs), folds),
            images=tuple(encoded),
            left=np.array(numbers[0::2], "int64"),
            right=np.array(numbers[1::2], "int64"),
            same=pairs.same,
            folds=np.repeat(np.arange(folds), sizes),
        )
    return protocol, PackedImages(encoded)
