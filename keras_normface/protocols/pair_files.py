"""Files of pairs: LFW's, CFP's, InsightFace's packed ones, and our own table."""

import hashlib
import os
import posixpath
from array import array

import numpy as np

from keras_normface._io import atomic_write, is_contained
from keras_normface.data import read_pair_file
from keras_normface.protocols._files import PackedImages, ProtocolFileError, faults_of, numbered_lines, protocol_file
from keras_normface.protocols.pairs import PairProtocol


class PairTable:
    """Pairs of named images with subjects, both numbered in the order in which they first occur."""

    def __init__(self):
        self._images, self._subjects, self._subject_of = {}, {}, array("i")
        self._left, self._right, self._folds = array("i"), array("i"), array("i")

    def __len__(self):
        return len(self._folds)

    def add(self, left, right, fold):
        """Add a pair of (image, subject), genuine if the subjects are equal."""
        self._left.append(self._number(*left))
        self._right.append(self._number(*right))
        self._folds.append(fold)

    def protocol(self, name, path):
        """The pairs as a `PairProtocol`; errors name `path`."""
        columns = self.columns()
        folds = columns["folds"]
        with faults_of(path):
            return PairProtocol(name=pairs_name(name, len(folds), len(np.unique(folds))), **columns)

    def columns(self):
        """The fields of a `PairProtocol` but for its name, as a dictionary."""
        left, right, folds = (np.array(column, "int64") for column in (self._left, self._right, self._folds))
        subjects = np.array(self._subject_of, "int64")
        same = subjects[left] == subjects[right]
        return {
            "images": tuple(self._images),
            "left": left,
            "right": right,
            "same": same,
            "folds": folds,
            "subjects": subjects,
        }

    def _number(self, image, subject):
        number = self._images.setdefault(image, len(self._images))
        if number == len(self._subject_of):
            self._subject_of.append(self._subjects.setdefault(subject, len(self._subjects)))
        return number


def pairs_name(name, pairs, folds):
    """(LFW, 6000, 10) → `LFW, 6 000 pairs, ten folds`."""
    in_words = "one fold" if folds == 1 else f"{'ten' if folds == 10 else folds} folds"
    return f"{name}, {pairs:,} pairs, {in_words}".replace(",", " ").replace("  ", ", ")


def read_lfw_pairs(path, suffix=".jpg", name="LFW"):
    r"""Read the pairs of LFW, or others in the same form.

    The first line holds the number of folds and the number n of pairs of each kind in a fold. For each fold follow n
    genuine pairs, `name i j`, and n impostor pairs, `name i name j`, separated by tabs, or by spaces where names hold
    none. `pairsDevTrain.txt` and `pairsDevTest.txt` hold n alone in the first line, and one fold. Image i of a person
    is the file `name/name_000i.jpg`.

    Args:
        path: The file.
        suffix: How the images' names end, such as ".png".
        name: What the protocol is called; the number of pairs and of folds is added.

    Returns:
        A `PairProtocol` with the folds of the file and the persons as subjects.

    Raises:
        ProtocolFileError: If the file is not in this form, names an image twice in a pair or a person twice in an
            impostor pair; file and line are named.
        OSError: If it cannot be read.

    Source: Huang et al. 2007, "Labeled Faces in the Wild", Views 1 and 2.

    Example:
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "pairs.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nEve\t1\t4\nEve\t1\tJoe\t1\n")
    >>> protocol = read_lfw_pairs(path)
    >>> protocol.images[:3], protocol.same.tolist(), protocol.folds.tolist()
    (('Ada/Ada_0001.jpg', 'Ada/Ada_0002.jpg', 'Bob/Bob_0003.jpg'), [True, False, True, False], [0, 0, 1, 1])
    """
    lines = numbered_lines(path)
    folds, pairs = _counts(next(lines, None), path)
    table = PairTable()
    for line in lines:
        fold, place = divmod(len(table), 2 * pairs)
        if fold == folds:
            raise line.error(f"is one too many: the first line says {folds} folds of {pairs} pairs of each kind")
        table.add(*_lfw_images(line, genuine=place < pairs, suffix=suffix), fold)
    if len(table) != 2 * pairs * folds:
        raise ProtocolFileError(
            f"{path} must hold {2 * pairs * folds} pairs, {folds} folds of {pairs} of each kind, but holds {len(table)}"
        )
    return table.protocol(name, path)


