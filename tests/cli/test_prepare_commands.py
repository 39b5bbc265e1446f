"""The command `keras-normface`, in this process and as a process of its own."""

import builtins
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from keras_normface.cli._app import app
from keras_normface.cli.main import run
from keras_normface.data import CASIA_LFW_OVERLAP, TFRecordShards
from tests.support import faces


def call(*arguments):
    result = CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def metadata(directory):
    return json.loads((directory / "dataset.json").read_text())


def one_line(result):
    """The message of a failure: one line after what the bar leaves."""
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return result.stderr.splitlines()[-1]


def test_the_format_is_inferred_from_the_path(tmp_path):
    faces.write_folder(tmp_path / "folder")
    (tmp_path / "listed").mkdir()
    faces.write_list(tmp_path / "listed" / "list.txt")
    (tmp_path / "records").mkdir()
    faces.write_record_io(tmp_path / "records" / "train")
    (tmp_path / "shards").mkdir()
    faces.write_shards(tmp_path / "shards")
    sources = ["folder", "listed/list.txt", "records", "records/train.rec", "shards"]
    kinds = ["IdentityFolder", "ImageList", "RecordIO", "RecordIO", "TFRecordShards"]
    for number, (source, kind) in enumerate(zip(sources, kinds, strict=True)):
        result = call("prepare", tmp_path / source, tmp_path / f"out{number}", "--images-per-shard", "5")
        assert result.exit_code == 0, result.output
        assert metadata(tmp_path / f"out{number}")["source"]["kind"] == kind
        assert [shard["samples"] for shard in metadata(tmp_path / f"out{number}")["shards"]] == [4, 4, 4]
    assert call("prepare", tmp_path / "records", tmp_path / "out", "--format", "folder").exit_code == 2


def test_the_table_counts_by_reason_and_a_second_run_does_nothing(tmp_path):
    photos = faces.write_folder(tmp_path / "photos")
    (photos / "0000001" / "001.jpg").write_bytes(b"")
    (photos / "0000001" / "002.jpg").write_bytes(b"<html>")
    (photos / "0000003" / "002.jpg").write_bytes(b"<html>")
    arguments = (
        "prepare",
        photos,
        tmp_path / "out",
        "--validate",
        "--size",
        "112x92",
        "--template",
        "sphereface_112x96",
    )
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    cells = [line.strip("│ ").split("│") for line in result.stdout.splitlines() if "│" in line]
    table = {name.strip(): value.strip() for name, value in cells}
    assert (table["images"], table["identities"]) == ("9", "3")
    assert (table["skipped"], table["zero bytes"], table["not an image"]) == ("3", "1", "2")
    stored = metadata(tmp_path / "out")
    assert (stored["image_size"], stored["template"]) == ([112, 92], "sphereface_112x96")
    again = call(*arguments)
    assert again.exit_code == 0
    assert "already complete" in again.stdout
    assert "0000001/001.jpg: zero bytes" in one_line(call(*arguments, "--strict"))
    message = one_line(call("prepare", photos, tmp_path / "out"))
    assert message.startswith("Error: ")
    assert "validate: then true, now false" in message


