"""docs/recipes.md: its tables are what the recipes say."""

import pytest

from keras_normface import recipes
from tests.support import markdown
from tests.support.recipe_tables import LETTERS, TABLES

TEXT = markdown.read("docs/recipes.md")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_the_tables_are_what_the_recipes_say(table):
    assert table() in TEXT


def test_every_recipe_and_every_degree_of_certainty_is_named():
    assert not [name for name in recipes.NAMES if f"`{name}`" not in TEXT]
    assert set(LETTERS) == set(recipes.CERTAINTIES)
    assert not [word for word, letter in LETTERS.items() if f"**{letter}**: {word}" not in TEXT]
