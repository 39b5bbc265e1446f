"""docs/recipes.md: its tables are what the recipes say, and its code runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_normface import recipes
from tests.support import faces
from tests.support.recipe_tables import LETTERS, TABLES

TEXT = (Path(__file__).parents[2] / "docs/recipes.md").read_text()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_the_tables_are_what_the_recipes_say(table):
    assert table() in TEXT


def test_every_recipe_and_every_degree_of_certainty_is_named():
    assert not [name for name in recipes.NAMES if f"`{name}`" not in TEXT]
    assert set(LETTERS) == set(recipes.CERTAINTIES)
    assert not [word for word, letter in LETTERS.items() if f"**{letter}**: {word}" not in TEXT]


def test_the_code_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    faces.write_folder(tmp_path / "photos", people=3, images=4)
    namespace = {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)):
        exec(compile(block, f"docs/recipes.md, block {number}", "exec"), namespace)
    shown = capsys.readouterr().out
    assert "am_softmax_casia" in shown
    assert "was 30000" in shown
    assert namespace["history"].epoch == [0]
    assert namespace["again"] == namespace["small"]
    assert np.isfinite(namespace["history"].history["loss"]).all()
