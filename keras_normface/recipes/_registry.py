"""The recipes by name, their sources, tables and files."""

import dataclasses
import os
from typing import NamedTuple

from keras_normface._io import JsonFormat

CERTAINTIES = ("paper", "authors' code", "abstract", "secondary", "not re-read", "ours")


class Source(NamedTuple):
    """Where a number comes from.

    Attributes:
        text: Paper and section, file of the authors, or why it was chosen.
        certainty: "paper" (read in its text), "authors' code" (read there), "abstract", "secondary" (read in
            somebody else's account), "not re-read" (well known, not looked up again) or "ours" (in no source).
    """

    text: str
    certainty: str


_known = {}


def register(name, /, **changes):
    """Decorate a class of recipes: `get(name)` makes one, with these changes."""

    def remember(recipe_class):
        _known[name] = (recipe_class, changes)
        return recipe_class

    return remember


def forget(name):
    """Undo `register`.

    Args:
        name: The name.
    """
    del _known[name]


def all_names():
    """Return the names of all recipes, sorted.

    Example:
    >>> all(isinstance(name, str) for name in all_names())
    True
    """
    return tuple(sorted(_known))


def get(name):
    """Return the recipe of that name.

    Args:
        name: One of `all_names()`.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If there is none; the message lists the known ones.
    """
    recipe_class, changes = known(name)
    return recipe_class(name=name, **changes)


def known(name):
    """Return the class of a recipe and what it is made with."""
    if not isinstance(name, str) or name not in _known:
        raise ValueError(f"`name` must be one of {', '.join(all_names())}. Received: {str(name)[:80]!r}")
    return _known[name]


def experiment(name):
    """Decorate a subclass of `Recipe`: a frozen dataclass, registered, its numbers in its docstring.

    Args:
        name: The name under which `get` finds it.

    Example:
    >>> from keras_normface.recipes._recipe import Recipe
    >>> @experiment("short")
    ... class Short(Recipe):
    ...     '''A short one.'''
    ...     steps: int = 3
    >>> get("short").steps
    3
    >>> forget("short")
    """

    def finish(recipe_class):
        recipe_class = dataclasses.dataclass(frozen=True, kw_only=True)(recipe_class)
        recipe_class.sources = {**recipe_class.__mro__[-2].sources, **recipe_class.sources}  # those of `Recipe` itself
        register(name)(recipe_class)
        lines = (f"- {row.field} = {row.value}: {row.source} ({row.certainty})." for row in get(name).describe())
        head = f"{recipe_class.__doc__.rstrip()}\n\nNumbers, with their source and its certainty:\n\n"
        recipe_class.__doc__ = head + "\n".join(lines)
        return recipe_class

    return finish


class Row(NamedTuple):
    """One number of a recipe.

    Attributes:
        field: Its name, with dots into a field.
        value: The value as text.
        source: Where it comes from.
        certainty: See `Source`; "changed" if it is not what the recipe says.
    """

    field: str
    value: str
    source: str
    certainty: str


def leaves(fields, prefix=""):
    """Return the values of a nest by dotted names; lists that hold no dictionary are values."""
    found = {}
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
        name = f"{prefix}{key}"
        found.update(leaves(value, f"{name}.") if nested else {name: value})
    return found


def source_of(name, sources):
    """Return the `Source` of a field: that of its dotted name, or of its longest beginning."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((sources[beginning] for beginning in beginnings if beginning in sources), None)


def rows(fields, unchanged, sources):
    """Return a `Row` for each value."""
    before, made = leaves(unchanged), []
    for name, value in leaves(fields).items():
        if name == "preprocessing.version":  # of the file format, not a number of the recipe
            continue
        source = source_of(name, sources) or Source("no source", "ours")
        if name not in before or before[name] != value:
            was = (
                f"was {as_text(before[name])}: {source.text}, {source.certainty}" if name in before else "was not there"
            )
            source = Source(was, "changed")
        made.append(Row(name, as_text(value), *source))
    return made


def table(rows):
    """Return rows as aligned text, for people.

    Args:
        rows: From `Recipe.describe`.

    Example:
    >>> print(table([Row("steps", "30000", "the solver's file", "authors' code")]))
    field  value  certainty      source
    steps  30000  authors' code  the solver's file
    """
    lines = [("field", "value", "certainty", "source"), *((r.field, r.value, r.certainty, r.source) for r in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    pad = [tuple(text.ljust(width) for text, width in zip(line, widths, strict=False)) for line in lines]
    return "\n".join("  ".join((*start, line[3])) for start, line in zip(pad, lines, strict=True))


def as_text(value):
    """Return a value as it stands in tables: numbers short, many names as their count."""
    if isinstance(value, float):
        return f"{value:g}"
    names = isinstance(value, list) and len(value) > 6 and all(isinstance(item, str) for item in value)
    return f"{len(value)} names" if names else str(value)


FILE_NAME = "recipe.json"
FORMAT = JsonFormat("keras_normface.recipe", 3)


def write(directory, name, fields):
    """Write a recipe atomically, as versioned JSON."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, FILE_NAME)
    FORMAT.write(path, {"recipe": name, "fields": fields})
    return path


def load(directory):
    """Read the recipe in a directory."""
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
    content = FORMAT.read(path)
    if set(content) != {"recipe", "fields"}:
        raise ValueError(f"{path} must have the keys format, version, recipe, fields. Received: {sorted(content)}")
    name = content["recipe"]
    try:
        recipe_class, _ = known(name)
        return made(recipe_class, name, content["fields"])
    except ValueError as error:
        raise ValueError(f"{path} does not describe a recipe: {' '.join(str(error).split())}") from error


def made(recipe_class, name, fields):
    """Make a recipe of its fields."""
    known = {field.name for field in dataclasses.fields(recipe_class)} - {"name"}
    given = set(fields) if isinstance(fields, dict) else set()
    if given != known:
        raise ValueError(
            f"`fields` must be those of the recipe {name!r}. "
            f"Missing: {sorted(known - given)}; unknown: {sorted(given - known)}"
        )
    return recipe_class(name=name, **fields)
