"""What the command shows: help at once, names of files escaped, TensorFlow's notices not at all."""

import glob
import json
import os
import subprocess
import sys
import warnings

import pytest
from typer.testing import CliRunner

from keras_normface import data, prepare, preprocessing, startup
from keras_normface._io import printable
from keras_normface.cli import _choices
from keras_normface.cli._app import app
from keras_normface.cli._console import progress_bar, say, say_warning, show_summary
from keras_normface.cli.main import run
from keras_normface.data.shards import METADATA_NAME
from keras_normface.inference import _card
from keras_normface.metrics.bootstrap import REPEATS
from keras_normface.protocols.pairs import FLIPS
from tests.support import faces

COMMANDS = (
    "verify",
    "embed",
    "prepare",
    "align",
    "pairs",
    "train",
    "finetune",
    "compare-losses",
    "evaluate",
    "export",
    "show",
    "enrol",
    "identify",
    "gallery",
)
HEAVY = ("tensorflow", "keras", "numpy", "scipy", "sklearn", "matplotlib", "PIL")
HELP = """
import sys
sys.argv[1:] = {arguments!r}
from keras_normface.cli.main import run
try:
    run()
finally:
    print([name for name in {heavy!r} if name in sys.modules])
"""
# What a terminal obeys: escape sequences, C1's own, carriage return, bidi overrides, line separators.
NASTY = "a\x1b[31mb\x07\x9b2J\r\x7f\u202egpj\u2066\u2028\u2029\x85c"
ESCAPED = r"a\x1b[31mb\x07\x9b2J\r\x7f\u202egpj\u2066\u2028\u2029\x85c"


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_imports_nothing_that_computes_and_prints_nothing_else(command):
    arguments = ["--help"] if command is None else [command, "--help"]
    script = HELP.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    *shown, loaded = done.stdout.splitlines()
    assert (done.returncode, done.stderr, loaded) == (0, "", "[]")
    assert shown[0].startswith("Usage: ")
    assert shown[-1].strip().split("  ")[0] == {None: "gallery", "gallery": "check"}.get(command, "--help")
    assert f"keras-normface {command or 'verify'} " in " ".join(shown)


def test_the_choices_are_those_of_the_library():
    assert tuple(data.READERS) == _choices.FORMATS
    assert tuple(preprocessing.TEMPLATES) == _choices.TEMPLATES
    assert tuple(prepare.ENCODINGS) == _choices.ENCODINGS
    assert tuple(prepare.NO_FACE_CHOICES) == _choices.NO_FACE
    assert (tuple(_card.FORMATS), _card.QUANTIZATIONS) == (_choices.EXPORT_FORMATS, _choices.QUANTIZATIONS)
    assert ("none", *FLIPS) == _choices.FLIPS
    assert (prepare.IMAGES_PER_SHARD, METADATA_NAME, REPEATS) == (
        _choices.IMAGES_PER_SHARD,
        _choices.METADATA_NAME,
        _choices.REPEATS,
    )
    assert set(_choices.PHOTO_FORMATS) < set(_choices.FORMATS)


def test_every_protocol_can_be_asked_for():
    from keras_normface.cli.evaluate import FAMILIES
    from keras_normface.protocols._open import KINDS

    assert set(FAMILIES) == set(KINDS)


def test_printable():
    assert printable(NASTY) == ESCAPED
    assert printable("Ünal 李 [/foo] é\u0301") == "Ünal 李 [/foo] é\u0301"
    assert printable("\udcff\ufeff\x00") == r"\udcff\ufeff\x00"


def test_lines_tables_bars_and_warnings_are_escaped(capsys):
    say(f"{NASTY}\n[/foo]")
    assert capsys.readouterr().out == f"{ESCAPED}\n[/foo]\n"
    show_summary([(f"[/foo] {NASTY}", "[bold]1")])
    shown = capsys.readouterr().out
    assert f"[/foo] {ESCAPED}" in shown
    assert "[bold]1" in shown
    with progress_bar(f"[/foo] {NASTY}") as report:
        report(1, 2)
    assert f"[/foo] {ESCAPED}" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = say_warning
        warnings.warn(f"[/foo] {NASTY}", RuntimeWarning, stacklevel=1)
    shown = capsys.readouterr().err
    assert shown.startswith(r"Warning: [/foo] a\x1b[31mb")
    assert shown.count("\n") == 1
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2028"} & set(shown)


def test_the_entry_point_shows_warnings_so(monkeypatch):
    monkeypatch.setattr("keras_normface.cli._app.app", lambda: None)
    with warnings.catch_warnings():
        run()
        assert warnings.showwarning is say_warning


def raw(text):
    """What of a text a terminal would obey."""
    return [letter for letter in text if not letter.isprintable() and letter != "\n"]


def call(*arguments):
    result = CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not raw(result.output)
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", f"nowhere {NASTY}", "out"],
        ["evaluate", NASTY],
        [NASTY],
        [f"--{NASTY}"],
        ["prepare", f"--{NASTY}"],
        ["align", f"nowhere {NASTY}", "out"],
    ],
)
def test_arguments_that_are_refused_are_escaped(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert r"\x1b[31mb" in result.stderr


def test_names_of_files_and_markup_are_shown_escaped(tmp_path):
    name = "a\x1b[31mb\u202e [/foo]"
    photos = faces.write_folder(tmp_path / name)
    (photos / "0000001" / "001.jpg").write_bytes(b"")
    result = call("prepare", photos, tmp_path / "out", "--validate")
    assert result.exit_code == 0, result.output
    refused = call("prepare", photos, tmp_path / "new", "--size", NASTY)
    assert refused.exit_code == 2
    assert ESCAPED in refused.stderr
    again = call("prepare", photos, tmp_path / "out", "--validate", "--strict")
    assert again.exit_code == 2
    stored = tmp_path / "out" / "dataset.json"
    content = json.loads(stored.read_text())
    content["skipped"] = [[0, f"{reason} [/foo]\x1b: {NASTY}"] for _, reason in content["skipped"]]
    stored.write_text(json.dumps(content))
    result = call("prepare", photos, tmp_path / "out", "--validate")
    assert "Traceback" not in result.output
    lost = call("pairs", photos, tmp_path / name / "pairs.tsv", "--exclude", NASTY)
    assert lost.exit_code == 2
    assert r"a\x1b[31mb" in lost.stderr


NOTICES = ("cuda", "cuInit", "cuFFT", "CPU instructions", "InitializeLog", "oneDNN")


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.skipif(any(glob.glob(device) for device in startup.GPU_DEVICES), reason="the machine has a GPU")
def test_a_command_shows_no_notice_of_tensorflow_and_shows_an_error(tmp_path, jobs):
    photos = faces.write_folder(tmp_path / "photos")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "keras_normface.cli", "prepare", photos, tmp_path / "out", "--jobs", jobs]
    options = {"capture_output": True, "text": True, "timeout": 240, "env": environment}
    done = subprocess.run([*command, "--images-per-shard", "6"], **options)
    assert done.returncode == 0, done.stderr
    assert not [notice for notice in NOTICES if notice in done.stderr], done.stderr
    if jobs == "1":
        (photos / "0000001" / "001.jpg").write_bytes(b"")
        command[-3] = tmp_path / "other"
        done = subprocess.run([*command, "--validate", "--strict"], **options)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("Error: 0000001/001.jpg: zero bytes")
        assert not [notice for notice in NOTICES if notice in done.stderr], done.stderr
