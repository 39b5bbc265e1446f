"""`keras-normface prepare`, `align` and `pairs`: data sets to shards, photos to faces, images to pairs."""

import collections
import os
import re
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli._console import FAILED, failures_in_one_line, progress_bar, show_summary
from keras_normface.data import CASIA_LFW_OVERLAP, EXTENSIONS, PHOTO_EXTENSIONS, READERS, guess_format, open_reader
from keras_normface.data.shards import METADATA_NAME
from keras_normface.prepare import ENCODINGS, IMAGES_PER_SHARD, NO_FACE_CHOICES, align_images, prepare_shards
from keras_normface.preprocessing import TEMPLATES
from keras_normface.protocols.pair_drawing import RULE, make_pairs
from keras_normface.protocols.pair_files import write_pair_list


def open_source(source, kind, exclude=(), overlap=False, root=None, identities=None, extensions=EXTENSIONS):
    """Open a reader.

    Args:
        source: Path of the source.
        kind: Its format, see `open_reader`.
        exclude: Names of identities to exclude.
        overlap: Whether to exclude `CASIA_LFW_OVERLAP` too.
        root: Directory that the paths of a list start from.
        identities: Path of a text file with a name a line, for the labels of a RecordIO file.
        extensions: Endings of the images of a folder.

    Returns:
        Pair of the reader and the sorted names that were excluded.

    Raises:
        ValueError: If the options do not fit, or the source is corrupt.
        OSError: If something cannot be read.
    """
    options = {"extensions": extensions} if kind == "folder" else {}
    if kind == "list":
        options["root"] = root
    if kind == "recordio":
        options["identities"] = None if identities is None else _lines(identities)
    if not overlap or not exclude:
        names = CASIA_LFW_OVERLAP if overlap else frozenset(exclude)
        return open_reader(source, kind, exclude=names, **options), sorted(names)
    if kind == "list":
        raise ValueError("--exclude and --exclude-lfw-overlap cannot both be given for a list: its names are labels")
    present = CASIA_LFW_OVERLAP.intersection(open_reader(source, kind, **options).identities)
    names = present.union(exclude)
    return open_reader(source, kind, exclude=names, **options), sorted(CASIA_LFW_OVERLAP.union(exclude))


SHOWN_NAMES = 10


def _say_what_is_not_taken(reader):
    """Count, on standard error, the files that the reader ignores, and name the identities without an image."""
    kinds = collections.Counter(os.path.splitext(path)[1].lower() or "no ending" for path in reader.ignored)
    if kinds:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        typer.echo(_printable(f"Not taken: {counts}; the first is {reader.ignored[0]}"), err=True)
    empty = reader.empty_identities
    if empty:
        more = f" and {len(empty) - SHOWN_NAMES:,} more" if len(empty) > SHOWN_NAMES else ""
        typer.echo(_printable(f"Identities without an image: {', '.join(empty[:SHOWN_NAMES])}{more}"), err=True)


def _printable(text):
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


IMAGES_WORTH_A_PROCESS = 20_000
Format = Enum("Format", {name: name for name in READERS})
Template = Enum("Template", {name: name for name in TEMPLATES})


