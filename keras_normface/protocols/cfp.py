"""Celebrities in Frontal-Profile: the protocol's directory of lists."""

import os
import posixpath

from keras_normface.protocols.pair_table import PairTable
from keras_normface.protocols.text_lines import ProtocolFileError, is_contained, numbered_lines

KINDS = ("FP", "FF")


def read_cfp_pairs(root, kind="FP"):
    r"""Read CFP's ten folds of pairs, frontal with profile ("FP") or frontal with frontal ("FF").

    `Protocol/Pair_list_F.txt` and `Protocol/Pair_list_P.txt` number the images from 1, a line `number path` each, with
    paths such as `../Data/Images/001/frontal/01.jpg` that start from `Protocol`. `Protocol/Split/FP/01/same.txt` and
    `diff.txt` hold a fold's pairs, a line `number,number` each: of a frontal and a profile image, in "FF" of two
    frontal ones. The person is the directory two above the image.

    Args:
        root: The directory that holds `Protocol` and `Data`. The images' names start from it.
        kind: "FP" or "FF".

    Returns:
        A `PairProtocol`.

    Raises:
        ProtocolFileError: If a file is not in this form, numbers an image twice, uses a number that is not in the
            list, or contradicts the persons; file and line are named.
        ValueError: If `kind` is another.
        OSError: If a file cannot be read.

    Source: Sengupta et al. 2016, "Frontal to Profile Face Verification in the Wild", and its data set's read-me.

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> def write(path, text):
    ...     os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
    ...     with open(os.path.join(root, path), "w") as file:
    ...         _ = file.write(text)
    >>> for letter, pose in [("F", "frontal"), ("P", "profile")]:
    ...     lines = [f"{i} ../Data/Images/00{i}/{pose}/01.jpg\n" for i in (1, 2)]
    ...     write(f"Protocol/Pair_list_{letter}.txt", "".join(lines))
    >>> for fold in ("01", "02"):
    ...     write(f"Protocol/Split/FP/{fold}/same.txt", "1,1\n")
    ...     write(f"Protocol/Split/FP/{fold}/diff.txt", "1,2\n")
    >>> protocol = read_cfp_pairs(root)
    >>> protocol.name, protocol.images[0]
    ('CFP-FP, 4 pairs, 2 folds', 'Data/Images/001/frontal/01.jpg')
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
    directory = os.path.join(os.fspath(root), "Protocol")
    left = _images(os.path.join(directory, "Pair_list_F.txt"))
    right = _images(os.path.join(directory, "Pair_list_P.txt")) if kind == "FP" else left
    splits = os.path.join(directory, "Split", kind)
    folds = sorted(entry.name for entry in os.scandir(splits) if entry.is_dir() and entry.name.isdigit())
    if len(folds) < 2:
        raise ProtocolFileError(f"{splits} must hold a directory for each fold, such as 01. It holds {len(folds)}")
    table = PairTable()
    for number, fold in enumerate(folds):
        for file, genuine in (("same.txt", True), ("diff.txt", False)):
            for line in numbered_lines(os.path.join(splits, fold, file)):
                _add(table, line, left, right, genuine, number)
    return table.protocol(f"CFP-{kind}", splits)


def _add(table, line, left, right, genuine, fold):
    fields = [field.strip() for field in line.text.split(",")]
    if len(fields) != 2:
        raise line.error("must hold two numbers of images with a comma between them")
    pair = []
    for field, images in zip(fields, (left, right), strict=True):
        number = line.whole_number(field, "the number of an image", 1)
        if number not in images:
            raise line.error(f"names image {number}, which the list of images does not hold")
        pair.append(images[number])
    if pair[0] == pair[1]:
        raise line.error("must name two images")
    if (pair[0][1] == pair[1][1]) != genuine:
        raise line.error(f"must name images of {'one person' if genuine else 'two persons'}")
    table.add(*pair, fold)


def _images(path):
    """Return a dictionary of (name below the root, person) by number."""
    images, names = {}, set()
    for line in numbered_lines(path):
        fields = line.text.split(None, 1)
        if len(fields) != 2:
            raise line.error("must hold a number and a path")
        number = line.whole_number(fields[0], "the number of an image", 1)
        name = posixpath.normpath(posixpath.join("Protocol", fields[1]))
        if posixpath.isabs(fields[1]) or not is_contained(name) or name.count("/") < 2:
            raise line.error("must name an image below the data set's directory, in one of a person and a pose")
        if number in images or name in names:
            raise line.error("repeats a number or a path")
        names.add(name)
        images[number] = (name, name.rsplit("/", 2)[0])
    if not images:
        raise ProtocolFileError(f"{path} is empty")
    return images
