"""Pairs of LFW, CFP and InsightFace's .bin files, and our own: each in its format, and what is not in it."""

import numpy as np
import pytest

from keras_normface.data import UnsafePickleError
from keras_normface.protocols import (
    ProtocolFileError,
    read_cfp_pairs,
    read_lfw_pairs,
    read_packed_pairs,
    read_pair_list,
    write_pair_list,
)
from tests.support import protocol_files as files


def named(protocol):
    """Pairs as (left, right, same, fold)."""
    rows = zip(protocol.left, protocol.right, protocol.same, protocol.folds, strict=True)
    return [(protocol.images[a], protocol.images[b], bool(same), int(fold)) for a, b, same, fold in rows]


def test_lfw(tmp_path):
    protocol = read_lfw_pairs(files.write_lfw(tmp_path / "pairs.txt"))
    assert protocol.name == "LFW, 12 pairs, 3 folds"
    assert named(protocol)[:5] == [
        ("P0a/P0a_0001.jpg", "P0a/P0a_0002.jpg", True, 0),
        ("P0a/P0a_0003.jpg", "P0a/P0a_0004.jpg", True, 0),
        ("P0a/P0a_0001.jpg", "P0b/P0b_0010.jpg", False, 0),
        ("P0a/P0a_0002.jpg", "P0b/P0b_0011.jpg", False, 0),
        ("P1a/P1a_0001.jpg", "P1a/P1a_0002.jpg", True, 1),
    ]
    assert len(protocol.images) == len(set(protocol.images)) == 18
    people = [image.split("/")[0] for image in protocol.images]
    for i, person in enumerate(people):
        for j, other in enumerate(people):
            assert (protocol.subjects[i] == protocol.subjects[j]) == (person == other)


def test_lfw_of_the_published_size(tmp_path):
    protocol = read_lfw_pairs(files.write_lfw(tmp_path / "pairs.txt", 10, 300), suffix=".png")
    assert protocol.name == "LFW, 6 000 pairs, ten folds"
    assert np.bincount(protocol.folds).tolist() == [600] * 10
    assert protocol.images[0] == "P0a/P0a_0001.png"
    assert protocol.same[:600].tolist() == [True] * 300 + [False] * 300


def test_lfw_names_with_spaces_between_tabs(tmp_path):
    text = "2\t1\nMary Ann\t1\t2\nMary Ann\t1\tvan der Bob\t3\nEve 1 4\nEve 1 Mary_Ann 1\n"
    assert named(read_lfw_pairs(files.write(tmp_path / "pairs.txt", text))) == [
        ("Mary Ann/Mary Ann_0001.jpg", "Mary Ann/Mary Ann_0002.jpg", True, 0),
        ("Mary Ann/Mary Ann_0001.jpg", "van der Bob/van der Bob_0003.jpg", False, 0),
        ("Eve/Eve_0001.jpg", "Eve/Eve_0004.jpg", True, 1),
        ("Eve/Eve_0001.jpg", "Mary_Ann/Mary_Ann_0001.jpg", False, 1),
    ]


def test_lfw_development_pairs_are_one_fold(tmp_path):
    text = "2\nAda\t1\t2\nBob\t1\t3\nAda\t1\tBob\t3\nEve\t4\tBob\t1\n"
    protocol = read_lfw_pairs(files.write(tmp_path / "pairsDevTest.txt", text))
    assert protocol.name == "LFW, 4 pairs, one fold"
    assert named(protocol) == [
        ("Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg", True, 0),
        ("Bob/Bob_0001.jpg", "Bob/Bob_0003.jpg", True, 0),
        ("Ada/Ada_0001.jpg", "Bob/Bob_0003.jpg", False, 0),
        ("Eve/Eve_0004.jpg", "Bob/Bob_0001.jpg", False, 0),
    ]
    with pytest.raises(ProtocolFileError, match=r"Line 6 .* is one too many"):
        read_lfw_pairs(files.write(tmp_path / "pairsDevTest.txt", text + "Eve\t4\tBob\t2\n"))
    with pytest.raises(ProtocolFileError, match="must hold 4 pairs"):
        read_lfw_pairs(files.write(tmp_path / "pairsDevTest.txt", text[: text.index("Eve")]))


