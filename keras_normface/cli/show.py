"""`keras-normface show`: the card of an exported model."""

from pathlib import Path
from typing import Annotated

import typer

from keras_normface._io import json_text
from keras_normface.cli._console import failures_in_one_line, say


def show(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Directory of an exported model.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
):
    """Show what an exported model takes, makes, and was made of.

    Nothing of the model runs: its card, model.json, is read.

    Example: keras-normface show runs/casia/embedding
    """
    with failures_in_one_line(resumable=False):
        from keras_normface.inference import read_card  # here, so that --help need not wait for it

        card = read_card(model)
        say(json_text(card.to_dict()).rstrip("\n") if json else card)