def prepare(
    source: Annotated[
        Path, typer.Argument(exists=True, help="A folder of identities, a list, a .rec file or its directory, shards.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory for the shards: new, empty, or begun before.")],
    format: Annotated[Format | None, typer.Option(help="What SOURCE is; by default inferred.")] = None,
    exclude_lfw_overlap: Annotated[
        bool, typer.Option("--exclude-lfw-overlap", help="Exclude CASIA-WebFace's identities that LFW shows too.")
    ] = False,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to exclude; may be repeated.")] = (),
    root: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where a list's paths start from.")
    ] = None,
    identities: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Names of a RecordIO file's labels, one a line.")
    ] = None,
    images_per_shard: Annotated[
        int | None, typer.Option(min=1, help=f"Most images in a shard; {IMAGES_PER_SHARD} if not given.")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Number of shards, instead of --images-per-shard.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default up to one a core.")] = None,
    shuffle_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the order of the images.")] = 0,
    no_shuffle: Annotated[bool, typer.Option("--no-shuffle", help="Keep the order of SOURCE.")] = False,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Height and width of the images, such as 112x96.")
    ] = None,
    template: Annotated[
        Template | None, typer.Option(help="By which template the faces were aligned; `align` records it in SOURCE.")
    ] = None,
    validate: Annotated[bool, typer.Option("--validate", help="Decode each image.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")] = False,
):
    """Write a data set of faces as shards that training reads.

    Images keep their bytes. A run that was killed goes on when it is started again.

    Example: keras-normface prepare faces_webface_112x112 shards/
    """
    if images_per_shard is not None and shards is not None:
        raise typer.BadParameter("--shards and --images-per-shard cannot both be given")
    try:
        kind = format.value if format is not None else guess_format(source)
    except ValueError as error:
        raise typer.BadParameter(f"--format: {error}") from error
    for name, value, belongs in (("--root", root, "list"), ("--identities", identities, "recordio")):
        if value is not None and kind != belongs:
            raise typer.BadParameter(f"{name} is for --format {belongs} only, and SOURCE is: {kind}")
    image_size = _image_size(size)
    begun = time.monotonic()
    with failures_in_one_line():
        reader, excluded = open_source(source, kind, exclude, exclude_lfw_overlap, root, identities)
    _say_what_is_not_taken(reader)
    complete = os.path.exists(out / METADATA_NAME)
    with failures_in_one_line(), progress_bar("images") as progress:
        metadata = prepare_shards(
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
        typer.echo(f"{out} is complete already, made with these options from this source: nothing to do.")
    show_summary(_prepare_summary(metadata, None if complete else time.monotonic() - begun))


def _image_size(size):
    """The pair (height, width) of `--size`, or `None`."""
    if size is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,3})[xX]([1-9][0-9]{0,3})", size)
    if not match:
        raise typer.BadParameter(f"--size must be the height and the width, such as 112x96. Received: {size}")
    return int(match[1]), int(match[2])


def _prepare_summary(metadata, seconds):
    rows = [("images", f"{metadata['samples']:,}"), ("identities", f"{metadata['num_identities']:,}")]
    reasons = {}
    for _, reason in metadata["skipped"]:
        kind = reason.partition(":")[0]
        reasons[kind] = reasons.get(kind, 0) + 1
    rows.append(("skipped", f"{len(metadata['skipped']):,}"))
    rows += [(f"  {kind}", f"{reasons[kind]:,}") for kind in sorted(reasons)]
    rows.append(("shards", f"{len(metadata['shards']):,}"))
    rows.append(("bytes", f"{sum(shard['bytes'] for shard in metadata['shards']):,}"))
    if seconds is not None:
        done = metadata["samples"] + len(metadata["skipped"])
        rows += [("seconds", f"{seconds:.1f}"), ("images/s", f"{done / max(seconds, 1e-9):,.0f}")]
    return rows


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
    format: Annotated[PhotoFormat | None, typer.Option(help="What SOURCE is; by default inferred.")] = None,
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
        reader, _ = open_source(source, kind, root=root, extensions=PHOTO_EXTENSIONS)
    _say_what_is_not_taken(reader)
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
    show_summary(_align_summary(report))


def _align_summary(report):
    rows = (
        ("photos", report.images),
        ("aligned", report.aligned),
        ("  of several faces", report.several_faces),
        ("no face", report.no_face),
        ("not an image", report.not_an_image),
        ("not taken", report.not_taken),
        ("done by earlier runs", report.resumed),
    )
    return [(name, f"{count:,}") for name, count in rows]


WITH_PATHS = ("folder", "list")


def pairs(
    source: Annotated[Path, typer.Argument(exists=True, help="A folder of identities, or a list of images.")],
    out: Annotated[Path, typer.Argument(dir_okay=False, help="The pair file to write, such as pairs.tsv.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws; the same seed gives the same pairs.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds, which share no identity.")] = 10,
    pairs_per_fold: Annotated[
        int, typer.Option(min=1, help="Number of genuine pairs in each fold, and of impostor pairs.")
    ] = 300,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to exclude; may be repeated.")] = (),
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
        _say_what_is_not_taken(reader)
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
