"""`enrol`, `identify` and `gallery`: from photos to names, and one line for whatever is refused."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_normface.cli import _choices
from keras_normface.cli._app import app
from keras_normface.cli._console import FAILED
from keras_normface.gallery import METHODS, Gallery
from keras_normface.inference import Embedder
from tests.support import markdown, ready
from tests.support.postgres import PostgresServer


def call(*arguments):
    result = CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def good(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments):
    """The one line on standard error that is no progress."""
    result = call(*arguments)
    assert result.exit_code == FAILED, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture(scope="module")
def network():
    return ready.ready_network()


@pytest.fixture(autouse=True)
def installed(monkeypatch, network):
    """The ready network is the tiny one, and two faces are found everywhere but in black."""
    monkeypatch.setattr("keras_normface.backbones.pretrained", lambda name: network)
    monkeypatch.setattr("keras_normface.prepare._aligner.Mtcnn", lambda: ready.found_at)


@pytest.fixture(scope="module")
def server():
    started = PostgresServer()
    yield started
    started.close()


@pytest.fixture
def photos(tmp_path):
    return ready.write_photos(tmp_path / "photos")


@pytest.fixture
def folder(tmp_path, photos):
    """Two people: Ada with two photos, Bob with one; and a file that is no photo."""
    for name, path in (("Ada", photos[0]), ("Ada", photos[1]), ("Bob", photos[3])):
        (tmp_path / "people" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "people" / name / f"{path.parent.name}.png")
    (tmp_path / "people" / "Ada" / "notes.txt").write_text("x")
    return tmp_path / "people"


@pytest.fixture
def gallery(tmp_path, folder):
    good("enrol", tmp_path / "a.gallery", folder)
    return tmp_path / "a.gallery"


@pytest.fixture
def black(tmp_path):
    Image.new("RGB", (130, 150)).save(tmp_path / "black.png")
    return tmp_path / "black.png"


def test_the_methods_are_those_of_the_library():
    assert _choices.FPIR_METHODS == METHODS


def test_a_folder_of_people_is_enrolled_once(tmp_path, folder):
    first = call("enrol", tmp_path / "a.gallery", folder)
    assert first.exit_code == 0, first.output
    assert "Not taken: 1 files" in first.stderr
    assert rows(first.stdout)["enrolled now"] == "3"
    again = rows(good("enrol", tmp_path / "a.gallery", folder))
    assert (again["enrolled now"], again["enrolled before"], again["people in the gallery"]) == ("0", "3", "2")
    assert good("gallery", "list", tmp_path / "a.gallery").split() == ["2", "Ada", "1", "Bob"]
    assert good("gallery", "check", tmp_path / "a.gallery") == "2 people, 0 faults\n"


def rows(table):
    """The rows of a table of two columns."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if "│" in line]
    return {cell[0]: cell[1] for cell in cells}


def test_one_person_by_name(tmp_path, photos):
    path, name = tmp_path / "a.gallery", 'O\'Brien "Bob"; --\nx'
    good("enrol", path, photos[0], tmp_path / "photos", "--name", name)
    with Gallery(path) as opened:
        assert opened.subjects() == [(name, 4)]
    assert good("gallery", "list", path) == '     4  O\'Brien "Bob"; --\\nx\n'
    assert good("gallery", "remove", path, name) == 'Removed: O\'Brien "Bob"; --\\nx\n'
    assert good("gallery", "list", path) == ""


def test_identify_says_who_it_is(gallery, folder, photos, network, tmp_path):
    shown = good("identify", gallery, folder, photos[2], "--threshold", "0.9999").splitlines()
    assert shown[2] == f"{folder}/Bob/p3.png: Bob (cosine 1.0000, threshold 0.9999)"
    assert shown[3].startswith(f"{photos[2]}: unknown (best: ")
    answer = json.loads(good("identify", gallery, photos[3], "--json", "--candidates", "1"))
    assert (answer["subjects"], answer["fingerprint"]) == (2, Embedder(network, detect=ready.found_at).fingerprint)
    assert answer["threshold"]["cosine"] == ready.THRESHOLD.cosine
    ((face,),) = [photo["faces"] for photo in answer["photos"]]
    assert face["name"] == "Bob"
    assert [candidate["name"] for candidate in face["candidates"]] == ["Bob"]


