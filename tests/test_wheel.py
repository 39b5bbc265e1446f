"""A wheel holds all modules and the files that they read; its entry point is the command."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names in the wheel, and the text of its entry points; it is built of a copy, so that none of it stays here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "keras_normface", source / "keras_normface", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", out]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as file:
        (entries,) = (name for name in file.namelist() if name.endswith("entry_points.txt"))
        return set(file.namelist()), file.read(entries).decode()


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    names, _ = wheel
    kept = [path for path in (ROOT / "keras_normface").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in kept} >= {".py", ".json"}
    assert not {path.relative_to(ROOT).as_posix() for path in kept} - names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "benchmarks/"))]


def test_the_command_is_installed(wheel):
    _, text = wheel
    entries = configparser.ConfigParser()
    entries.read_string(text)
    assert dict(entries["console_scripts"]) == {"keras-normface": "keras_normface.cli.main:run"}
