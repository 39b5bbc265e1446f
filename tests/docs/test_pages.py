"""Every page of the documentation: its code runs in order as it stands, and what it names is there."""

import re

import numpy as np
import pytest

from keras_normface.metrics import Result
from tests.support import faces, markdown


def check_readme(namespace, directory, shown):
    assert "EER" in shown
    assert (directory / "runs/readme/embedding/saved_model.pb").is_file()
    assert namespace["softmax_loss_lower_bound"](10575, 1.0) == pytest.approx(8.27, abs=0.005)


def check_methods(namespace, directory, shown):
    assert set(namespace["history"]) == {"loss", "accuracy", "target_angle_degrees"}


def check_distillation(namespace, directory, shown):
    assert len(namespace["history"]["loss"]) == 2
    assert np.isfinite(namespace["history"]["loss"]).all()


def check_data(namespace, directory, shown):
    assert namespace["images"].shape == (16, 112, 92, 3)
    assert len(namespace["prepared"]) == len(namespace["faces"]) == 40
    report = namespace["report"]
    assert report.aligned + report.no_face == 2


def check_backbones(namespace, directory, shown):
    assert shown.strip().isdigit()


def check_recipes(namespace, directory, shown):
    assert "am_softmax_casia" in shown
    assert "was 30000" in shown
    assert namespace["history"].epoch == [0]
    assert namespace["again"] == namespace["small"]
    assert np.isfinite(namespace["history"].history["loss"]).all()


def check_evaluation(namespace, directory, shown):
    assert Result.load("result.json")["TAR@FAR=1e-01"].interval is not None
    protocol = namespace["protocol"]
    assert protocol.name == "pairs, 80 pairs, 2 folds"
    assert namespace["encoded"] == [(name, (directory / "photos" / name).read_bytes()) for name in protocol.images]
    assert len(namespace["rows"]) == len(protocol.images)
    assert [block.shape for block in namespace["features"]] == [(2, 8), (2, 8), (1, 8)]


def check_verify(namespace, directory, shown):
    assert namespace["rows"].shape == (2, 16)
    assert float(shown) == pytest.approx(float(namespace["rows"][0] @ namespace["rows"][1]), abs=1e-6)


def check_gallery(namespace, directory, shown):
    identified, threshold, verified = shown.splitlines()
    assert re.match(r"(Ada|Bob|Eve) \(cosine |unknown \(best: ", identified)  # by a network with random weights
    assert "FPIR 50 % among 3 subjects" in threshold
    assert verified in ("Bob", "None")
    with np.load(directory / "people.npz") as arrays:
        assert sorted(arrays["names"]) == ["Ada", "Ada", "Bob", "Bob"]


# What a page finds in its directory (identities and images of each), and what must have come of its code.
PAGES = {
    "README.md": ({"photos": (5, 8)}, check_readme),
    "docs/methods.md": ({}, check_methods),
    "docs/data.md": ({"photos": (5, 8), "lfw": (1, 2)}, check_data),
    "docs/backbones.md": ({}, check_backbones),
    "docs/distillation.md": ({}, check_distillation),
    "docs/recipes.md": ({"photos": (3, 4)}, check_recipes),
    "docs/verify.md": ({"photos": (1, 2)}, check_verify),
    "docs/gallery.md": ({"photos": (3, 3)}, check_gallery),
    "docs/evaluation.md": ({"photos": (10, 5)}, check_evaluation),
}
# These have tests of their own: they start processes, compare what is printed, or need files of other kinds.
ELSEWHERE = {"docs/casia.md", "docs/million.md", "docs/tensorflow_addons.md", "docs/training.md"}


def test_no_page_with_code_is_passed_over():
    assert {page for page in markdown.PAGES if markdown.blocks(page)} == {*PAGES, *ELSEWHERE}


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs_in_order(page, tmp_path, monkeypatch, capsys):
    folders, check = PAGES[page]
    monkeypatch.chdir(tmp_path)
    for name, (people, images) in folders.items():
        faces.write_folder(tmp_path / name, people, images)
    check(markdown.run(page), tmp_path, capsys.readouterr().out)


@pytest.mark.parametrize("page", markdown.PAGES)
def test_files_and_make_targets_that_a_page_names_exist(page):
    assert not [name for name in markdown.named_files(page) if not (markdown.ROOT / name).exists()]
    makefile = markdown.read("Makefile")
    for target in set(re.findall(r"make ([a-z-]+)\b", markdown.read(page))):
        if target in ("demo", "test") or "-" in target:
            assert f"\n{target}:" in makefile, target
