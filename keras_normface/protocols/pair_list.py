"""Our own pair file: a table that names both images, both identities and the fold of each pair."""

import os

from keras_normface.protocols.pair_table import PairTable
from keras_normface.protocols.text_lines import ProtocolFileError, is_contained, numbered_lines
from keras_normface.written_beside import written_beside

FIRST_LINE = "# keras_normface pairs, version 1"
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
    with written_beside(path) as beside, open(beside, "w", encoding="utf-8", newline="\n") as file:
        for line in (FIRST_LINE, *(f"# {remark}" for remark in remarks), "\t".join(COLUMNS)):
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
    if first is None or first.text != FIRST_LINE:
        found = "It is empty" if first is None else f"It begins with {first.text[:80]!r}"
        raise ProtocolFileError(f"{path} must begin with the line {FIRST_LINE!r}. {found}")
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
        _add(table, line, fields, identities, seen)
    if not len(table):
        raise ProtocolFileError(f"{path} holds no pairs")
    return table.protocol(os.path.splitext(os.path.basename(path))[0] if name is None else name, path)


def _add(table, line, fields, identities, seen):
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