def test_every_face_from_left_to_right(gallery, photos, black, network):
    answer = json.loads(good("identify", gallery, photos[3], black, "--every-face", "--json"))
    first, second = answer["photos"]
    assert second["faces"] == []
    boxes = [face["box"] for face in first["faces"]]
    assert len(boxes) == 2
    assert boxes == sorted(boxes)
    with Gallery(gallery) as opened:
        faces, vectors = Embedder(network, detect=ready.found_at).embed_every_face(photos[3])
        scores = [opened.identify(row, threshold=0).candidates[0].score for row in vectors]
    assert [face["candidates"][0]["score"] for face in first["faces"]] == pytest.approx(scores, abs=1e-5)
    assert [list(face.box) for face in faces] == boxes
    assert f"{black}: no face" in good("identify", gallery, black)


def test_a_rate_among_those_who_are_enrolled(tmp_path, gallery, photos):
    shown = good("identify", gallery, photos[3], "--fpir", "0.4").splitlines()
    assert shown[0].startswith("Cosine ")
    assert "FPIR 40 % among 2 subjects; measured: " in shown[0]
    answer = json.loads(good("identify", gallery, photos[3], "--fpir", "0.9", "--method", "independent", "--json"))
    assert answer["threshold"]["method"] == "independent"
    assert "--fpir" in refused("identify", gallery, photos[3], "--fpir", "0.4", "--threshold", "0.5")
    assert "`fpir` must be at least 1/3" in refused("identify", gallery, photos[3], "--fpir", "0.001")


def test_merge_and_export(gallery, tmp_path):
    good("gallery", "merge", gallery, "Bob", "Ada")
    assert good("gallery", "list", gallery).split() == ["3", "Ada"]
    good("gallery", "export", gallery, tmp_path / "all.csv")
    with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["name", "Ada", "Ada", "Ada"]
    good("gallery", "export", gallery, tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["embeddings"].shape == (3, 6)
    assert "`path` must end in" in refused("gallery", "export", gallery, tmp_path / "all.txt")


def test_copy(gallery, tmp_path):
    to = tmp_path / "copy.gallery"
    done = good("gallery", "copy", gallery, to)
    assert done == f"Copied: 2 people, 3 embeddings, as many as {gallery} holds\n"
    assert good("gallery", "list", to) == good("gallery", "list", gallery)
    assert "`path` must be that of a gallery with nobody in it" in refused("gallery", "copy", gallery, to)


def test_an_index_is_built_and_shown(gallery, photos):
    first, second = good("gallery", "check", gallery, "--index").splitlines()
    assert first == "2 people, 0 faults"
    assert second.startswith("index of 2 of 2 subjects; recall 100.00 % of the five nearest others of 2 of them; built")
    for options in ((), ("--exact",)):
        answer = json.loads(good("identify", gallery, photos[3], "--json", *options))
        assert answer["search"] == {"exact": True, "recall": 1.0}


@pytest.mark.parametrize(("options", "exact"), [((), False), (("--exact",), True)])
def test_a_large_gallery_is_searched_by_its_index(gallery, photos, monkeypatch, options, exact):
    monkeypatch.setattr("keras_normface.gallery._index.LEAST_SUBJECTS", 2)
    answer = json.loads(good("identify", gallery, photos[3], "--json", *options))
    assert answer["search"] == {"exact": exact, "recall": 1.0}
    assert answer["photos"][0]["faces"][0]["name"] == "Bob"


def test_damage_is_exit_code_1(gallery):
    with Gallery(gallery) as opened:
        opened._database._connection.execute("DELETE FROM template WHERE subject = 1")
    result = call("gallery", "check", gallery)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["Ada has no template", "? people, 1 faults"]
    content = gallery.read_bytes()
    gallery.write_bytes(content[: len(content) - 16384])
    result = call("gallery", "check", gallery)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("? people, ")


def test_one_photo_that_is_corrupt_does_not_hide_the_others(gallery, tmp_path, photos):
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "b.jpg").write_text("text")
    shutil.copy(photos[3], tmp_path / "album" / "c.png")
    for options in ((), ("--every-face",)):
        result = call("identify", gallery, tmp_path / "album", "--threshold", "0.9999", *options)
        assert result.exit_code == FAILED
        first, *others = result.stdout.splitlines()
        assert first.startswith(f"{tmp_path}/album/b.jpg: error: ")
        assert any("Bob (cosine 1.0000" in line for line in others)
    answer = json.loads(call("identify", gallery, tmp_path / "album", "--json").stdout)
    assert list(answer["photos"][0]) == ["image", "error"]
    assert answer["photos"][1]["faces"][0]["name"] == "Bob"


