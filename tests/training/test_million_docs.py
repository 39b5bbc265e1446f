"""docs/million.md: the code for TensorFlow prints what it says."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/million.md").read_text()


def test_the_cost_of_a_replica_is_what_the_page_says(capsys):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL) if "head.cost" in block]
    exec(compile(code, "million.md", "exec"), {})
    assert f"```\n{capsys.readouterr().out}```" in TEXT
