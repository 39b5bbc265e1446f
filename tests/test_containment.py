"""Names and links that lead out of a directory, and what is not a regular file."""

import contextlib
import errno
import json
import os
import pickle
import signal

import numpy as np
import pytest

from keras_normface._io import ContainedFiles, OpenFiles, is_below, is_contained, read_whole, regular_file
from keras_normface.data import IdentityFolder, ImageList, RecordIO, TFRecordShards, open_reader, read_pair_file
from keras_normface.inference import ModelCard, model_fingerprint
from keras_normface.prepare import prepare_shards
from keras_normface.protocols import (
    FolderImages,
    MegafaceFeatures,
    ProtocolFileError,
    read_blufr,
    read_cfp_pairs,
    read_ijb,
    read_ijb_a,
    read_lfw_pairs,
    read_megaface,
    write_megaface_features,
)
from tests.support import faces


@contextlib.contextmanager
def at_once():
    """Fail, rather than wait for ever, where a FIFO is waited for."""

    def waited(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def moved_out(path):
    """Leave a link in place of a file, which goes to a directory beside that of the file."""
    outside = path.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def fifo_instead(path):
    if path.exists():
        path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["a", "a/b.jpg", "./a", "a//b", "..a", "a..", "a/...", "ü"])
def test_names_below(name):
    assert is_below(name)
    assert is_contained(name)


@pytest.mark.parametrize("name", ["", ".", "./", "..", "../a", "a/..", "a/../b", "/a", "/", "a/../../b", "a\0"])
def test_names_that_lead_out_or_name_nothing(name):
    assert not is_below(name)
    assert not is_contained(name)


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\rb"])
def test_names_that_no_text_file_may_hold(name):
    assert is_below(name)
    assert not is_contained(name)


def test_a_fifo_a_device_and_a_directory_are_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with at_once():
        (tmp_path / "directory").mkdir()
        for read in (read_whole, lambda path: regular_file(path).close(), ContainedFiles(tmp_path).read):
            with pytest.raises(OSError, match=r"Not a regular file: .*pipe") as caught:
                read(tmp_path / "pipe")
            assert caught.value.errno == errno.EINVAL
            with pytest.raises(IsADirectoryError):
                read(tmp_path / "directory")
        with pytest.raises(OSError, match="Not a regular file: '/dev/zero'"):
            read_whole("/dev/zero")


