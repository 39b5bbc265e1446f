"""The tables of docs/recipes.md; `PYTHONPATH=. python tests/support/recipe_tables.py` prints them."""

from keras_normface import recipes
from keras_normface.recipes import _registry as describe

LETTERS = {
    "paper": "P",
    "authors' code": "C",
    "abstract": "A",
    "secondary": "2",
    "not re-read": "N",
    "ours": "O",
}
NUMBERS = ("batch_size", "steps", "learning_rate", "milestones", "momentum", "weight_decay", "snapshots")
BASE = [name for name in recipes.NAMES if not name.endswith(("_hfn", "_sfn", "_nfn"))]


def cell(recipe, field):
    """A value and the letter of its certainty."""
    value = describe.leaves(recipe.to_fields())[field]
    text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else describe.as_text(value)
    return f"{text} {LETTERS[describe.source_of(field, recipe.sources).certainty]}"


def network(recipe):
    options = ", ".join(f"{key}={value!r}" for key, value in recipe.backbone_options.items())
    height, width, channels = recipe.preprocessing.output_shape
    letter = LETTERS[recipe.sources["backbone"].certainty]
    return f"`{recipe.backbone}({options})`, {height}×{width}×{channels} {letter}"


def training_table():
    lines = [f"| recipe | network | {' | '.join(NUMBERS)} |", f"|---|---|{'---|' * len(NUMBERS)}"]
    for name in BASE:
        recipe = recipes.get(name)
        cells = [cell(recipe, field) for field in NUMBERS]
        lines.append(f"| `{name}` | {network(recipe)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shortened(field):
    """`margin.config.margin` → `margin.margin`, and `margin.class_name` → `margin`."""
    return field.replace(".config.", ".").removesuffix(".class_name")


def loss_table():
    lines = ["| recipe | head | weight | its numbers |", "|---|---|---|---|"]
    for name in BASE:
        recipe = recipes.get(name)
        for index, head in enumerate(recipe.heads):
            start = f"heads.{index}.config."
            fields = [field for field in describe.leaves(recipe.to_fields()) if field.startswith(start)]
            numbers = "; ".join(f"{shortened(field.removeprefix(start))} {cell(recipe, field)}" for field in fields)
            weight = 1.0 if recipe.head_weights is None else recipe.head_weights[index]
            letter = LETTERS[recipe.sources["head_weights"].certainty]
            lines.append(f"| `{name}` | `{head['class_name']}` | {weight:g} {letter} | {numbers} |")
    return "\n".join(lines)


def multipliers_table():
    lines = ["| recipe | not decayed | twice the rate | certainty |", "|---|---|---|---|"]
    for name in BASE:
        recipe = recipes.get(name)
        spared = ", ".join(f"`{pattern}`" for pattern, _, decay in recipe.multipliers if decay == 0) or "nothing"
        faster = ", ".join(f"`{pattern}`" for pattern, rate, _ in recipe.multipliers if rate == 2) or "nothing"
        lines.append(f"| `{name}` | {spared} | {faster} | {LETTERS[recipe.sources['multipliers'].certainty]} |")
    return "\n".join(line.replace("(^|/)", "(^\\|/)") for line in lines)


TABLES = (training_table, loss_table, multipliers_table)

if __name__ == "__main__":
    print("\n\n".join(table() for table in TABLES))