def _counts(line, path):
    """Return the numbers of folds and of pairs of each kind in a fold."""
    if line is None:
        raise ProtocolFileError(f"{path} is empty")
    fields = line.text.split()
    if len(fields) not in (1, 2):
        raise line.error("must hold two numbers, of folds and of pairs of each kind in a fold, or that of pairs alone")
    folds = 1 if len(fields) == 1 else line.whole_number(fields[0], "the number of folds", 2)
    return folds, line.whole_number(fields[-1], "the number of pairs", 1)


def _lfw_images(line, genuine, suffix):
    """Return the two (image, person) of a pair."""
    count = 3 if genuine else 4
    fields = [field.strip() for field in line.text.split("\t")]
    if len(fields) != count:
        fields = line.text.split()
    if len(fields) != count:
        raise line.error(f"must be {'a genuine pair, name i j' if genuine else 'an impostor pair, name i name j'}")
    left = _image(line, fields[0], fields[1], suffix)
    right = _image(line, fields[0] if genuine else fields[2], fields[-1], suffix)
    if genuine and left == right:
        raise line.error("must name two images")
    if not genuine and left[1] == right[1]:
        raise line.error("must name two persons")
    return left, right


def _image(line, person, number, suffix):
    if "/" in person or not is_contained(person):
        raise line.error("must name persons by a name without path")
    return f"{person}/{person}_{line.whole_number(number, 'the number of an image', 1):04d}{suffix}", person


_KINDS = ("FP", "FF")


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
    if kind not in _KINDS:
        raise ValueError(f"`kind` must be one of {_KINDS}. Received: kind={kind!r}")
    left = _cfp_images(protocol_file(root, "Protocol", "Pair_list_F.txt"))
    right = _cfp_images(protocol_file(root, "Protocol", "Pair_list_P.txt")) if kind == "FP" else left
    splits = protocol_file(root, "Protocol", "Split", kind)
    folds = sorted(entry.name for entry in os.scandir(splits) if entry.is_dir() and entry.name.isdigit())
    if len(folds) < 2:
        raise ProtocolFileError(f"{splits} must hold a directory for each fold, such as 01. It holds {len(folds)}")
    table = PairTable()
    for number, fold in enumerate(folds):
        for file, genuine in (("same.txt", True), ("diff.txt", False)):
            for line in numbered_lines(protocol_file(splits, fold, file)):
                _add_cfp(table, line, left, right, genuine, number)
    return table.protocol(f"CFP-{kind}", splits)


def _add_cfp(table, line, left, right, genuine, fold):
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


def _cfp_images(path):
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


