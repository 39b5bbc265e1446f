"""`keras-normface embed`: embeddings of photos, by name, in a file."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import failures_in_one_line, loaded, progress_bar, say, show_summary
from keras_normface.cli.verify import Aligned, CenterCrop, Model, Resize, check_faces


def embed(
    sources: Annotated[
        list[Path], typer.Argument(exists=True, help="Photos of faces, or folders, with all that lies below them.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.npz", dir_okay=False, help="The .npz file to write.")],
    model: Model = READY_NETWORKS[0],
    flip: Annotated[
        bool, typer.Option("--flip", help="Add the embedding of the mirror image, and normalise the sum.")
    ] = False,
    skip_no_face: Annotated[
        bool, typer.Option("--skip-no-face", help="Leave out photos in which no face is found; else they are an error.")
    ] = False,
    aligned: Aligned = False,
    resize: Resize = False,
    center_crop: CenterCrop = False,
    cache: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Directory of the embedding cache, with which an interrupted run resumes."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Images per step of the model.")] = 64,
):
    """Embed faces and write the embeddings with the names of the images.

    OUT.npz holds `names`, paths below each folder, and `embeddings`, a unit row for each. The face in each photo is
    found and aligned; of several the large one in the middle is taken. With --cache, the same command resumes after
    an interruption.

    Example: keras-normface embed photos/ photos.npz --cache cache/
    """
    check_faces(aligned, resize, center_crop)
    if skip_no_face and aligned:
        raise typer.BadParameter("--skip-no-face is for photos: with --aligned no face is looked for")
    if out.suffix != ".npz":
        raise typer.BadParameter(f"OUT must end in .npz. Received: {out}")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"OUT must be in a directory that exists. Received: {out}")
    if not os.access(out.parent, os.W_OK):
        raise typer.BadParameter(f"OUT must be in a directory that can be written to. Received: {out}")
    run = loaded("_embed_run", tensorflow=False)
    with failures_in_one_line(resumable=cache is not None):
        images, others = run.list_images(sources, aligned)
        if others:
            say(f"Not taken: {others:,} files of other kinds", err=True)
        options = {"resize": resize, "center_crop": center_crop, "batch_size": batch_size}
        embedder = run.open_embedder(model, aligned=aligned, no_face="error" if aligned else "nan", **options)
        with progress_bar("images") as progress:
            found = run.embed_all(embedder, images, flip, cache, progress)
        rows, names = run.with_a_face(found, [name for name, _ in images], skip_no_face)
        run.save_embeddings(out, names, rows)
        show_summary(run.embed_summary(embedder, images, rows))
