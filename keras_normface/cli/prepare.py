"""`keras-normface prepare`: any data set of faces to shards."""

import os
import re
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli.open_source import open_source
from keras_normface.cli.show import failures_in_one_line, progress_bar, show_summary
from keras_normface.data.open_reader import READERS, guess_format
from keras_normface.data.sidecar import SIDECAR_NAME
from keras_normface.prepare import prepare_shards
from keras_normface.prepare.shards import IMAGES_PER_SHARD
from keras_normface.preprocessing import CHANNELS, SCALINGS, TEMPLATES, Preprocessing

IMAGES_WORTH_A_PROCESS = 20_000
Format = Enum("Format", {name: name for name in READERS})
Template = Enum("Template", {name: name for name in TEMPLATES})
Scaling = Enum("Scaling", {name: name for name in SCALINGS})
Channels = Enum("Channels", {name: name for name in CHANNELS})


def prepare(
    source: Annotated[
        Path, typer.Argument(exists=True, help="A folder of identities, a list, a .rec file or its directory, shards.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory for the shards: new, empty, or begun before.")],
    format: Annotated[Format | None, typer.Option(help="What SOURCE is; told by what lies there if not given.")] = None,
    exclude_lfw_overlap: Annotated[
        bool, typer.Option("--exclude-lfw-overlap", help="Leave out CASIA-WebFace's identities that LFW shows too.")
    ] = False,
    exclude: Annotated[list[str], typer.Option(help="Name of an identity to leave out; may be repeated.")] = (),
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
    template: Annotated[Template | None, typer.Option(help="How the faces were aligned, to note down.")] = None,
    scaling: Annotated[Scaling | None, typer.Option(help="How training is to scale pixels, to note down.")] = None,
    channels: Annotated[Channels | None, typer.Option(help="Channels that training is to use, to note down.")] = None,
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
    begun = time.monotonic()
    with failures_in_one_line():
        reader, excluded = open_source(source, kind, exclude, exclude_lfw_overlap, root, identities)
    preprocessing = _preprocessing(reader, size, template, scaling, channels)
    complete = os.path.exists(out / SIDECAR_NAME)
    with failures_in_one_line(), progress_bar("images") as progress:
        sidecar = prepare_shards(
            reader,
            out,
            images_per_shard=images_per_shard or IMAGES_PER_SHARD,
            shards=shards,
            preprocessing=preprocessing,
            shuffle_seed=None if no_shuffle else shuffle_seed,
            jobs=jobs or min(os.cpu_count() or 1, 1 + len(reader) // IMAGES_WORTH_A_PROCESS),
            validate=validate,
            strict=strict,
            excluded=excluded,
            progress=progress,
        )
    if complete:
        typer.echo(f"{out} is complete already, made with these options from this source: nothing to do.")
    show_summary(_summary(sidecar, None if complete else time.monotonic() - begun))


def _preprocessing(reader, size, template, scaling, channels):
    """Return the `Preprocessing` that the options describe, or `None` if there are none of them."""
    if size is None and template is None and scaling is None and channels is None:
        return None
    named = {"template": template, "scaling": scaling, "channels": channels}
    fields = {name: value.value for name, value in named.items() if value is not None}
    if size is not None:
        match = re.fullmatch(r"([0-9]{1,4})[xX]([0-9]{1,4})", size)
        if not match:
            raise typer.BadParameter(f"--size must be the height and the width, such as 112x96. Received: {size}")
        fields["size"] = (int(match[1]), int(match[2]))
    elif template is not None:
        fields["size"] = tuple(map(int, template.value.rsplit("_", 1)[1].split("x")))
    elif reader.image_size is not None:
        fields["size"] = tuple(reader.image_size)
    else:
        raise typer.BadParameter("--size must be given with --scaling or --channels: SOURCE does not say it")
    try:
        return Preprocessing(**fields)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _summary(sidecar, seconds):
    rows = [("images", f"{sidecar['samples']:,}"), ("identities", f"{sidecar['num_identities']:,}")]
    reasons = {}
    for _, reason in sidecar["skipped"]:
        kind = reason.partition(":")[0]
        reasons[kind] = reasons.get(kind, 0) + 1
    rows.append(("skipped", f"{len(sidecar['skipped']):,}"))
    rows += [(f"  {kind}", f"{reasons[kind]:,}") for kind in sorted(reasons)]
    rows.append(("shards", f"{len(sidecar['shards']):,}"))
    rows.append(("bytes", f"{sum(shard['bytes'] for shard in sidecar['shards']):,}"))
    if seconds is not None:
        done = sidecar["samples"] + len(sidecar["skipped"])
        rows += [("seconds", f"{seconds:.1f}"), ("images/s", f"{done / max(seconds, 1e-9):,.0f}")]
    return rows
