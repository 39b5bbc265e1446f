"""`keras-normface pairs`: pairs for verification out of one's own images."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli.open_source import open_source
from keras_normface.cli.show import failures_in_one_line, show_summary
from keras_normface.data.open_reader import guess_format
from keras_normface.protocols.make_pairs import RULE, make_pairs
from keras_normface.protocols.pair_list import write_pair_list

WITH_PATHS = ("folder", "list")


def pairs(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder of identities, or a list of images.")],
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The pair file to write, such as pairs.tsv.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws; the same seed gives the same pairs.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds, which share no identity.")] = 10,
    pairs_per_fold: Annotated[
        int, typer.Option(min=1, help="Number of genuine pairs in each fold, and of impostor pairs.")
    ] = 300,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to leave out; may be repeated.")] = (),
    root: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where a list's paths start from.")
    ] = None,
):
    """Draw genuine and impostor pairs, and write them as a pair file.

    The file says by which rule they were drawn. Verification on it is called the protocol "pairs".

    Example: keras-normface pairs photos/ pairs.tsv --seed 0
    """
    try:
        kind = guess_format(source)
    except ValueError as error:
        raise typer.BadParameter(f"SOURCE: {error}") from error
    if kind not in WITH_PATHS:
        raise typer.BadParameter(
            f"SOURCE must be a folder of identities or a list, whose images have paths, not {kind}"
        )
    if root is not None and kind != "list":
        raise typer.BadParameter(f"--root is for a list only, and SOURCE is: {kind}")
    with failures_in_one_line():
        if os.path.exists(out):
            raise ValueError(f"OUT must not exist yet, or figures on it would no longer be comparable: {out}")
        reader, _ = open_source(source, kind, exclude, root=root)
        made = make_pairs(reader, seed, folds, pairs_per_fold)
        write_pair_list(out, made, [f"{_facts(reader, seed, folds, pairs_per_fold)}", f"Rule: {RULE}."])
    images = {image for pair in made for image in pair[:2]}
    identities = {identity for pair in made for identity in pair[3:]}
    counts = {"pairs": len(made), "folds": folds, "images": len(images), "identities": len(identities)}
    show_summary([(name, f"{count:,}") for name, count in counts.items()])


def _facts(reader, seed, folds, pairs_per_fold):
    return (
        f"Seed {seed}, {folds} folds of {pairs_per_fold} genuine and {pairs_per_fold} impostor pairs, "
        f"from {len(reader)} images of {reader.num_identities} identities."
    )