_NAMES = {
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
        name: What the protocol is called; by default inferred from the file's name.

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
    name = _NAMES.get(pairs.path.stem, pairs.path.stem) if name is None else name
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


_FIRST_LINE = "# keras_normface pairs, version 1"
COLUMNS = ("left", "right", "same", "fold", "left_identity", "right_identity")


def write_pair_list(path, pairs, remarks=()):
    """Write a pair file. Either the whole file is there afterwards, or what was there before.

    It is UTF-8 text: a line with the version, remarks that begin with `#`, a line of headings, and for each pair a line
    of six fields with tabs between them: both images' paths, 1 or 0 for one or two identities, the fold from 0 on, and
    both identities.

    Args:
        path: The file.
        pairs: Iterable of (left, right, fold, left identity, right identity).
        remarks: Lines that say how the pairs were made.

    Raises:
        ValueError: If a name is empty, holds a tab or another control character, begins or ends with white space, or
            cannot be written as UTF-8.
        OSError: If it cannot be written.
    """
    with atomic_write(path) as beside, open(beside, "w", encoding="utf-8", newline="\n") as file:
        for line in (_FIRST_LINE, *(f"# {remark}" for remark in remarks), "\t".join(COLUMNS)):
            file.write(f"{line}\n")
        for left, right, fold, of_left, of_right in pairs:
            for name in (left, right, of_left, of_right):
                _check_name(name)
            if not is_contained(left) or not is_contained(right):
                raise ValueError(f"images must be called by relative paths with `/`. Received: {left!r}, {right!r}")
            same = int(of_left == of_right)
            file.write(f"{left}\t{right}\t{same}\t{fold}\t{of_left}\t{of_right}\n")


def read_pair_list(path, name=None):
    """Read a pair file that `write_pair_list` or `keras-normface pairs` wrote.

    Args:
        path: The file.
        name: What the protocol is called; by default the file's name. The numbers of pairs and folds are added.

    Returns:
        A `PairProtocol`.

    Raises:
        ProtocolFileError: If the file is not in this form, repeats a pair, gives an image two identities or contradicts
            them, or leads out of the directory; file and line are named.
        OSError: If it cannot be read.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "ours.tsv")
    >>> pairs = [("Ada/1.jpg", "Ada/2.jpg", 0, "Ada", "Ada"), ("Bob/1.jpg", "Eve/1.jpg", 1, "Bob", "Eve")]
    >>> write_pair_list(path, pairs)
    >>> protocol = read_pair_list(path)
    >>> protocol.name, protocol.same.tolist(), protocol.subjects.tolist()
    ('ours, 2 pairs, 2 folds', [True, False], [0, 0, 1, 2])
    """
    path = os.fspath(path)
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None or first.text != _FIRST_LINE:
        found = "It is empty" if first is None else f"It begins with {first.text[:80]!r}"
        raise ProtocolFileError(f"{path} must begin with the line {_FIRST_LINE!r}. {found}")
    table, identities, seen, headed = PairTable(), {}, set(), False
    for line in lines:
        if not headed and line.text.startswith("#"):
            continue
        fields = line.text.split("\t")
        if not headed:
            headed = True
            if tuple(fields) != COLUMNS:
                raise line.error(f"must hold the headings {', '.join(COLUMNS)}")
            continue
        _add_listed(table, line, fields, identities, seen)
    if not len(table):
        raise ProtocolFileError(f"{path} holds no pairs")
    return table.protocol(os.path.splitext(os.path.basename(path))[0] if name is None else name, path)


def _add_listed(table, line, fields, identities, seen):
    if len(fields) != len(COLUMNS):
        raise line.error(f"must hold {len(COLUMNS)} fields with tabs between them")
    images = [line.relative_path(field) for field in fields[:2]]
    pair = list(zip(images, fields[4:], strict=True))
    for image, identity in pair:
        if not identity or identities.setdefault(image, identity) != identity:
            raise line.error(f"must name the identity of {image}, and the same one in all lines")
    if fields[2] not in ("0", "1") or (fields[2] == "1") != (fields[4] == fields[5]):
        raise line.error("must say 1 for pairs of one identity and 0 for others")
    key = frozenset(images)
    if len(key) == 1 or key in seen:
        raise line.error("must name two images that no other line pairs")
    seen.add(key)
    table.add(*pair, line.whole_number(fields[3], "the fold"))


def _check_name(name):
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"names must be text that UTF-8 can hold. Received: {name!r}") from error
    if not name or name != name.strip() or any(ord(sign) < 32 or sign in "\x7f\x85\u2028\u2029" for sign in name):
        raise ValueError(
            "names must not be empty, hold tabs or control characters, or begin or end with white space. "
            f"Received: {name!r}"
        )
