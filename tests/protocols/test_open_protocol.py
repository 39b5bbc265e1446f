"""Protocols by name, and where their images are read from."""

import os

import pytest

from keras_normface.protocols import (
    BlufrProtocol,
    FolderImages,
    MegaFaceProtocol,
    PackedImages,
    PairProtocol,
    TemplateProtocol,
    VideoPairProtocol,
    open_protocol,
    write_pair_list,
)
from keras_normface.protocols._open import KINDS
from tests.support import protocol_files as files

PACKED = ("lfw", "agedb30", "calfw", "cplfw", "cfp-fp", "cfp-ff", "pairs")
OURS = [("a/1.jpg", "a/2.jpg", 0, "a", "a"), ("a/1.jpg", "b/1.jpg", 1, "a", "b")]


def arguments(kind, root):
    """Path and options of a small protocol of each kind."""
    if kind == "pairs":
        write_pair_list(root / "ours.tsv", OURS)
        return root / "ours.tsv", {}
    if kind.startswith("cfp"):
        return files.write_cfp(root, kind[-2:].upper()), {}
    if kind == "megaface":
        return files.write_megaface(root) / "probes.json", {"distractors": root / "others.json"}
    if kind == "ytf":
        return files.write_ytf(root), {"root": root / "frames"}
    if kind == "ijbb":
        return files.write_ijb_text(root, "ijbb", ("S1", "S2")), {}
    writers = {"ijbc": files.write_ijb_text, "ijba": files.write_ijb_a, "blufr": files.write_blufr_text}
    return (files.write_lfw(root / "pairs.txt") if kind == "lfw" else writers[kind](root)), {}


CLASSES = {
    "lfw": PairProtocol,
    "pairs": PairProtocol,
    "cfp-fp": PairProtocol,
    "cfp-ff": PairProtocol,
    "blufr": BlufrProtocol,
    "ytf": VideoPairProtocol,
    "megaface": MegaFaceProtocol,
    "ijba": TemplateProtocol,
    "ijbb": TemplateProtocol,
    "ijbc": TemplateProtocol,
}


@pytest.mark.parametrize("kind", list(CLASSES))
def test_every_kind(tmp_path, kind):
    path, options = arguments(kind, tmp_path)
    opened = open_protocol(kind, path, **options)
    assert isinstance(opened.protocol, CLASSES[kind])
    assert isinstance(opened.protocol.name, str)
    assert isinstance(opened.protocol.images, tuple)
    if kind.startswith("cfp"):
        assert opened.images.root == os.fspath(tmp_path)
    elif kind != "ytf":
        assert opened.images is None
        assert open_protocol(kind, path, tmp_path, **options).images.root == os.fspath(tmp_path)
    with pytest.raises(ValueError, match=f"`colour` does not belong to {kind}"):
        open_protocol(kind, path, colour=1, **options)


def test_all_kinds_are_tested():
    assert set(KINDS) == set(CLASSES) | set(PACKED)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_files(tmp_path, kind):
    path = files.write_packed(tmp_path / "own_name.bin", [b"a", b"b"] * 20, [True, False] * 10)
    opened = open_protocol(kind, path)
    names = {"lfw": "LFW", "agedb30": "AgeDB-30", "calfw": "CALFW", "cplfw": "CPLFW", "pairs": "own_name"}
    assert opened.protocol.name == f"{names.get(kind, kind.upper())}, 20 pairs, ten folds"
    assert isinstance(opened.images, PackedImages)
    assert opened.images.read(opened.protocol.images[1]) == b"b"
    with pytest.raises(ValueError, match="`root` must not be given"):
        open_protocol(kind, path, root=tmp_path)
    with pytest.raises(ValueError, match=f"`suffix` does not belong to {kind} from a .bin file"):
        open_protocol(kind, path, suffix=".png")


def test_what_is_missing_or_unknown(tmp_path):
    with pytest.raises(ValueError, match="kind='lfw2'"):
        open_protocol("lfw2", tmp_path)
    for kind in ("agedb30", "calfw", "cplfw"):
        with pytest.raises(ValueError, match=rf"must be a .bin file for {kind}"):
            open_protocol(kind, tmp_path / "pairs.txt")
    with pytest.raises(ValueError, match="`root` must be given for ytf"):
        open_protocol("ytf", files.write_ytf(tmp_path))
    with pytest.raises(ValueError, match="`distractors` must be given for megaface"):
        open_protocol("megaface", files.write_megaface(tmp_path) / "probes.json")
    with pytest.raises(NotADirectoryError, match="none"):
        open_protocol("lfw", files.write_lfw(tmp_path / "pairs.txt"), root=tmp_path / "none")


def test_options_arrive(tmp_path):
    opened = open_protocol("lfw", files.write_lfw(tmp_path / "pairs.txt"), suffix=".png")
    assert opened.protocol.images[0].endswith("_0001.png")
    opened = open_protocol("blufr", files.write_blufr_text(tmp_path / "lists"), suffix=".bmp")
    assert opened.protocol.images[0].endswith("_0001.bmp")
    opened = open_protocol("megaface", files.write_megaface(tmp_path) / "probes.json", distractors=7)
    assert opened.protocol.distractors == 7


def test_images_of_a_folder_stay_in_it(tmp_path):
    files.write(tmp_path / "secret.jpg", b"secret")
    files.write(tmp_path / "photos/Ada/1.jpg", b"a picture")
    os.symlink(tmp_path / "secret.jpg", tmp_path / "photos/Ada/2.jpg")
    os.symlink(tmp_path, tmp_path / "photos/up")
    os.symlink("1.jpg", tmp_path / "photos/Ada/3.jpg")
    images = FolderImages(tmp_path / "photos")
    assert images.read("Ada/1.jpg") == images.read("Ada/3.jpg") == b"a picture"
    for name in (
        "../secret.jpg",
        "Ada/../../secret.jpg",
        os.fspath(tmp_path / "secret.jpg"),
        "Ada/2.jpg",
        "up/secret.jpg",
    ):
        with pytest.raises(ValueError, match=r"stays in|leads out"):
            images.read(name)
    with pytest.raises(FileNotFoundError):
        images.read("Ada/4.jpg")
    assert images.missing(["Ada/4.jpg", "Ada/1.jpg", "Ada"]) == ["Ada/4.jpg", "Ada"]
