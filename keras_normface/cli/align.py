"""`keras-normface align`: photos to aligned faces."""

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli.open_source import open_source
from keras_normface.cli.show import FAILED, failures_in_one_line, progress_bar, show_summary
from keras_normface.data.open_reader import guess_format
from keras_normface.prepare import align_images
from keras_normface.prepare.align import NO_FACE_CHOICES
from keras_normface.prepare.pictures import ENCODINGS
from keras_normface.preprocessing import TEMPLATES

PHOTO_FORMATS = ("folder", "list")
PhotoFormat = Enum("PhotoFormat", {name: name for name in PHOTO_FORMATS})
FaceTemplate = Enum("FaceTemplate", {name: name for name in TEMPLATES})
Encoding = Enum("Encoding", {name: name for name in ENCODINGS})
NoFace = Enum("NoFace", {name: name for name in NO_FACE_CHOICES})


def align(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder of identities with photos, or a list.")],
    out: Annotated[Path, typer.Argument(help="Directory for the aligned faces: new, empty, or begun before.")],
    template: Annotated[
        FaceTemplate, typer.Option(help="Where eyes, nose and mouth come to lie.")
    ] = FaceTemplate.arcface_112x112,
    format: Annotated[
        PhotoFormat | None, typer.Option(help="What SOURCE is; told by what lies there if not given.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where a list's paths start from.")
    ] = None,
    no_face: Annotated[
        NoFace, typer.Option(help="Leave photos without a face out, or take their middle.")
    ] = NoFace.skip,
    encoding: Annotated[Encoding, typer.Option(help="How the aligned images are written.")] = Encoding.jpeg,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG.")] = 95,
    batch: Annotated[int, typer.Option(min=1, max=2**16, help="Photos in one step; twice as many are in memory.")] = 16,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads that decode and warp; by default one for each core.")
    ] = None,
):
    """Find the face in each photo and bring it to a template.

    A run that was killed goes on when it is started again. OUT/align.jsonl says what became of each photo.

    Example: keras-normface align lfw/ lfw_112x96/ --template sphereface_112x96
    """
    try:
        kind = format.value if format is not None else guess_format(source)
    except ValueError as error:
        raise typer.BadParameter(f"--format: {error}") from error
    if kind not in PHOTO_FORMATS:
        raise typer.BadParameter(f"SOURCE must be a folder of identities or a list, and is: {kind}")
    if root is not None and kind != "list":
        raise typer.BadParameter(f"--root is for --format list only, and SOURCE is: {kind}")
    with failures_in_one_line():
        reader, _ = open_source(source, kind, root=root)
    with failures_in_one_line(), progress_bar("photos") as progress:
        try:
            report = align_images(
                reader,
                out,
                template.value,
                no_face=no_face.value,
                encoding=encoding.value,
                quality=quality,
                batch=batch,
                jobs=jobs or os.cpu_count() or 1,
                progress=progress,
            )
        except ImportError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(FAILED) from error
    if report.resumed == report.images:
        typer.echo(f"{out} is complete already, made with these options from this source: nothing to do.")
    show_summary(_summary(report))


def _summary(report):
    rows = (
        ("photos", report.images),
        ("aligned", report.aligned),
        ("  of several faces", report.several_faces),
        ("no face", report.no_face),
        ("not an image", report.not_an_image),
        ("done by earlier runs", report.resumed),
    )
    return [(name, f"{count:,}") for name, count in rows]
