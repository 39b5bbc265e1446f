"""Versioned JSON: what is written comes back, and what is not of the format is refused with the file's name."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from keras_normface._io import (
    JsonFormat,
    LockedError,
    atomic_write,
    files_below,
    json_text,
    locked,
    parse_json,
    read_bounded,
    remove_unfinished,
    write_text,
)

FORMAT = JsonFormat("keras_normface.toy", 3)


def test_a_file_begins_with_format_and_version_and_comes_back(tmp_path):
    content = {"names": ["é", "\udce9", "a"], "share": 0.1, "none": None}
    FORMAT.write(tmp_path / "toy.json", content)
    written = (tmp_path / "toy.json").read_bytes()
    assert written.startswith(b'{\n  "format": "keras_normface.toy",\n  "version": 3,\n')
    assert written.endswith(b"}\n")
    assert FORMAT.read(tmp_path / "toy.json") == content
    assert os.listdir(tmp_path) == ["toy.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "keras_normface.other"}, "`format` must be 'keras_normface.toy'. Received: .*other"),
        ({"format": None}, "`format`"),
        ({"version": 4}, "`version` must be 3. Received: version=4"),
        ({"version": "3"}, "`version`"),
        ({"version": 3.0}, "`version`"),
        ({"version": True}, "`version`"),
    ],
)
def test_another_format_or_version_is_refused(tmp_path, change, message):
    path = tmp_path / "toy.json"
    path.write_text(json.dumps({"format": "keras_normface.toy", "version": 3, **change}))
    with pytest.raises(ValueError, match=rf"toy\.json is not valid: {message}"):
        FORMAT.read(path)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'"a"', b"{", b"[" * 100_000, b"9" * 10_000, b"\xff", b'{"a": NaN}', b'{"a": -Infinity}']
)
def test_what_is_not_json_is_refused(tmp_path, text):
    (tmp_path / "toy.json").write_bytes(text)
    with pytest.raises(KeyError, match=r"toy\.json is not valid: it "):
        FORMAT.read(tmp_path / "toy.json", error=KeyError)


def test_the_size_is_bounded(tmp_path):
    FORMAT.write(tmp_path / "toy.json", {"a": 1})
    size = (tmp_path / "toy.json").stat().st_size
    assert FORMAT.read(tmp_path / "toy.json", size) == {"a": 1}
    with pytest.raises(ValueError, match=rf"toy\.json is not valid: it must have at most {size - 1} bytes"):
        FORMAT.read(tmp_path / "toy.json", size - 1)


def test_a_missing_file_remains_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "toy.json", parse_json)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        FORMAT.write(tmp_path / "toy.json", {"a": value})
    assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a", json_text({"a": 1}))
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(tmp_path / "a", "other")
    assert parse_json((tmp_path / "a").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "a" * 235, "a.json"])
def test_a_name_of_any_length_is_written(tmp_path, name):
    for content in ("one", "two"):
        write_text(tmp_path / name, content)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "two"
    with atomic_write(tmp_path / name) as first, atomic_write(tmp_path / (name[:-1] + "b")) as second:
        assert first != second
        for path in (first, second):
            assert os.path.basename(path).startswith(".writing-")
            with open(path, "w"):
                pass


def test_the_holder_of_a_lock_is_given_time_to_note_who_it_is(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    noting = threading.Timer(0.3, (tmp_path / ".lock").write_text, ["process 7 on host x"])
    noting.start()
    with pytest.raises(LockedError, match="in use by another run: process 7 on host x"), locked(tmp_path):
        pass
    noting.join()
    os.truncate(tmp_path / ".lock", 0)
    with pytest.raises(LockedError, match="it left no note"), locked(tmp_path):
        pass
    os.close(descriptor)


def test_a_lock_that_is_a_link_or_a_fifo_is_refused_and_nothing_is_overwritten(tmp_path):
    victim, directory = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    directory.mkdir()
    (directory / ".lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.lock"), locked(directory):
        pass
    assert victim.read_text() == "mine"
    (directory / ".lock").unlink()
    os.mkfifo(directory / ".lock")
    with pytest.raises(OSError, match=r"\.lock"), locked(directory):
        pass


def test_a_lock_on_a_file_that_its_holder_has_removed_is_none(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock, note = fcntl.flock, tmp_path / ".lock"

    def slowly(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        note.unlink()  # its holder leaves, and another process makes the next one
        note.touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slowly)
    with locked(tmp_path):
        assert f"process {os.getpid()} " in note.read_text()
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), locked(tmp_path):
            pass
    assert not note.exists()


HOLDER = """
import os, sys, time
from keras_normface._io import locked
with locked(sys.argv[1]):
    if os.fork():
        print("locked", flush=True)
    time.sleep(60)
"""


def test_a_child_does_not_keep_the_lock_of_a_killed_process(tmp_path):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(LockedError, match=f"process {process.pid} "), locked(tmp_path):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_a_directory_that_cannot_be_synced_does_not_undo_what_was_written(tmp_path, monkeypatch):
    fsync = os.fsync

    def refused(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    with atomic_write(tmp_path / "a") as path, open(path, "w") as file:
        file.write("all")
    assert (tmp_path / "a").read_text() == "all"


def test_files_of_killed_processes_are_removed_once_nobody_writes_to_them(tmp_path):
    for name, age in ((".writing-old-1", 0), (".writing-new-2", None), ("old", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, None if age is None else (age, age))
    remove_unfinished(tmp_path, 3600)
    assert sorted(os.listdir(tmp_path)) == [".writing-new-2", "old"]
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_write_that_fails_names_the_file(tmp_path, code):
    with pytest.raises(OSError, match=r"a\.json") as caught, atomic_write(tmp_path / "a.json"):
        raise OSError(code, os.strerror(code))
    assert caught.value.filename == os.fspath(tmp_path / "a.json")


def test_files_below_are_all_or_an_error(tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    for name in ("b.png", "a/c.png", "a/.d"):
        (tmp_path / "root" / name).write_bytes(b"")
    assert files_below(tmp_path / "root") == ["a/.d", "a/c.png", "b.png"]
    with pytest.raises(OSError, match="nowhere"):
        files_below(tmp_path / "nowhere")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "a")
    with pytest.raises(ValueError, match="link is a link to a directory"):
        files_below(tmp_path / "root")
