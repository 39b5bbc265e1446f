"""Ctrl-C, directories that cannot be written to, image bombs, and a cache whose writer was killed."""

import builtins
import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_normface.cli._app import app
from keras_normface.cli._console import FAILED
from keras_normface.cli.main import run
from keras_normface.inference import Embedder
from keras_normface.metrics import Result
from keras_normface.prepare._align import AlignRun, ImageTree
from keras_normface.prepare._workers import ShardWriter
from tests.support import bombs, faces, products
from tests.support import protocol_files as files


def call(*arguments):
    result = CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def tree(directory):
    """Content of the files below a directory."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def arguments(tmp_path, model, monkeypatch):
    """Of each command, all but where it writes."""
    monkeypatch.setattr("keras_normface.prepare._align.Mtcnn", lambda: lambda images: [[] for _ in images])
    photos = faces.write_folder(tmp_path / "photos", 4, 3)
    lfw = [*products.prepared("lfw", tmp_path / "lfw"), "--model", model, "--repeats", "0"]
    return {
        "align": ["align", photos, "--no-face", "center", "--batch", "2"],
        "prepare": ["prepare", photos, "--shards", "3"],
        "pairs": ["pairs", photos, "--folds", "2", "--pairs-per-fold", "1"],
        "evaluate": ["evaluate", *lfw],
    }


def interrupt(count, method):
    """The method of a class, but SIGINT arrives before its call number `count`."""
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == count:
            signal.raise_signal(signal.SIGINT)
        return method(*arguments, **options)

    return interrupted


@pytest.fixture
def sigint():
    """As at a terminal: in some test runners' processes SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("command", "owner", "method", "count"),
    [
        ("align", ImageTree, "write", 1),
        ("align", ImageTree, "write", 6),
        ("prepare", ShardWriter, "_check", 6),
        ("prepare", ShardWriter, "write", 3),
        ("evaluate", Embedder, "_embedded", 2),
    ],
)
def test_ctrl_c_is_one_line_and_the_same_command_resumes(
    arguments, tmp_path, monkeypatch, sigint, command, owner, method, count
):
    monkeypatch.setattr("keras_normface.inference._store.CHUNK_IMAGES", 4)
    output = ["--out"] if command == "evaluate" else []
    whole, cut = ([*arguments[command], *output, tmp_path / name] for name in ("whole", "cut"))
    assert call(*whole).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, interrupt(count, getattr(owner, method)))
        result = call(*cut)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Interrupted. Run the same command again to resume."
    assert result.stdout == ""
    left = tree(tmp_path / "cut")
    assert not [name for name in left if ".writing-" in name or name.endswith(".lock")]
    expected = tree(tmp_path / "whole")
    aside = ("align.jsonl.part", "plan.json", ".entry.json", ".npz")
    assert all(expected[name] == content for name, content in left.items() if not name.endswith(aside))
    assert call(*cut).exit_code == 0
    if command != "evaluate":
        assert tree(tmp_path / "cut") == expected
    else:
        one, two = (Result.load(tmp_path / name / "result.json").figures for name in ("whole", "cut"))
        assert one == two


def test_ctrl_c_does_not_wait_for_what_is_queued(arguments, tmp_path, monkeypatch, sigint):
    for command, owner, method in (
        (["evaluate", *arguments["evaluate"][1:], "--batch-size", "1"], Embedder, "_embedded"),
        ([*arguments["align"][:-1], "6", "--jobs", "1", tmp_path / "out"], AlignRun, "_detected"),
    ):
        decoded, decode = [], owner._decoded

        def slow(self, *task, decode=decode, decoded=decoded):
            time.sleep(0.1)
            decoded.append(task)
            return decode(self, *task)

        with monkeypatch.context() as patch:
            patch.setattr(owner, "_decoded", slow)
            patch.setattr(owner, method, interrupt(1, getattr(owner, method)))
            result = call(*command)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("Interrupted. ")
        # Of twelve photos, six are in the first step and one or two run; of the images, one and up to two at once.
        assert len(decoded) <= (8 if owner is AlignRun else 5)


def test_an_image_that_fails_in_a_thread_ends_the_command_before_what_is_queued(arguments, monkeypatch):
    decoded, failed, decode = [], [], Embedder._decoded

    def slow(self, paths, names):
        decoded.append(names)
        if len(decoded) == 2:
            failed.append(os.path.basename(paths[0]))
            paths = [b"no image"]
        time.sleep(0.1)
        return decode(self, paths, names)

    monkeypatch.setattr(Embedder, "_decoded", slow)
    result = call(*arguments["evaluate"], "--batch-size", "1")
    assert result.exit_code == FAILED
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert sum("Error" in line for line in result.stderr.splitlines()) == 1
    assert failed[0] in result.stderr
    assert len(decoded) <= 5


