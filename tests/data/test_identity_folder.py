"""Folders of real faces, byte for byte, and trees that are not what they should be."""

import io
import multiprocessing
import os
import pickle

import pytest
from PIL import Image

from keras_normface.data import CASIA_LFW_OVERLAP, PHOTO_EXTENSIONS, IdentityFolder
from tests.support import faces


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def contents(reader):
    return [reader.sample(number)[0].decode() for number in range(len(reader))]


def test_real_faces_come_back_byte_for_byte(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path, people=3, images=4))
    faces.check_reader(reader, [(encoded, person - 1) for person, _, encoded in faces.some(3, 4)])
    assert reader.identities == ["0000001", "0000002", "0000003"]
    assert reader.name(5) == os.path.join("0000002", "002.jpg")
    assert Image.open(io.BytesIO(reader.sample(0)[0])).size == (92, 112)
    faces.check_reader(pickle.loads(pickle.dumps(reader)), [(e, p - 1) for p, _, e in faces.some(3, 4)])


def test_order_extensions_and_what_is_ignored(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/10.jpeg", "b/1.Png", "b/3.bmp", "b/4.GIF", "b/Thumbs.db", "b/jpg", "b/deeper/1.jpg")
    touch(tmp_path, "a b/ü 人.jpg", "Z/1.jpg", "readme.txt", ".hidden/1.jpg", "b/.hidden.jpg", "none/notes.txt")
    reader = IdentityFolder(tmp_path)
    assert reader.identities == ["Z", "a b", "b"]
    assert contents(reader) == [
        "Z/1.jpg",
        "a b/ü 人.jpg",
        *(f"b/{n}" for n in ("1.Png", "10.jpeg", "2.JPG", "3.bmp", "4.GIF")),
    ]
    assert reader.labels.tolist() == [0, 1, 2, 2, 2, 2, 2]
    assert reader.empty_identities == ["none"]
    assert reader.ignored == ["readme.txt", "b/Thumbs.db", "b/deeper", "b/jpg", "none/notes.txt"]


def test_images_of_other_kinds_are_listed_or_taken(tmp_path):
    touch(tmp_path, "a/1.jfif", "a/2.JPE", "a/3.webp", "a/4.tif", "b/1.webp", "b/2.PPM", "c/notes.txt")
    touch(tmp_path, "align.json", "align.jsonl", "a/align.json")
    reader = IdentityFolder(tmp_path)
    assert contents(reader) == ["a/1.jfif", "a/2.JPE"]
    assert reader.ignored == ["a/3.webp", "a/4.tif", "a/align.json", "b/1.webp", "b/2.PPM", "c/notes.txt"]
    assert reader.empty_identities == ["b", "c"]
    assert pickle.loads(pickle.dumps(reader)).ignored == reader.ignored
    photos = IdentityFolder(tmp_path, extensions=PHOTO_EXTENSIONS)
    assert contents(photos) == ["a/1.jfif", "a/2.JPE", "a/3.webp", "a/4.tif", "b/1.webp", "b/2.PPM"]
    assert photos.ignored == ["a/align.json", "c/notes.txt"]
    assert photos.empty_identities == ["c"]


def test_a_name_that_is_no_utf8(tmp_path):
    directory = os.fsencode(tmp_path) + b"/a\xff"
    os.mkdir(directory)
    with open(directory + b"/\xfe.jpg", "wb") as file:
        file.write(b"content")
    assert IdentityFolder(tmp_path).sample(0) == (b"content", 0)


def test_excluded_identities_vanish_and_labels_stay_dense(tmp_path):
    touch(tmp_path, "0000001/1.jpg", "0000513/1.jpg", "0000600/1.jpg", "3478560/1.jpg")
    for exclude in (CASIA_LFW_OVERLAP, ["0000513", "3478560"]):
        reader = IdentityFolder(tmp_path, exclude=exclude)
        assert reader.identities == ["0000001", "0000600"]
        assert contents(reader) == ["0000001/1.jpg", "0000600/1.jpg"]
        assert reader.labels.tolist() == [0, 1]


@pytest.mark.parametrize("index", [-1, 12, 10**12])
def test_no_such_sample(tmp_path, index):
    reader = IdentityFolder(faces.write_folder(tmp_path))
    for call in (reader.sample, reader.name, lambda i: reader.encoded([0, i]), lambda i: reader.source([0, i])):
        with pytest.raises(IndexError, match=rf"0 to 11.*Received: {index}"):
            call(index)
    with pytest.raises(IndexError, match="integers"):
        reader.encoded([0.5])


def test_links_may_stay_in_the_tree_but_not_leave_it(tmp_path):
    root = tmp_path / "root"
    touch(root, "a/1.jpg")
    (root / "b").symlink_to(root / "a")
    (root / "a" / "2.jpg").symlink_to("1.jpg")
    assert contents(IdentityFolder(root)) == ["a/1.jpg"] * 4
    (tmp_path / "linked").symlink_to(root)
    assert len(IdentityFolder(tmp_path / "linked")) == 4
    touch(tmp_path, "outside/secret.jpg")
    (root / "a" / "3.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    with pytest.raises(ValueError, match=r"a.3\.jpg leads out"):
        IdentityFolder(root)
    (root / "a" / "3.jpg").unlink()
    (root / "c").symlink_to("../outside")
    with pytest.raises(ValueError, match="c leads out"):
        IdentityFolder(root)


def test_a_link_put_there_later_does_not_lead_out_either(tmp_path):
    root = tmp_path / "root"
    touch(root, "a/1.jpg", "b/1.jpg")
    touch(tmp_path, "outside/1.jpg")
    reader = IdentityFolder(root)
    (root / "a" / "1.jpg").unlink()
    (root / "a" / "1.jpg").symlink_to(tmp_path / "outside" / "1.jpg")
    (root / "b").rename(root / "gone")
    (root / "b").symlink_to(tmp_path / "outside")
    for number in range(2):
        with pytest.raises(ValueError, match="leads out"):
            reader.sample(number)


def test_no_directory_and_no_images(tmp_path):
    touch(tmp_path, "file", "empty/notes.txt")
    with pytest.raises(FileNotFoundError, match="missing"):
        IdentityFolder(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="file"):
        IdentityFolder(tmp_path / "file")
    with pytest.raises(ValueError, match=r"directory of images .* with 2 other files such as empty.notes\.txt"):
        IdentityFolder(tmp_path)


def _send_sample(reader, connection):
    connection.send(reader.sample(1))


def test_reading_after_a_fork(tmp_path):
    reader = IdentityFolder(faces.write_folder(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_send_sample, args=(reader, theirs))
    child.start()
    assert ours.poll(10)
    assert ours.recv() == reader.sample(1)
    child.join()


def test_the_index_is_small(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(2000):
        (tmp_path / "a" / f"{number:03d}.jpg").touch()
    reader = IdentityFolder(tmp_path)
    assert reader.nbytes / len(reader) <= 20