@pytest.mark.parametrize("change", [b"\xef\xbb\xbf", b"", b"crlf", b"spaces"])
def test_lfw_with_other_white_space(tmp_path, change):
    path = files.write_lfw(tmp_path / "pairs.txt")
    expected = named(read_lfw_pairs(path))
    content = path.read_bytes()
    if change == b"crlf":
        content = content.replace(b"\n", b"\r\n")
    elif change == b"spaces":
        content = content.replace(b"\t", b"  ") + b"\n\n"
    else:
        content = change + content
    path.write_bytes(content)
    assert named(read_lfw_pairs(path)) == expected


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "10", "Line 4 .* must be a genuine pair"),
        (1, "3 2 1", "two numbers"),
        (1, "1\t2", "number of folds as an integer of at least 2"),
        (1, "3\t0", "number of pairs"),
        (1, "three\t2", "number of folds"),
        (1, "4\t2", "must hold 16 pairs, 4 folds of 2 of each kind, but holds 12"),
        (1, "2\t2", "Line 10 .* is one too many"),
        (2, "P0a\t1", "Line 2 .* genuine pair"),
        (2, "P0a\t1\tP0b\t2", "Line 2 .* genuine pair"),
        (2, "P0a\t1\t1", "Line 2 .* two images"),
        (2, "P0a\t0\t1", "Line 2 .* of at least 1"),
        (2, "P0a\t1\t-2", "Line 2 .* of at least 1"),
        (2, "P0a\t1\t1234567890", "Line 2 .* of at least 1"),
        (2, "P0a\t1\t²", "Line 2 .* of at least 1"),
        (2, "../P\t1\t2", "Line 2 .* without path"),
        (2, "..\t1\t2", "Line 2 .* without path"),
        (2, "a\\b\t1\t2", "Line 2 .* without path"),
        (2, "a\0b\t1\t2", "Line 2 .* without path"),
        (4, "P0a\t1\tP0a\t2", "Line 4 .* two persons"),
        (4, "P0a\t1\t2", "Line 4 .* impostor pair"),
        (13, "", "must hold 12 pairs"),
        (3, "x" * 70000, "Line 3 .* longer than 65536 bytes"),
        (3, "\udcff", "Line 3 .* not valid UTF-8"),
    ],
)
def test_what_is_no_lfw_file(tmp_path, number, line, message):
    path = files.write_lfw(tmp_path / "pairs.txt")
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(ProtocolFileError, match=message) as caught:
        read_lfw_pairs(path)
    assert str(path) in str(caught.value)


def test_an_empty_file_and_a_missing_one(tmp_path):
    with pytest.raises(ProtocolFileError, match=r"pairs.txt is empty"):
        read_lfw_pairs(files.write(tmp_path / "pairs.txt", ""))
    with pytest.raises(FileNotFoundError):
        read_lfw_pairs(tmp_path / "none.txt")


def test_packed_pairs(tmp_path):
    # Eleven pairs: the first of ten folds has two, as scikit-learn's KFold without shuffling cuts them.
    images = [b"image %d" % (number % 7) for number in range(22)]
    same = [number % 3 == 0 for number in range(11)]
    protocol, read = read_packed_pairs(files.write_packed(tmp_path / "agedb_30.bin", images, same))
    assert protocol.name == "AgeDB-30, 11 pairs, ten folds"
    assert protocol.images == tuple(f"agedb_30/{number}" for number in range(7))
    assert protocol.subjects is None
    assert protocol.folds.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert protocol.same.tolist() == same
    for pair in range(11):
        assert read.read(protocol.images[protocol.left[pair]]) == images[2 * pair]
        assert read.read(protocol.images[protocol.right[pair]]) == images[2 * pair + 1]
    assert read.missing(["agedb_30/0", "agedb_30/7"]) == ["agedb_30/7"]


def test_images_of_two_packed_files_have_different_names(tmp_path):
    # Otherwise embeddings stored for one file would pass for those of another.
    names = []
    for name in ("agedb_30.bin", "calfw.bin"):
        path = files.write_packed(tmp_path / name, [b"a", b"b"] * 4, [True, False] * 2)
        names.append(set(read_packed_pairs(path, folds=2)[0].images))
    assert not names[0] & names[1]


