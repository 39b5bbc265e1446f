"""The recipes by name."""

from typing import NamedTuple

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
    """Decorate a class of recipes: `get(name)` makes one, with these changes.

    Args:
        name: The name.
        **changes: Arguments of the class, besides its name.

    Example:
    >>> @register("nothing", steps=3)
    ... class Nothing(dict):
    ...     pass
    >>> get("nothing")
    {'name': 'nothing', 'steps': 3}
    >>> forget("nothing")
    """

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
    """Return the class of a recipe and what it is made with.

    Args:
        name: One of `all_names()`.

    Raises:
        ValueError: If there is none; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in _known:
        raise ValueError(f"the recipe must be one of {', '.join(all_names())}. Received: {str(name)[:80]!r}")
    return _known[name]