def test_ctrl_c_while_the_command_is_imported_is_one_line(monkeypatch, capsys):
    found = builtins.__import__

    def interrupted(name, *arguments, **options):
        if name == "keras_normface.cli._app":
            raise KeyboardInterrupt
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "Interrupted. Nothing was saved.\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals to a group of processes")
@pytest.mark.parametrize("seconds", [0.5, 8])
def test_ctrl_c_reaches_all_processes_of_prepare(tmp_path, seconds):
    """After half a second the workers are starting, later they import TensorFlow."""
    photos = faces.write_folder(tmp_path / "photos", 4, 10)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "keras_normface.cli", "prepare", photos, out, "--shards", "4", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 200
        while not (out / "plan.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        _, shown = process.communicate(timeout=200)
    assert "Traceback" not in shown
    if not (out / "dataset.json").exists():  # it was not too late
        assert process.returncode == 2
        assert shown.splitlines()[-1] == "Interrupted. Run the same command again to resume."
        assert not [path for path in out.iterdir() if path.name.startswith(".writing-")]
    assert call("prepare", photos, out, "--shards", "4", "--jobs", "1").exit_code == 0
    assert call("prepare", photos, tmp_path / "whole", "--shards", "4", "--jobs", "1").exit_code == 0
    assert tree(out) == tree(tmp_path / "whole")


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A directory on a file system mounted to be read; modes would not keep root from writing."""
    directory = tmp_path / "read-only"
    directory.mkdir()
    opened, opened_low, made = builtins.open, os.open, os.mkdir

    def refuse(path):
        if not isinstance(path, int) and os.fspath(path).startswith(os.fspath(directory)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))

    def open_file(path, mode="r", *arguments, **options):
        if set(mode) & set("wxa+"):
            refuse(path)
        return opened(path, mode, *arguments, **options)

    def open_low(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return opened_low(path, flags, *arguments, **options)

    def make(path, *arguments, **options):
        if not os.path.isdir(path):
            refuse(path)
        made(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", open_file)
    monkeypatch.setattr("io.open", open_file)
    monkeypatch.setattr(os, "open", open_low)
    monkeypatch.setattr(os, "mkdir", make)
    return directory


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("align", []),
        ("prepare", []),
        ("pairs", []),
        ("evaluate", ["--out"]),
        ("evaluate", ["--cache"]),
        ("evaluate", ["--save-embeddings"]),
    ],
)
def test_where_nothing_can_be_written_one_line_names_the_place(arguments, tmp_path, read_only, command, option):
    (tmp_path / "file").write_bytes(b"content")
    name = {"pairs": "pairs.tsv", "--save-embeddings": "e.npz"}.get(option[0] if option else command, "out")
    for place in (read_only, tmp_path / "file"):
        result = call(*arguments[command], *option, place / name)
        assert result.exit_code == 2
        assert os.fspath(place) in result.stderr.splitlines()[-1]
    if command in ("align", "prepare") or option == ["--out"]:
        result = call(*arguments[command], *option, read_only)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("Error: [Errno 30] Read-only file system")
        assert os.fspath(read_only) in result.stderr.splitlines()[-1]
        assert "images embedded" not in result.stderr
    assert list(read_only.iterdir()) == []
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("make", [bombs.png, bombs.jpeg])
@pytest.mark.parametrize("side", [60_000, 9_900])
def test_evaluate_names_an_image_bomb_and_does_not_decode_it(arguments, tmp_path, model, make, side):
    resource = pytest.importorskip("resource")
    bomb = make(side, side)
    image = sorted((tmp_path / "lfw" / "images").rglob("*.jpg"))[1]
    image.write_bytes(bomb)
    pair = [products.face("Ada", 0), products.face("Ada", 1), products.face("Bob", 0), bomb] * 5
    packed = files.write_packed(tmp_path / "agedb_30.bin", pair, [True, False] * 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for options in ([], ["--resize"]):
        for command, name in (
            (arguments["evaluate"], image.name),
            (["evaluate", "agedb30", "--protocol-file", packed, "--model", model, "--repeats", "0"], "agedb_30/3"),
        ):
            result = call(*command, *options)
            assert result.exit_code == 2
            message = result.stderr.splitlines()[-1]
            assert f"{name} is too large" in message
            assert f"{side * side:,} pixels" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024  # KiB; one decoded has 294 MB


KILLED_WHILE_WRITING = """
import os, signal, sys
import numpy as np
from keras_normface.cli.main import run
from keras_normface.inference import _store

_store.CHUNK_IMAGES, save, chunks = 4, np.savez, []

def half(file, **arrays):
    save(file, **arrays)
    chunks.append(file)
    if len(chunks) == 2:
        file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

np.savez = half
run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_cache_whose_writer_was_killed_gives_the_same_figures(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_normface.inference._store.CHUNK_IMAGES", 4)
    command = [*arguments["evaluate"], "--out", tmp_path / "cut"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *map(os.fspath, command)],
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    (torn,) = (tmp_path / "cut" / "cache").glob("*/.writing-*")
    assert len(list((tmp_path / "cut" / "cache").glob("*/*.npz"))) == 1
    again = call(*command)
    assert again.exit_code == 0
    assert ", 4 taken from the cache" in again.stderr  # of the chunk that was whole
    assert torn.exists()  # another process might be writing it
    assert call(*arguments["evaluate"], "--out", tmp_path / "whole").exit_code == 0
    one, two = (Result.load(tmp_path / name / "result.json").figures for name in ("cut", "whole"))
    assert one == two
    assert np.isfinite([figure.value for figure in one]).all()
    os.utime(torn, (0, 0))
    next((tmp_path / "cut" / "cache").glob("*/*.npz")).unlink()
    assert call(*command).exit_code == 0
    assert not torn.exists()
