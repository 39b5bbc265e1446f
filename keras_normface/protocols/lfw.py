"""Labeled Faces in the Wild: `pairs.txt`."""

from keras_normface.protocols.pair_table import PairTable
from keras_normface.protocols.text_lines import ProtocolFileError, is_contained, numbered_lines


def read_lfw_pairs(path, suffix=".jpg", name="LFW"):
    r"""Read the pairs of LFW, or others in the same form.

    The first line holds the number of folds and the number n of pairs of each kind in a fold. For each fold follow n
    genuine pairs, `name i j`, and n impostor pairs, `name i name j`, separated by tabs or spaces. Image i of a person
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

    Source: Huang et al. 2007, "Labeled Faces in the Wild", View 2.

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
        table.add(*_images(line, genuine=place < pairs, suffix=suffix), fold)
    if len(table) != 2 * pairs * folds:
        raise ProtocolFileError(
            f"{path} must hold {2 * pairs * folds} pairs, {folds} folds of {pairs} of each kind, but holds {len(table)}"
        )
    return table.protocol(name, path)


def _counts(line, path):
    if line is None:
        raise ProtocolFileError(f"{path} is empty")
    fields = line.text.split()
    if len(fields) != 2:
        raise line.error("must hold two numbers, of folds and of pairs of each kind in a fold")
    return line.whole_number(fields[0], "the number of folds", 2), line.whole_number(
        fields[1], "the number of pairs", 1
    )


def _images(line, genuine, suffix):
    fields = line.text.split()
    if len(fields) != (3 if genuine else 4):
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
