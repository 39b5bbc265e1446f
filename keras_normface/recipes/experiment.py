"""How an experiment is registered, and how its numbers come into its docstring."""

import dataclasses

from keras_normface.recipes import registry


def experiment(name):
    """Decorate a subclass of `Recipe`: a frozen dataclass, registered, its numbers in its docstring.

    Args:
        name: The name under which `get` finds it.

    Example:
    >>> from keras_normface.recipes.recipe import Recipe
    >>> @experiment("short")
    ... class Short(Recipe):
    ...     '''A short one.'''
    ...     steps: int = 3
    >>> registry.get("short").steps
    3
    >>> registry.forget("short")
    """

    def finish(recipe_class):
        recipe_class = dataclasses.dataclass(frozen=True, kw_only=True)(recipe_class)
        registry.register(name)(recipe_class)
        lines = (
            f"- {row.field} = {row.value}: {row.source} ({row.certainty})." for row in registry.get(name).describe()
        )
        head = f"{recipe_class.__doc__.rstrip()}\n\nNumbers, with their source and its certainty:\n\n"
        recipe_class.__doc__ = head + "\n".join(lines)
        return recipe_class

    return finish
