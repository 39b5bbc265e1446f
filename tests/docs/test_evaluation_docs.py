"""The code in docs/evaluation.md about the files of protocols runs as it stands, and its table names every kind."""

import re
from pathlib import Path

from keras_normface.protocols._open import KINDS
from tests.support import faces

TEXT = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_code_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = faces.write_folder(tmp_path / "photos", 10, 5)
    namespace = {}
    for block in BLOCKS:
        if "keras_normface.protocols" in block:
            exec(compile(block, "evaluation.md", "exec"), namespace)
    protocol = namespace["protocol"]
    assert protocol.name == "pairs, 80 pairs, 2 folds"
    assert namespace["encoded"] == [(photos / name).read_bytes() for name in protocol.images]
    assert [block.shape for block in namespace["features"]] == [(2, 8), (2, 8), (1, 8)]


def test_the_table_names_every_kind():
    cells = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
    named = {kind for cell in cells for kind in re.findall(r"`([^`]+)`", cell)}
    assert set(KINDS) <= named