def test_folds_of_packed_pairs_are_those_of_scikit_learn(tmp_path):
    from sklearn.model_selection import KFold

    for pairs, folds in ((23, 10), (20, 10), (7, 3)):
        images = [b"%d" % number for number in range(2 * pairs)]
        path = files.write_packed(tmp_path / "x.bin", images, [number % 2 == 0 for number in range(pairs)])
        protocol, _ = read_packed_pairs(path, folds=folds)
        for fold, (_, test) in enumerate(KFold(folds).split(np.zeros(pairs))):
            assert np.flatnonzero(protocol.folds == fold).tolist() == test.tolist()


def test_packed_pairs_that_are_refused(tmp_path):
    path = files.write_packed(tmp_path / "few.bin", [b"a", b"b"] * 5, [True, False] * 2 + [True])
    with pytest.raises(ValueError, match=r"from 2 to the number of pairs, 5 .*folds=10"):
        read_packed_pairs(path)
    with pytest.raises(ValueError, match="folds=1"):
        read_packed_pairs(path, folds=1)
    path = files.write_packed(tmp_path / "same.bin", [b"a", b"b"] * 5, [True] * 5)
    with pytest.raises(ProtocolFileError, match=r"same.bin: .*0 impostor"):
        read_packed_pairs(path, folds=2)
    with pytest.raises(UnsafePickleError):
        read_packed_pairs(files.write(tmp_path / "harm.bin", b"cos\nsystem\n(S'true'\ntR."))


@pytest.mark.parametrize("kind", ["FP", "FF"])
def test_cfp(tmp_path, kind):
    protocol = read_cfp_pairs(files.write_cfp(tmp_path, kind), kind)
    assert protocol.name == f"CFP-{kind}, 4 pairs, 2 folds"
    face = "Data/Images/{:03d}/{}/{:02d}.jpg".format
    expected = {
        "FP": [
            (face(1, "frontal", 1), face(1, "profile", 1), True, 0),
            (face(1, "frontal", 1), face(2, "profile", 1), False, 0),
            (face(3, "frontal", 1), face(3, "profile", 1), True, 1),
            (face(3, "frontal", 1), face(4, "profile", 1), False, 1),
        ],
        "FF": [
            (face(1, "frontal", 1), face(1, "frontal", 2), True, 0),
            (face(1, "frontal", 2), face(2, "frontal", 2), False, 0),
            (face(3, "frontal", 1), face(3, "frontal", 2), True, 1),
            (face(3, "frontal", 2), face(4, "frontal", 2), False, 1),
        ],
    }
    assert named(protocol) == expected[kind]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Protocol/Pair_list_F.txt", "1 ../../etc/passwd\n", "Line 1 .*Pair_list_F.* below the data set"),
        ("Protocol/Pair_list_F.txt", "1 /a/b/c.jpg\n", "Line 1 .* below the data set"),
        ("Protocol/Pair_list_F.txt", "1 ../1.jpg\n", "Line 1 .* of a person and a pose"),
        ("Protocol/Pair_list_F.txt", "1\n", "Line 1 .* number and a path"),
        ("Protocol/Pair_list_F.txt", "1 ../D/1/f/1.jpg\n1 ../D/1/f/2.jpg\n", "Line 2 .* repeats"),
        ("Protocol/Pair_list_F.txt", "1 ../D/1/f/1.jpg\n2 ../D/1/f/1.jpg\n", "Line 2 .* repeats"),
        ("Protocol/Pair_list_P.txt", "", "is empty"),
        ("Protocol/Split/FP/01/same.txt", "1 1\n", "Line 1 .*same.txt .* comma"),
        ("Protocol/Split/FP/01/same.txt", "0,1\n", "of at least 1"),
        ("Protocol/Split/FP/01/same.txt", "1,5\n", "names image 5"),
        ("Protocol/Split/FP/01/same.txt", "1,2\n", "one person"),
        ("Protocol/Split/FP/02/diff.txt", "5,3\n", "two persons"),
    ],
)
def test_what_is_no_cfp_protocol(tmp_path, file, text, message):
    files.write(files.write_cfp(tmp_path) / file, text)
    with pytest.raises(ProtocolFileError, match=message):
        read_cfp_pairs(tmp_path)