def test_what_is_not_taken_is_counted_and_listed(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 2, 2)
    (photos / "0000009").mkdir()
    for name in ("0000001/x.webp", "0000001/y.webp", "0000009/z\x1b.tif"):
        (photos / name).write_bytes(b"content")
    result = call("prepare", photos, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Not taken: 1 .tif, 2 .webp; the first is 0000001/x.webp\n" in result.stderr
    assert "Identities without an image: 0000009\n" in result.stderr
    cells = [line.strip("│ ").split("│") for line in result.stdout.splitlines() if "│" in line]
    table = {name.strip(): value.strip() for name, value in cells}
    assert (table["images"], table["skipped"]) == ("4", "4")
    assert (table["image of another kind"], table["identity without an image"]) == ("3", "1")
    for name in ("x.webp", "y.webp"):
        (photos / "0000001" / name).unlink()
    pairs = call("pairs", photos, tmp_path / "pairs.tsv", "--folds", "2", "--pairs-per-fold", "1")
    assert "the first is 0000009/z\\x1b.tif" in pairs.stderr


def test_exclusion(tmp_path):
    photos = faces.write_folder(tmp_path / "photos")
    famous = sorted(CASIA_LFW_OVERLAP)[0]
    (photos / "0000002").rename(photos / famous)
    overlap = "--exclude-lfw-overlap"
    for out, options, kept in (
        ("a", [overlap], ["0000001", "0000003"]),
        ("b", ["--exclude", "0000001", "--exclude", "0000003"], [famous]),
        ("c", [overlap, "--exclude", "0000001"], ["0000003"]),
    ):
        result = call("prepare", photos, tmp_path / out, *options)
        assert result.exit_code == 0, result.output
        assert metadata(tmp_path / out)["identities"] == kept
        assert TFRecordShards(tmp_path / out).num_identities == len(kept)
    assert metadata(tmp_path / "a")["excluded"] == sorted(CASIA_LFW_OVERLAP)
    assert metadata(tmp_path / "b")["excluded"] == ["0000001", "0000003"]
    assert "0000009" in one_line(call("prepare", photos, tmp_path / "d", "--exclude", "0000009"))


def test_root_and_identities(tmp_path):
    photos = faces.write_folder(tmp_path / "photos")
    (tmp_path / "list.txt").write_text("0000001/001.jpg 4\n0000003/002.jpg 9\n")
    result = call("prepare", tmp_path / "list.txt", tmp_path / "a", "--root", photos)
    assert result.exit_code == 0, result.output
    assert metadata(tmp_path / "a")["identities"] == ["4", "9"]
    faces.write_record_io(tmp_path / "train")
    (tmp_path / "names.txt").write_text("Ada\nGrace\nMary\n")
    result = call("prepare", tmp_path / "train.rec", tmp_path / "b", "--identities", tmp_path / "names.txt")
    assert result.exit_code == 0, result.output
    assert metadata(tmp_path / "b")["identities"] == ["Ada", "Grace", "Mary"]


def test_lines_of_identities_end_at_newlines_only(tmp_path):
    faces.write_record_io(tmp_path / "train")
    names, path = ["A\u2028da\x0c1", "G\x85race\x1e2\x0b3", "M\u2029ary\r4"], tmp_path / "names.txt"
    for end in ("\n", "\r\n"):
        path.write_bytes((end.join(names) + end).encode())
        result = call("prepare", tmp_path / "train.rec", tmp_path / f"out{len(end)}", "--identities", path)
        assert result.exit_code == 0, result.output
        assert metadata(tmp_path / f"out{len(end)}")["identities"] == names
    path.write_bytes(b"Ada\nGr\xe4ce\nMary\n")
    message = one_line(call("prepare", tmp_path / "train.rec", tmp_path / "c", "--identities", path))
    assert f"Line 2 of {path}" in message
    assert "UTF-8" in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--size", "112"], "112x96"),
        (["--size", "0x96"], "size"),
        (["--template", "half"], "--template"),
        (["--shards", "2", "--images-per-shard", "4"], "--shards"),
        (["--root", "."], "--root"),
        (["--identities", __file__], "--identities"),
        (["--jobs", "0"], "--jobs"),
        (["--format", "zip"], "--format"),
    ],
)
def test_wrong_arguments_are_exit_code_2(tmp_path, options, named):
    photos = faces.write_folder(tmp_path / "photos", people=1, images=1)
    result = call("prepare", photos, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_or_of_no_known_kind(tmp_path):
    assert call("prepare", tmp_path / "nowhere", tmp_path / "out").exit_code == 2
    (tmp_path / "faces.zip").write_bytes(b"PK")
    result = call("prepare", tmp_path / "faces.zip", tmp_path / "out")
    assert result.exit_code == 2
    assert "--format" in result.stderr
    (tmp_path / "train.rec").write_bytes(b"no records")
    assert "train.rec" in one_line(call("prepare", tmp_path / "train.rec", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    assert "empty" in one_line(call("prepare", tmp_path / "empty", tmp_path / "out"))


def test_help_has_an_example():
    result = call("prepare", "--help")
    assert result.exit_code == 0
    assert "keras-normface prepare faces_webface_112x112 shards/" in result.stdout
    assert "align" in call("--help").stdout


def test_without_typer_it_says_what_to_install(monkeypatch, capsys):
    found = builtins.__import__

    def without_typer(name, *arguments, **options):
        if name.partition(".")[0] == "typer":
            raise ModuleNotFoundError("No module named 'typer'", name="typer")
        return found(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("keras_normface.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_typer)
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    assert 'pip install "keras-normface[cli]"' in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_with_two_workers_writes_the_same_bytes(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", people=4, images=10)
    (photos / "0000002" / "004.jpg").write_bytes(b"")
    options = ["--shards", "4", "--validate"]
    command = [sys.executable, "-m", "keras_normface.cli", "prepare", photos, tmp_path / "two", *options, "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert call("prepare", photos, tmp_path / "one", *options, "--jobs", "1").exit_code == 0
    names = sorted(os.listdir(tmp_path / "one"))
    assert sorted(os.listdir(tmp_path / "two")) == names
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