def test_every_way_into_a_directory_refuses_links_out_of_it(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside").write_bytes(b"inside")
    (root / "fine").symlink_to("inside")
    (root / "link").symlink_to("/etc/passwd")
    files = ContainedFiles(root)
    names = ["fine", "link", "../link"]
    opened = OpenFiles(root, names)
    copied = pickle.loads(pickle.dumps(opened))
    ways = [files.read, files.open, files.checked_path, files.checked_file]
    ways += [lambda name: opened.read(names.index(name), 0, 9), lambda name: copied.read(names.index(name), 0, 9)]
    for way in ways:
        way("fine")
        with pytest.raises(ValueError, match=r"link leads out of the directory .*root, to /etc/passwd"):
            way("link")
        with pytest.raises(ValueError, match=r"\.\.(/link)? leads out of the directory"):
            way("../link")
    assert (files.read("fine"), opened.read(0, 2, 3)) == (b"inside", b"sid")
    assert files.relative(f"{root}/a/../b//c") == "b/c"
    for path in ("..", "a/..", "/etc/passwd", f"{root}-2/a", "."):
        with pytest.raises(ValueError, match="leads out"):
            files.relative(path)


def shards(root):
    prepare_shards(IdentityFolder(faces.write_folder(root / "photos", 2, 2)), root / "shards")
    return root / "shards", TFRecordShards


def record_io(root):
    (root / "records").mkdir()
    faces.write_record_io(root / "records" / "train")
    (root / "records" / "property").write_text("3,112,92")
    return root / "records", open_reader


SHARD = "shard-00000-of-00001.tfrecord"


@pytest.mark.parametrize(
    ("written", "name"),
    [(shards, name) for name in (SHARD, "index.npy", "dataset.json")]
    + [(record_io, name) for name in ("train.rec", "train.idx", "property")],
)
def test_data_sets_of_which_a_file_is_a_link_out_of_their_directory(tmp_path, written, name):
    directory, opened = written(tmp_path)
    opened(directory)
    moved_out(directory / name)
    with pytest.raises(ValueError, match=rf"{name} leads out of the directory"):
        opened(directory)
    (directory / name).unlink()
    (directory / "copy").write_bytes((tmp_path / f"outside-{name}").read_bytes())
    (directory / name).symlink_to("copy")
    assert len(opened(directory)) > 2


@pytest.mark.parametrize(
    ("written", "name"),
    [(shards, name) for name in (SHARD, "index.npy", "dataset.json")]
    + [(record_io, name) for name in ("train.rec", "train.idx")],
)
def test_data_sets_of_which_a_file_is_a_fifo(tmp_path, written, name):
    directory, opened = written(tmp_path)
    fifo_instead(directory / name)
    with at_once(), pytest.raises((OSError, ValueError), match=name):
        opened(directory)


def test_images_that_are_fifos(tmp_path):
    folder = faces.write_folder(tmp_path / "photos", 2, 2)
    reader, listed = IdentityFolder(folder), ImageList(faces.write_list(tmp_path / "list" / "list.txt", 2, 2))
    for images, path in ((reader, folder / reader.name(0)), (listed, tmp_path / "list" / listed.name(0))):
        fifo_instead(path)
        with at_once(), pytest.raises(OSError, match=f"Not a regular file: .*{path.name}"):
            images.sample(0)
    with at_once(), pytest.raises(OSError, match="Not a regular file"):
        FolderImages(folder).read(reader.name(0))
    assert len(IdentityFolder(folder)) == 3


@pytest.mark.parametrize("read", [ImageList, RecordIO, read_pair_file, read_lfw_pairs, read_blufr])
def test_files_that_are_fifos(tmp_path, read):
    os.mkfifo(tmp_path / "file")
    with at_once(), pytest.raises(OSError, match=r"Not a regular file: .*file"):
        read(tmp_path / "file")
    with at_once(), pytest.raises(OSError, match=r"Not a regular file: .*file"):
        read_megaface(tmp_path / "file", 3)


def test_megaface_features_that_are_links_or_fifos(tmp_path):
    (tmp_path / "features").mkdir()
    for name in ("a", "b"):
        write_megaface_features(tmp_path / "features" / f"{name}_.bin", np.ones(3))
    features = MegafaceFeatures(tmp_path / "features", ["a", "b"], "_.bin")
    assert np.concatenate(list(features)).shape == (2, 3)
    moved_out(tmp_path / "features" / "b_.bin")
    with pytest.raises(ValueError, match=r"b_\.bin leads out of the directory"):
        list(features)
    (tmp_path / "features" / "b_.bin").unlink()
    fifo_instead(tmp_path / "features" / "b_.bin")
    with at_once(), pytest.raises(OSError, match=r"Not a regular file: .*b_\.bin"):
        list(features)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_blufr, "labels.txt"),
        (read_blufr, "image_list.txt"),
        (read_cfp_pairs, "Protocol/Pair_list_F.txt"),
        (lambda path: read_ijb(path, "IJB-C"), "ijbc_face_tid_mid.txt"),
        (read_ijb_a, "IJB-A_11_sets/split1/verify_metadata_1.csv"),
    ],
)
def test_protocols_of_which_a_file_is_a_link_out_of_their_directory(tmp_path, read, name):
    root = tmp_path / "protocol"
    (root / name).parent.mkdir(parents=True)
    if name == "labels.txt":
        (root / "image_list.txt").write_text("a_0001.jpg\n")
    (root / name).symlink_to("/etc/passwd")
    with pytest.raises(ProtocolFileError, match=rf"{os.path.basename(name)} leads out of the directory"):
        read(root)


@pytest.mark.parametrize("name", ["..", ".._0001.jpg", "a/../b.jpg"])
def test_names_of_blufr_that_lead_out(tmp_path, name):
    texts = {"image_list": f"{name}\nAda_0001.jpg\n", "labels": "1\n2\n"}
    texts.update(train_set="1\n1\n2,Ada_0001.jpg\n", test_set=f"1\n1\n1,{name}\n", gallery_set=f"1\n1\n1,{name}\n")
    for file, text in {**texts, "probe_set": f"1\n1\n1,{name}\n"}.items():
        (tmp_path / f"{file}.txt").write_text(text)
    with pytest.raises(ProtocolFileError, match="must list images"):
        read_blufr(tmp_path)


def test_an_exported_model_with_a_fifo_among_its_files(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    card = ModelCard(format="saved_model", input_shape=(8,), input_dtype="float32", dimension=4).to_dict()
    (tmp_path / "model.json").write_text(json.dumps({"format": "keras_normface.model", "version": 1, "card": card}))
    (tmp_path / "variables").mkdir()
    os.mkfifo(tmp_path / "variables" / "pipe")
    with at_once(), pytest.raises(OSError, match=r"Not a regular file: .*pipe"):
        model_fingerprint(tmp_path)
