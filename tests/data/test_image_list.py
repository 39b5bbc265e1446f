"""Lists of real faces, and lines that are no lines."""

import pytest

from keras_normface.data import CASIA_LFW_OVERLAP, ImageList
from keras_normface.data._plans import IdentityBatches
from tests.support import faces


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def names(reader):
    return [reader.name(number) for number in range(len(reader))]


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_real_faces_come_back_byte_for_byte(tmp_path, separator):
    reader = ImageList(faces.write_list(tmp_path / "list.txt", 3, 4, separator))
    faces.check_reader(reader, [(encoded, person - 1) for person, _, encoded in faces.some(3, 4)])
    assert reader.identities == ["1", "2", "3"]


def test_spaces_comments_byte_order_mark_and_windows_lines(tmp_path):
    text = b"\xef\xbb\xbf# head\r\n\r\na b/c d.jpg \t 10\r\n  ./x//y.jpg 2\r\nu/../\xc3\xbc.jpg 10\r\n\xff.jpg 7"
    reader = ImageList(write(tmp_path, text))
    assert names(reader) == ["a b/c d.jpg", "x/y.jpg", "ü.jpg", "\udcff.jpg"]
    assert reader.labels.tolist() == [2, 0, 2, 1]
    assert reader.identities == ["2", "7", "10"]


def test_insightface_lists(tmp_path):
    text = f"1\ta b/c.jpg\t0\n# head\n0\t{tmp_path}/d\u2028.jpg\t7\r\n1\t17\t3\n1\t0.5\t7"
    reader = ImageList(write(tmp_path, text))
    assert names(reader) == ["a b/c.jpg", "d\u2028.jpg", "17", "0.5"]
    assert reader.labels.tolist() == [0, 2, 1, 2]
    assert reader.identities == ["0", "3", "7"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../out.jpg", "a/../../out.jpg"])
@pytest.mark.parametrize("form", ["1\t{}\t0", "12\t3.0\t{}", "{} 3"])
def test_paths_of_each_form_stay_in_root(tmp_path, form, path):
    with pytest.raises(ValueError, match=rf"Line 1 of .*list\.txt leads out .* Received: '{path}'"):
        ImageList(write(tmp_path, form.format(path)))


def test_mxnet_lists(tmp_path):
    text = "17\t3.000000\ta b/c.jpg\n3\t5\td.jpg\r\n4\t5.0\t0.25\t-1\te.jpg\n5\t1e1\t12\n"
    reader = ImageList(write(tmp_path, text))
    assert names(reader) == ["a b/c.jpg", "d.jpg", "e.jpg", "12"]
    assert reader.labels.tolist() == [0, 1, 1, 2]
    assert reader.identities == ["3", "5", "10"]
    many = write(tmp_path, "0\t123456789012345678\ta.jpg\n")
    assert ImageList(many).identities == ["123456789012345678"]


@pytest.mark.parametrize(
    ("first", "line", "message"),
    [
        ("1\ta.jpg\t0", "1\ta.jpg", "0 or 1, a path and a label"),
        ("1\ta.jpg\t0", "1\ta.jpg\t0.5", "0 or 1, a path and a label"),
        ("1\ta.jpg\t0", "2\ta.jpg\t0", "0 or 1, a path and a label"),
        ("1\ta.jpg\t0", "1\ta.jpg\t0\t1\t2\t3\t4", "0 or 1, a path and a label"),
        ("1\ta.jpg\t0", "1\t\t0", "0 or 1, a path and a label"),
        ("1\ta.jpg\t0", "b.jpg 7", "0 or 1, a path and a label"),
        ("5\t3\ta.jpg", "b.jpg 7", "an index, a label"),
        ("5\t3\ta.jpg", "6\t-1\tb.jpg", "an index, a label"),
        ("5\t3\ta.jpg", "6\tnan\tb.jpg", "an index, a label"),
        ("5\t3\ta.jpg", "6\t1e400\tb.jpg", "an index, a label"),
        ("5\t3\ta.jpg", "6\t0.5\tb.jpg", "an index, a label"),
        ("5\t3\ta.jpg", "6\t1e17\tb.jpg", "an index, a label"),
        ("5\t3\ta.jpg", "6\tb.jpg\t3", "an index, a label"),
        ("5\t3\ta.jpg", "6\t3\t \t", "an index, a label"),
        ("a.jpg 7", "1\tb.jpg\t0", "a path and a label"),
        ("a.jpg 7", "1\t0\tb.jpg", "a path and a label"),
    ],
)
def test_a_line_of_another_form_than_the_first(tmp_path, first, line, message):
    with pytest.raises(ValueError, match=rf"Line 2 of .*list\.txt must be {message}"):
        ImageList(write(tmp_path, f"{first}\n{line}\n"))


def test_absolute_paths_within_root_and_another_root(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"one")
    path = write(tmp_path, f"{tmp_path}/images/1.jpg 0\n")
    assert ImageList(path).name(0) == "images/1.jpg"
    assert ImageList(path, root=tmp_path / "images").sample(0) == (b"one", 0)


@pytest.mark.parametrize("path", ["../out.jpg", "a/../../out.jpg", "/etc/passwd", "/", "..", "a/..", "./"])
def test_a_path_that_leads_out_is_named_with_its_line(tmp_path, path):
    listed = write(tmp_path, f"# head\nfine.jpg 0\n{path} 1\n")
    with pytest.raises(ValueError, match=rf"Line 3 of .*list\.txt leads out .* Received: '{path}'"):
        ImageList(listed)


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg",
        "17",
        "a.jpg -1",
        "a.jpg 1.0",
        "a.jpg x",
        "a.jpg 1_0",
        "a.jpg +1",
        "a.jpg ١",
        "a\0.jpg 1",
        f"a.jpg {9**30}",
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line):
    path = write(tmp_path, f"# head\nfine.jpg 0\n{line}\n")
    with pytest.raises(ValueError, match=r"Line 3 of .*list\.txt must be a path and a label") as raised:
        ImageList(path)
    assert repr(line)[1:-1] in str(raised.value)


