"""Recipes as files beside the checkpoints."""

import dataclasses
import json
import os

from keras_normface.recipes import registry
from keras_normface.written_beside import written_beside

FILE_NAME = "recipe.json"
FORMAT = "keras_normface.recipe"
VERSION = 1
LARGEST_BYTES = 1 << 20


def write(directory, name, fields):
    """Write a recipe; the file is complete or not there.

    Args:
        directory: Made if it is not there.
        name: Name of the recipe.
        fields: From `Recipe.to_fields`.

    Returns:
        The path of the file.
    """
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, FILE_NAME)
    content = {"format": FORMAT, "version": VERSION, "recipe": name, "fields": fields}
    with written_beside(path) as beside, open(beside, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return path


def load(directory):
    """Read the recipe in a directory.

    Args:
        directory: Where `write` wrote.

    Returns:
        A `Recipe`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not what `write` writes.
    """
    return read(os.path.join(directory, FILE_NAME))


def read(path):
    """Read the recipe in a file, which may come from anywhere.

    Args:
        path: Of the file.

    Returns:
        A `Recipe`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not what `Recipe.save` writes.
    """
    with open(path, "rb") as file:
        text = file.read(LARGEST_BYTES + 1)
    try:
        content = json.loads(text) if len(text) <= LARGEST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no recipe: it must be JSON of the format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise ValueError(f"{path} must be of version {VERSION} of its format. Received: {content.get('version')!r}")
    if set(content) != {"format", "version", "recipe", "fields"}:
        raise ValueError(f"{path} must have the keys format, version, recipe, fields. Received: {sorted(content)}")
    name = content["recipe"]
    recipe_class, _ = registry.known(name)
    return made(recipe_class, name, content["fields"])


def made(recipe_class, name, fields):
    """Make a recipe of its fields.

    Args:
        recipe_class: A subclass of `Recipe`.
        name: Its name.
        fields: Dictionary, all fields there.

    Raises:
        ValueError: If one is missing, not known or does not fit.
    """
    known = {field.name for field in dataclasses.fields(recipe_class)} - {"name"}
    given = set(fields) if isinstance(fields, dict) else set()
    if given != known:
        raise ValueError(
            f"a recipe {name!r} has other fields. Missing: {sorted(known - given)}; not known: {sorted(given - known)}"
        )
    return recipe_class(name=name, **fields)
