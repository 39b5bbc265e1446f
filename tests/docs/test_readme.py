"""The README's code runs, top to bottom, as it stands."""

import re
from pathlib import Path

import pytest

from tests.support import faces

README = Path(__file__).parents[2] / "README.md"


def test_the_code_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / "photos", 5, 8)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert "EER" in capsys.readouterr().out
    assert (tmp_path / "runs/readme/embedding/saved_model.pb").is_file()
    assert namespace["softmax_loss_lower_bound"](10575, 1.0) == pytest.approx(8.27, abs=0.005)


def test_files_and_targets_that_the_readme_names_exist():
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)\b", text)):
        if target in ("demo", "test") or "-" in target:
            assert f"\n{target}:" in makefile, target
    for name in re.findall(r"`((?:examples|benchmarks|docs|tests)/[\w./-]+)`", text):
        assert (README.parent / name).exists(), name
    for name in re.findall(r"\]\(((?!http)[\w./-]+)\)", text):
        assert (README.parent / name).exists(), name
