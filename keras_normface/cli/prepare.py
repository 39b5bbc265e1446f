"""`keras-normface prepare`, `align` and `pairs`: their options and which of them belong together."""

import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli._choices import (
    ENCODINGS,
    FORMATS,
    IMAGES_PER_SHARD,
    METADATA_NAME,
    NO_FACE,
    PHOTO_FORMATS,
    TEMPLATES,
    choice,
)
from keras_normface.cli._console import failures_in_one_line, loaded, progress_bar, say, show_summary

IMAGES_WORTH_A_PROCESS = 20_000
Format = choice("Format", FORMATS)
PhotoFormat = choice("PhotoFormat", PHOTO_FORMATS)
Template = choice("Template", TEMPLATES)
Encoding = choice("Encoding", ENCODINGS)
NoFace = choice("NoFace", NO_FACE)


def _format_of(source, given, name, run):
    """The format that was given, or the one that the path tells."""
    if given is not None:
        return given.value
    try:
        return run.guess_format(source)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}") from error


def _image_size(size):
    """The pair (height, width) of `--size`, or `None`."""
    if size is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,3})[xX]([1-9][0-9]{0,3})", size)
    if not match:
        raise typer.BadParameter(f"--size must be the height and the width, such as 112x96. Received: {size}")
    return int(match[1]), int(match[2])