def test_a_neighbour_whose_name_begins_like_root_is_outside(tmp_path):
    (tmp_path / "root").mkdir()
    path = write(tmp_path, f"{tmp_path}/root-of-others/1.jpg 0\n")
    with pytest.raises(ValueError, match=r"Line 1 .* leads out"):
        ImageList(path, root=tmp_path / "root")


def test_links_out_of_root_are_found_when_read(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "inside.jpg").write_bytes(b"inside")
    (root / "link.jpg").symlink_to("../secret.jpg")
    (root / "linked").symlink_to(tmp_path)
    (root / "fine.jpg").symlink_to("inside.jpg")
    reader = ImageList(write(root, "link.jpg 0\nlinked/secret.jpg 0\nfine.jpg 0\n"))
    for number in range(2):
        with pytest.raises(ValueError, match="leads out"):
            reader.sample(number)
    assert reader.sample(2) == (b"inside", 0)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        ImageList(tmp_path / "missing.txt")
    path = write(tmp_path, "# only a comment\n")
    with pytest.raises(ValueError, match="must name images"):
        ImageList(path)
    with pytest.raises(NotADirectoryError):
        ImageList(path, root=path)
    with pytest.raises(FileNotFoundError):
        ImageList(path, root=tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        ImageList(write(tmp_path, "gone.jpg 0")).sample(0)


def test_leaving_out_labels_and_the_overlap(tmp_path):
    path = write(tmp_path, "0000045/1.jpg 0\n0000513/1.jpg 1\n0000513/2.jpg 1\n0000600/1.jpg 2\n")
    for exclude in (["1"], CASIA_LFW_OVERLAP):
        reader = ImageList(path, exclude=exclude)
        assert names(reader) == ["0000045/1.jpg", "0000600/1.jpg"]
        assert reader.labels.tolist() == [0, 1]
        assert reader.identities == ["0", "2"]
    with pytest.raises(ValueError, match="0000513"):
        ImageList(path, exclude=["0000513"])
    with pytest.raises(ValueError, match=r"no image of .* lies in a directory of such a name"):
        ImageList(write(tmp_path, "a/1.jpg 513\n"), exclude=CASIA_LFW_OVERLAP)
    with pytest.raises(ValueError, match="must leave an identity"):
        ImageList(write(tmp_path, "0000513/1.jpg 1\n"), exclude=CASIA_LFW_OVERLAP)


def test_an_image_takes_few_bytes(tmp_path):
    lines = (f"{k // 47:07d}/{k % 47:03d}.jpg {k // 47}\n" for k in range(235_000))  # as many each as CASIA-WebFace
    reader = ImageList(write(tmp_path, "".join(lines)))
    assert reader.nbytes / len(reader) <= 20
    assert (reader.name(123_456), reader.labels[123_456]) == ("0002626/034.jpg", 2626)


def test_a_million_identities_with_one_image(tmp_path):
    reader = ImageList(write(tmp_path, "".join(f"{k}.jpg {2 * k}\n" for k in range(10**6))))
    assert reader.num_identities == len(reader) == 10**6
    assert (reader.identities[-1], reader.labels[-1], reader.name(10**6 - 1)) == ("1999998", 999_999, "999999.jpg")
    batch = IdentityBatches(reader.labels, 64, 2, seed=0).of_epoch(0)(0)
    assert len(set(batch.tolist())) == 32


def test_two_slashes_are_one(tmp_path):
    reader = ImageList(write(tmp_path, "Ada//1.jpg 0\nAda/2.jpg 1\n"))
    assert [reader.name(number) for number in range(2)] == ["Ada/1.jpg", "Ada/2.jpg"]
