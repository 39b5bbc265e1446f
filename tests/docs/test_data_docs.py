"""The code in docs/data.md runs as it stands."""

import re
from pathlib import Path

from tests.support import faces

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/data.md").read_text(), flags=re.DOTALL)


def test_the_code_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / "photos", 5, 8)
    faces.write_folder(tmp_path / "lfw", 1, 2)
    namespace = {}
    for block in BLOCKS:
        exec(compile(block, "data.md", "exec"), namespace)
    assert namespace["images"].shape == (16, 112, 92, 3)
    assert len(namespace["prepared"]) == len(namespace["faces"]) == 40
    report = namespace["report"]
    assert report.aligned + report.no_face == 2
