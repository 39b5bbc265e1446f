"""What a recipe says, number by number, with the source of each, for people."""

from typing import NamedTuple

from keras_normface.recipes.registry import Source


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
    """Return the values of a nest by dotted names; lists that hold no dictionary are values.

    Args:
        fields: From `Recipe.to_fields`.
        prefix: What the names begin with.

    Example:
    >>> leaves({"heads": [{"weight": 1.0}], "milestones": [1, 2]})
    {'heads.0.weight': 1.0, 'milestones': [1, 2]}
    """
    found = {}
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
        name = f"{prefix}{key}"
        found.update(leaves(value, f"{name}.") if nested else {name: value})
    return found


def source_of(name, sources):
    """Return the `Source` of a field: that of its dotted name, or of its longest beginning.

    Args:
        name: A name of `leaves`.
        sources: Dictionary of `Source`.

    Returns:
        A `Source`, or `None`.

    Example:
    >>> source_of("heads.0.weight", {"heads": Source("Eq. 6", "paper")}).text
    'Eq. 6'
    """
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((sources[beginning] for beginning in beginnings if beginning in sources), None)


def rows(fields, unchanged, sources):
    """Return a `Row` for each value.

    Args:
        fields: From `Recipe.to_fields`.
        unchanged: Those of the recipe as it is registered.
        sources: Dictionary of `Source`.

    Example:
    >>> rows({"steps": 3}, {"steps": 4}, {"steps": Source("§5", "paper")})
    [Row(field='steps', value='3', source='was 4: §5, paper', certainty='changed')]
    """
    before, made = leaves(unchanged), []
    for name, value in leaves(fields).items():
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
    """Return a value as it stands in tables: numbers short, many names as their count.

    Args:
        value: One of `leaves`.

    Example:
    >>> as_text(0.0005), as_text(["a"] * 17)
    ('0.0005', '17 names')
    """
    if isinstance(value, float):
        return f"{value:g}"
    names = isinstance(value, list) and len(value) > 6 and all(isinstance(item, str) for item in value)
    return f"{len(value)} names" if names else str(value)