def test_several_are_removed_and_no_line_is_forged(gallery, tmp_path):
    out = tmp_path / "x\nError: forged\n.csv"
    assert len(good("gallery", "export", gallery, out).splitlines()) == 1
    assert "`names`" in refused("gallery", "remove", gallery, "Ada", "nobody")
    assert good("gallery", "remove", gallery, "Ada", "Bob") == "Removed: Ada, Bob\n"
    with Gallery(gallery) as opened:
        opened.enrol_embeddings(["Eve"], np.eye(6)[:1])
    reader = sqlite3.connect(gallery, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM subject").fetchone()
    result = call("gallery", "remove", gallery, "Eve")
    assert (result.exit_code, result.stdout) == (0, "Removed: Eve\n")
    assert "at the next change" in result.stderr
    reader.close()


def test_photos_without_a_face(tmp_path, folder, black):
    shutil.copy(black, folder / "Ada" / "black.png")
    assert "black.png holds no face" in refused("enrol", tmp_path / "a.gallery", folder)
    result = call("enrol", tmp_path / "a.gallery", folder, "--skip-no-face")
    assert result.exit_code == 0, result.output
    assert "1 photos hold no face that is found: " in result.stderr
    assert rows(result.stdout)["without a face"] == "1"


def test_what_is_refused(tmp_path, gallery, folder, photos, monkeypatch):
    for arguments, named in (
        (("enrol", tmp_path / "b", photos[0]), "--name must be given"),
        (("enrol", tmp_path / "b", folder, folder), "--name must be given"),
        (("enrol", tmp_path / "b", tmp_path / "nowhere"), "nowhere"),
        (("enrol", tmp_path / "b", folder, "--name", ""), "`name`"),
        (("enrol", tmp_path / "b", folder, "--model", tmp_path), "model.json"),
        (("enrol", tmp_path / "b", folder, "--aligned", "--skip-no-face"), "--skip-no-face"),
        (("enrol", photos[0], folder), "is not a gallery"),
        (("identify", tmp_path / "none", photos[0]), "does not exist"),
        (("identify", folder / "Ada" / "notes.txt", photos[0]), "is not a"),
        (("identify", gallery, photos[0], "--aligned", "--every-face"), "--every-face"),
        (("identify", gallery, photos[0], "--threshold", "nan"), "--threshold"),
        (("gallery", "remove", gallery, "nobody"), "`names`"),
        (("gallery", "merge", gallery, "Ada", "Ada"), "`into`"),
        (("gallery", "merge", gallery, "Ada", "nobody"), "`into`"),
        (("gallery", "list", tmp_path), "is a directory"),
        (("gallery", "lost", gallery), "lost"),
    ):
        assert named in refused(*arguments), arguments
    other = ready.ready_network(network=ready.network(ready.TEMPLATE.size, seed=1))
    monkeypatch.setattr("keras_normface.backbones.pretrained", lambda name: other)
    assert "holds embeddings of the model tiny" in refused("identify", gallery, photos[0])


def test_the_commands_of_the_page_run_in_their_order(tmp_path, monkeypatch, photos, server):
    lines = [line[1:] for line in markdown.shell_lines("docs/gallery.md")]
    assert [line[0] for line in lines[:3]] == ["enrol", "identify", "identify"]
    assert {line[1] for line in lines[3:-1]} == {"list", "remove", "merge", "export", "copy", "check"}
    shown, url = lines[-1][1], server.url("page")
    assert shown.startswith("postgresql://")
    monkeypatch.chdir(tmp_path)
    people = ["Ada Lovelace", "Ada Lovelace", "A. Lovelace", "Bob"]
    for number, name in enumerate(people):
        (tmp_path / "photos" / name).mkdir(exist_ok=True)
        shutil.move(photos[number], tmp_path / "photos" / name / f"{number}.png")
        photos[number].parent.rmdir()
    shutil.copytree(tmp_path / "photos", tmp_path / "album")
    shutil.copy(tmp_path / "photos" / "Bob" / "3.png", tmp_path / "party.jpg")
    for line in lines:
        # Four embeddings resolve no rate of 1 %; and who was removed is enrolled again for the next command.
        good(*(word.replace("0.01", "0.25").replace(shown, url) for word in line))
        if line[1] == "remove":
            good(*lines[0])
    assert good("gallery", "list", "people.gallery").split() == ["3", "Ada", "Lovelace", "1", "Bob"]
    assert good("gallery", "list", url) == good("gallery", "list", "people.gallery")


def test_a_reader_that_stops_early_is_no_error(gallery):
    code = "from keras_normface.cli.main import run; run()"
    command = [sys.executable, "-u", "-c", code, "gallery", "list", os.fspath(gallery)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == FAILED
    assert done.stderr == ""


def test_a_server_instead_of_a_file(server, tmp_path, folder, photos, gallery):
    server.execute("CREATE ROLE careful LOGIN SUPERUSER PASSWORD 's3cret'")
    url = server.url(user="careful:s3cret")
    shown = server.url(user="careful").replace("=/", "=%2F").replace("/pg-", "%2Fpg-")
    outputs = [good("enrol", url, folder)]
    assert rows(outputs[0])["people in the gallery"] == "2"
    answer = good("identify", url, photos[3], "--json", "--candidates", "2")
    in_file = json.loads(good("identify", gallery, photos[3], "--json", "--candidates", "2"))
    assert json.loads(answer) == {**in_file, "gallery": shown}
    assert good("gallery", "list", url) == good("gallery", "list", gallery)
    done = good("gallery", "copy", url, tmp_path / "copy")
    assert done == f"Copied: 2 people, 3 embeddings, as many as {shown} holds\n"
    done = good("gallery", "copy", gallery, server.url("second"))
    assert done == f"Copied: 2 people, 3 embeddings, as many as {gallery} holds\n"
    outputs += [answer, done, good("gallery", "export", url, tmp_path / "all.csv")]
    assert good("gallery", "check", url) == "2 people, 0 faults\n"
    outputs.append(good("gallery", "merge", url, "Bob", "Ada"))
    result = call("gallery", "remove", url, "Ada")
    assert (result.exit_code, result.stdout) == (0, "Removed: Ada\n")
    assert "keeps what was deleted" in result.stderr
    for arguments, named in (
        (("identify", server.url("nowhere"), photos[0]), "There is no gallery"),
        (("gallery", "list", url.replace("s3cret", "s3crets")), "cannot be reached"),
        (("gallery", "list", "postgresql://u:s3cret@127.0.0.1:1/db"), "cannot be reached"),
        (("gallery", "list", "mysql://u:s3cret@host/db"), "`path` must be"),
        (("gallery", "export", gallery, url), "`path` must be a file"),
        (("gallery", "copy", gallery, server.url("second")), "nobody in it"),
    ):
        outputs.append(refused(*arguments))
        assert named in outputs[-1], arguments
    assert not any("s3cret" in text for text in outputs)