def prepare(
    source: Annotated[
        Path, typer.Argument(exists=True, help="A folder of identities, a list, a .rec file or its directory, shards.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory for the shards: new, empty, or of an interrupted run.")],
    format: Annotated[
        Format | None, typer.Option(help="Format of SOURCE; inferred from the path if not given.")
    ] = None,
    exclude_lfw_overlap: Annotated[
        bool, typer.Option("--exclude-lfw-overlap", help="Exclude CASIA-WebFace's identities that are in LFW too.")
    ] = False,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to exclude; may be repeated.")] = (),
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Directory that the paths of a list are relative to."),
    ] = None,
    identities: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Names of a RecordIO file's labels, one per line.")
    ] = None,
    images_per_shard: Annotated[
        int | None, typer.Option(min=1, help=f"Maximum number of images per shard; {IMAGES_PER_SHARD} if not given.")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Number of shards, instead of --images-per-shard.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes; by default up to one per core.")] = None,
    shuffle_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the shuffle.")] = 0,
    no_shuffle: Annotated[bool, typer.Option("--no-shuffle", help="Keep the order of SOURCE.")] = False,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Height and width of the images, such as 112x96.")
    ] = None,
    template: Annotated[
        Template | None,
        typer.Option(help="Template that the faces were aligned to; `align` records it in SOURCE."),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Decode each image, and exclude those that fail.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")] = False,
):
    """Write a data set of faces as shards that training reads.

    Images keep their bytes. After an interruption the same command resumes.

    Example: keras-normface prepare faces_webface_112x112 shards/
    """
    if images_per_shard is not None and shards is not None:
        raise typer.BadParameter("--shards and --images-per-shard cannot both be given")
    image_size = _image_size(size)
    run = loaded("_prepare_run")
    kind = _format_of(source, format, "--format", run)
    for name, value, belongs in (("--root", root, "list"), ("--identities", identities, "recordio")):
        if value is not None and kind != belongs:
            raise typer.BadParameter(f"{name} is for --format {belongs} only, but SOURCE is of format {kind}")
    begun = time.monotonic()
    with failures_in_one_line():
        reader, excluded = run.open_source(source, kind, exclude, exclude_lfw_overlap, root, identities)
    run.say_what_is_not_taken(reader)
    complete = os.path.exists(out / METADATA_NAME)
    with failures_in_one_line(), progress_bar("images") as progress:
        metadata = run.prepare_shards(
            reader,
            out,
            images_per_shard=images_per_shard or IMAGES_PER_SHARD,
            shards=shards,
            size=image_size,
            template=None if template is None else template.value,
            shuffle_seed=None if no_shuffle else shuffle_seed,
            jobs=jobs or min(os.cpu_count() or 1, 1 + len(reader) // IMAGES_WORTH_A_PROCESS),
            validate=validate,
            strict=strict,
            excluded=excluded,
            progress=progress,
        )
    if complete:
        say(f"{out} is already complete, made with these options from this source: nothing to do.")
    show_summary(run.prepare_summary(metadata, None if complete else time.monotonic() - begun))


def align(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder of identities with photos, or a list.")],
    out: Annotated[Path, typer.Argument(help="Directory for the aligned faces: new, empty, or of an interrupted run.")],
    template: Annotated[
        Template, typer.Option(help="Template that the eyes, nose and mouth are aligned to.")
    ] = Template.arcface_112x112,
    format: Annotated[
        PhotoFormat | None, typer.Option(help="Format of SOURCE; inferred from the path if not given.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Directory that the paths of a list are relative to."),
    ] = None,
    no_face: Annotated[
        NoFace, typer.Option(help="What to do with a photo without a face: skip it, or crop its center.")
    ] = NoFace.skip,
    encoding: Annotated[Encoding, typer.Option(help="Format of the aligned images.")] = Encoding.jpeg,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 95,
    batch: Annotated[
        int, typer.Option(min=1, max=2**16, help="Photos per detection step; twice as many are in memory.")
    ] = 16,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Number of threads that decode and warp; by default one per core."),
    ] = None,
):
    """Detect the face in each photo and align it to a template.

    After an interruption the same command resumes. OUT/align.jsonl records the outcome for each photo.

    Example: keras-normface align lfw/ lfw_112x96/ --template sphereface_112x96
    """
    run = loaded("_prepare_run", tensorflow=False)
    kind = _format_of(source, format, "--format", run)
    if kind not in PHOTO_FORMATS:
        raise typer.BadParameter(f"SOURCE must be a folder of identities or a list. Received: format {kind}")
    if root is not None and kind != "list":
        raise typer.BadParameter(f"--root is for --format list only, but SOURCE is of format {kind}")
    with failures_in_one_line():
        reader, _ = run.open_source(source, kind, root=root, extensions=run.PHOTO_EXTENSIONS)
    run.say_what_is_not_taken(reader)
    with failures_in_one_line(), progress_bar("photos") as progress:
        report = run.align_images(
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
    if report.resumed == report.images:
        say(f"{out} is already complete, made with these options from this source: nothing to do.")
    show_summary(run.align_summary(report))


def pairs(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder of identities, or a list of images.")],
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The pair file to write, such as pairs.tsv.")],
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same pairs.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds, which share no identity.")] = 10,
    pairs_per_fold: Annotated[
        int, typer.Option(min=1, help="Number of genuine pairs in each fold, and of impostor pairs.")
    ] = 300,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to exclude; may be repeated.")] = (),
    root: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Directory that the paths of a list are relative to."),
    ] = None,
):
    """Draw genuine and impostor pairs, and write them as a pair file.

    The file records the rule. `keras-normface evaluate pairs` evaluates a model on it.

    Example: keras-normface pairs photos/ pairs.tsv --seed 0
    """
    run = loaded("_prepare_run", tensorflow=False)
    kind = _format_of(source, None, "SOURCE", run)
    if kind not in PHOTO_FORMATS:
        raise typer.BadParameter(
            f"SOURCE must be a folder of identities or a list, whose images have paths. Received: format {kind}"
        )
    if root is not None and kind != "list":
        raise typer.BadParameter(f"--root is for a list only, but SOURCE is of format {kind}")
    with failures_in_one_line():
        if os.path.exists(out):
            raise ValueError(
                f"OUT must not exist: other pairs would make earlier figures incomparable. Received: {out}"
            )
        reader, _ = run.open_source(source, kind, exclude, root=root)
        run.say_what_is_not_taken(reader)
        made = run.make_pairs(reader, seed, folds, pairs_per_fold)
        run.write_pair_list(out, made, run.facts(reader, seed, folds, pairs_per_fold))
    images = {image for pair in made for image in pair[:2]}
    identities = {identity for pair in made for identity in pair[3:]}
    counts = {"pairs": len(made), "folds": folds, "images": len(images), "identities": len(identities)}
    show_summary([(name, f"{count:,}") for name, count in counts.items()])