def test_cfp_needs_two_folds_and_a_kind(tmp_path):
    files.write_cfp(tmp_path, folds=1)
    with pytest.raises(ProtocolFileError, match="It holds 1"):
        read_cfp_pairs(tmp_path)
    with pytest.raises(ValueError, match="kind='PF'"):
        read_cfp_pairs(tmp_path, "PF")
    with pytest.raises(FileNotFoundError):
        read_cfp_pairs(tmp_path, "FF")


PAIRS = [
    ("Ada L/1.jpg", "Ada L/2.jpg", 0, "Ada L", "Ada L"),
    ("Ada L/1.jpg", "Böb/é.jpg", 0, "Ada L", "Böb"),
    ("#1/1.jpg", "#1/2.jpg", 1, "#1", "#1"),
]


def test_our_own_list(tmp_path):
    path = tmp_path / "ours.tsv"
    write_pair_list(path, PAIRS, ["seed 3", "and so on"])
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# keras_normface pairs, version 1",
        "# seed 3",
        "# and so on",
        "left\tright\tsame\tfold\tleft_identity\tright_identity",
        "Ada L/1.jpg\tAda L/2.jpg\t1\t0\tAda L\tAda L",
        "Ada L/1.jpg\tBöb/é.jpg\t0\t0\tAda L\tBöb",
        "#1/1.jpg\t#1/2.jpg\t1\t1\t#1\t#1",
    ]
    protocol = read_pair_list(path)
    assert protocol.name == "ours, 3 pairs, 2 folds"
    assert named(protocol) == [(left, right, a == b, fold) for left, right, fold, a, b in PAIRS]
    assert protocol.subjects.tolist() == [0, 0, 1, 2, 2]
    assert read_pair_list(path, "Faces").name == "Faces, 3 pairs, 2 folds"


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "# keras_normface pairs, version 2", "must begin with the line"),
        (2, "left\tright", "Line 2 .* headings"),
        (3, "a/1\ta/2\t1\t0\ta", "Line 3 .* 6 fields"),
        (3, "a/1 a/2 1 0 a a", "Line 3 .* 6 fields"),
        (3, "../1\ta/2\t1\t0\ta\ta", "Line 3 .* stays in its directory"),
        (3, "/a/1\ta/2\t1\t0\ta\ta", "Line 3 .* stays in its directory"),
        (3, "a/1\ta/2\t0\t0\ta\ta", "Line 3 .* 1 for pairs of one identity"),
        (3, "a/1\ta/2\t1\t0\ta\tb", "Line 3 .* 1 for pairs of one identity"),
        (3, "a/1\ta/2\tyes\t0\ta\ta", "Line 3 .* 1 for pairs of one identity"),
        (3, "a/1\ta/2\t1\t-1\ta\ta", "Line 3 .* the fold"),
        (3, "a/1\ta/1\t1\t0\ta\ta", "Line 3 .* two images"),
        (3, "a/1\ta/2\t0\t0\t\ta", "Line 3 .* identity"),
        (4, "Ada L/2.jpg\tAda L/1.jpg\t1\t1\tAda L\tAda L", "Line 4 .* no other line"),
        (4, "Ada L/1.jpg\tx/1.jpg\t0\t0\tx\ty", "Line 4 .* identity of Ada L/1.jpg"),
        (4, "Ada L/3.jpg\tx/1.jpg\t1\t0\tx\tx", "at least one genuine and one impostor"),
    ],
)
def test_what_is_no_list_of_ours(tmp_path, number, line, message):
    path = tmp_path / "ours.tsv"
    write_pair_list(path, PAIRS)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ProtocolFileError, match=message) as caught:
        read_pair_list(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb", " a", "a ", "a\x85b", "a\u2028b", "\udcff", "../a", "/a", "a\\b"])
def test_names_that_cannot_be_written(tmp_path, name):
    with pytest.raises(ValueError, match="Received"):
        write_pair_list(tmp_path / "ours.tsv", [(name, "b/1.jpg", 0, "a", "b")])
    assert list(tmp_path.iterdir()) == []


def test_a_list_without_pairs(tmp_path):
    path = tmp_path / "ours.tsv"
    write_pair_list(path, [])
    with pytest.raises(ProtocolFileError, match="no pairs"):
        read_pair_list(path)
    with pytest.raises(ProtocolFileError, match="It is empty"):
        read_pair_list(files.write(path, ""))
