"""A protocol by its name, from whatever file it comes in."""

import os
from pathlib import Path
from typing import NamedTuple

from keras_normface.protocols._files import FolderImages
from keras_normface.protocols.blufr import read_blufr
from keras_normface.protocols.ijb import read_ijb, read_ijb_a
from keras_normface.protocols.megaface import read_megaface
from keras_normface.protocols.pair_files import read_cfp_pairs, read_lfw_pairs, read_packed_pairs, read_pair_list
from keras_normface.protocols.ytf import read_ytf

PACKED_ONLY = {"agedb30": "AgeDB-30", "calfw": "CALFW", "cplfw": "CPLFW"}
READERS = {
    "lfw": read_lfw_pairs,
    "pairs": read_pair_list,
    "cfp-fp": read_cfp_pairs,
    "cfp-ff": lambda path: read_cfp_pairs(path, "FF"),
    "blufr": read_blufr,
    "ytf": read_ytf,
    "megaface": read_megaface,
    "ijba": read_ijb_a,
    "ijbb": lambda path: read_ijb(path, "IJB-B"),
    "ijbc": lambda path: read_ijb(path, "IJB-C"),
}
PACKED = {"lfw": "LFW", "cfp-fp": "CFP-FP", "cfp-ff": "CFP-FF", "pairs": None, **PACKED_ONLY}
KINDS = (*READERS, *PACKED_ONLY)
OPTIONS = {"lfw": ("suffix",), "blufr": ("suffix",), "ytf": (), "megaface": ("distractors",)}


class OpenedProtocol(NamedTuple):
    """A protocol and where its images are.

    Attributes:
        protocol: A `PairProtocol`, `BlufrProtocol`, `VideoPairProtocol`, `MegaFaceProtocol` or `TemplateProtocol`.
        images: What reads them by name, a `FolderImages` or `PackedImages`; `None` if no directory was given.
    """

    protocol: object
    images: object


def open_protocol(kind, path, root=None, **options):
    r"""Read a protocol by its name.

    Args:
        kind: "lfw", "agedb30", "calfw", "cplfw", "cfp-fp", "cfp-ff", "blufr", "ytf", "megaface", "ijba", "ijbb",
            "ijbc", or "pairs" for a file of `keras-normface pairs`.
        path: The protocol's file or directory, see the reader of each. The kinds of pairs may be a `.bin` file;
            AgeDB-30, CALFW and CPLFW must.
        root: The directory that the names of images start from; by default that of CFP's lists. "ytf" needs it. A
            `.bin` file holds its images.
        **options: `suffix` for "lfw" and "blufr"; `distractors` for "megaface", which needs it.

    Returns:
        An `OpenedProtocol`.

    Raises:
        ValueError: If there is no such kind, an option does not belong to it or is missing; or from the reader.
        OSError: If a file cannot be read or `root` is not a directory.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "pairs.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("2 1\nAda 1 2\nAda 1 Bob 3\nEve 1 4\nEve 1 Joe 1\n")
    >>> open_protocol("lfw", path, suffix=".png").protocol.images[0]
    'Ada/Ada_0001.png'
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}")
    packed = Path(path).suffix.lower() == ".bin" and kind in PACKED
    known = () if packed else OPTIONS.get(kind, ())
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in known:
            raise ValueError(f"`{option}` does not belong to {kind}{' from a .bin file' if packed else ''}")
    if packed:
        if root is not None:
            raise ValueError(
                f"`root` must not be given with a .bin file, which holds its images. Received: root={root}"
            )
        return OpenedProtocol(*read_packed_pairs(path, name=PACKED[kind]))
    if kind in PACKED_ONLY:
        raise ValueError(
            f"`path` must be a .bin file for {kind}, the only form of it that is read. Received: path={os.fspath(path)}"
        )
    if kind == "ytf":
        if root is None:
            raise ValueError("`root` must be given for ytf: the directory of the videos' frames")
        options["root"] = root
    if kind == "megaface" and "distractors" not in options:
        raise ValueError("`distractors` must be given for megaface: their list, or their number")
    if kind.startswith("cfp") and root is None:
        root = path
    images = None if root is None else FolderImages(root)
    return OpenedProtocol(READERS[kind](path, **options), images)
