"""`keras-normface verify`: do two photos show one person?"""

from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import failures_in_one_line, loaded, say

SAME, DIFFERENT = 0, 1
MODEL_HELP = (
    f"Directory of an exported model, or {' or '.join(READY_NETWORKS)}, the ready network. A SavedModel is code that "
    "can read and write files: load only what comes from a source that you trust."
)

Model = Annotated[str, typer.Option(help=MODEL_HELP)]
Aligned = Annotated[
    bool, typer.Option("--aligned", help="The images hold aligned faces, in the size that the model takes.")
]
Resize = Annotated[bool, typer.Option("--resize", help="With --aligned: resize images of another size.")]
CenterCrop = Annotated[bool, typer.Option("--center-crop", help="With --aligned: cut larger images in their middle.")]


def check_faces(aligned, resize, center_crop):
    """Refuse options that do not belong together; BadParameter names them."""
    if resize and center_crop:
        raise typer.BadParameter("--resize and --center-crop exclude each other")
    if (resize or center_crop) and not aligned:
        raise typer.BadParameter("--resize and --center-crop need --aligned: in a photo the face is found and aligned")


def verify(
    first: Annotated[Path, typer.Argument(metavar="A", exists=True, dir_okay=False, help="A photo of a face.")],
    second: Annotated[Path, typer.Argument(metavar="B", exists=True, dir_okay=False, help="Another one.")],
    model: Model = READY_NETWORKS[0],
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Least cosine of one person's photos; by default that of the model."),
    ] = None,
    aligned: Aligned = False,
    resize: Resize = False,
    center_crop: CenterCrop = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
):
    """Tell whether two photos show one person.

    The face in each photo is found, aligned and embedded; of several faces the large one in the middle is taken. The
    exit code is 0 for one person, 1 for different people, 2 for an error.

    Example: keras-normface verify a.jpg b.jpg
    """
    check_faces(aligned, resize, center_crop)
    run = loaded("_verify_run", tensorflow=False)
    with failures_in_one_line(resumable=False):
        embedder = run.open_embedder(model, aligned=aligned, resize=resize, center_crop=center_crop)
        answer = run.compare(embedder, first, second, threshold)
        say(run.as_json(answer) if json else run.as_text(answer))
    raise typer.Exit(SAME if answer.same else DIFFERENT)
