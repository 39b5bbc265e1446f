"""`keras-normface enrol` and `identify`: people by their photos; `gallery`: what is enrolled."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keras_normface._io import printable
from keras_normface.cli._choices import FPIR_METHODS, READY_NETWORKS, choice
from keras_normface.cli._console import FAILED, SafeGroup, failures_in_one_line, loaded, progress_bar, say, show_summary
from keras_normface.cli.verify import Aligned, CenterCrop, Model, Resize, check_faces

FOUND_FAULTS = 1
Method = choice("Method", FPIR_METHODS)


def new_place(text):
    """A file that is no directory, or a URL, as they are: of a URL `Path` would lose a slash."""
    if "://" not in text and os.path.isdir(text):
        raise typer.BadParameter(f"{text!r} is a directory")
    return text


def place(text):
    """Likewise, of a gallery that exists."""
    if "://" not in text and not os.path.exists(text):
        raise typer.BadParameter(f"{text!r} does not exist")
    return new_place(text)


URL = "or postgresql://user@host/database"
New = Annotated[
    str, typer.Argument(metavar="GALLERY", parser=new_place, help=f"File of the gallery, {URL}; made if need be.")
]
Existing = Annotated[str, typer.Argument(metavar="GALLERY", parser=place, help=f"File of the gallery, {URL}.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an enrolled person.")]


def enrol(
    gallery: New,
    sources: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            help="A folder with a folder of photos for each person; with --name, photos or folders.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the one person whom all photos show.")] = None,
    model: Model = READY_NETWORKS[0],
    skip_no_face: Annotated[
        bool, typer.Option("--skip-no-face", help="Leave out photos in which no face is found; else they are an error.")
    ] = False,
    aligned: Aligned = False,
    resize: Resize = False,
    center_crop: CenterCrop = False,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Images per step of the model.")] = 64,
):
    """Enrol people by their photos.

    Photos that are enrolled already are not embedded again, so the same command resumes after an interruption. A
    gallery holds embeddings of one model only.

    \b
    Examples:
    keras-normface enrol people.gallery photos/
    keras-normface enrol people.gallery a.jpg b.jpg --name "Ada Lovelace"
    """  # noqa: D301
    check_faces(aligned, resize, center_crop)
    if skip_no_face and aligned:
        raise typer.BadParameter("--skip-no-face is for photos: with --aligned no face is looked for")
    if name is None and (len(sources) > 1 or not sources[0].is_dir()):
        raise typer.BadParameter("SOURCES must be one folder with a folder for each person, or --name must be given")
    run = loaded("_gallery_run", tensorflow=False)
    options = {"aligned": aligned, "resize": resize, "center_crop": center_crop, "batch_size": batch_size}
    with failures_in_one_line(resumable=True):
        subjects, others = run.subjects_of(sources, name, aligned)
        if others:
            say(f"Not taken: {others:,} files of other kinds", err=True)
        with run.opened(gallery, model, new=True, skip_no_face=skip_no_face, **options) as people:
            with progress_bar("images") as progress:
                done = people.enrol_many(subjects, progress=progress)
            run.list_without_face(done)
            show_summary(run.enrolment_summary(people, subjects, done))


def identify(
    gallery: Existing,
    sources: Annotated[list[Path], typer.Argument(exists=True, help="Photos, or folders with all that lies below.")],
    model: Model = READY_NETWORKS[0],
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Least cosine of a person; by default that of the model, for one comparison."),
    ] = None,
    fpir: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            max=1,
            help="Instead: the share of people who are not enrolled that may be called by a name, in this gallery.",
        ),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="With --fpir: measured on the gallery, or comparisons taken for independent.")
    ] = Method.measured,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="All faces of a photo, from left to right, not the large one only.")
    ] = False,
    candidates: Annotated[int, typer.Option(min=1, help="How many candidates --json lists at most.")] = 5,
    exact: Annotated[bool, typer.Option("--exact", help="Never search by an approximate index.")] = False,
    aligned: Aligned = False,
    resize: Resize = False,
    center_crop: CenterCrop = False,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Images per step of the model.")] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
):
    """Say who is on photos: an enrolled person, or unknown.

    A photo that cannot be decoded is listed, and the exit code is 2 in the end.

    \b
    Examples:
    keras-normface identify people.gallery party.jpg --every-face
    keras-normface identify people.gallery album/ --fpir 0.01 --json
    """  # noqa: D301
    check_faces(aligned, resize, center_crop)
    if threshold is not None and fpir is not None:
        raise typer.BadParameter("--threshold and --fpir exclude each other")
    if every_face and aligned:
        raise typer.BadParameter("--every-face is for photos: with --aligned no face is looked for")
    run = loaded("_gallery_run", tensorflow=False)
    options = {"aligned": aligned, "resize": resize, "center_crop": center_crop, "batch_size": batch_size}
    with failures_in_one_line(resumable=False):
        images, others = run.images_of(sources, aligned)
        if others:
            say(f"Not taken: {others:,} files of other kinds", err=True)
        index = None if exact else "auto"
        with run.opened(gallery, model, new=False, skip_no_face=True, index=index, **options) as people:
            limit = run.limit_of(people, threshold, fpir, method.value)
            with progress_bar("images") as progress:
                answers = run.identified(people, images, limit, every_face, candidates, progress)
            say(run.as_json(people, answers, limit) if json else run.as_text(answers, limit))
    if any(isinstance(found, str) for _, found in answers):
        raise typer.Exit(FAILED)


manage = typer.Typer(name="gallery", cls=SafeGroup, no_args_is_help=True, rich_markup_mode=None)


@manage.callback()
def about():
    """List, remove, merge, export, copy and check who is enrolled.

    Example: keras-normface gallery list people.gallery
    """


@manage.command("list")
def list_people(gallery: Existing):
    """List who is enrolled, with the number of embeddings.

    Example: keras-normface gallery list people.gallery
    """
    with failures_in_one_line(resumable=False), loaded("_gallery_run", tensorflow=False).stored(gallery) as people:
        for name, count in people.subjects():
            say(f"{count:>6}  {printable(name)}")


@manage.command()
def remove(
    gallery: Existing,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of enrolled people.")],
):
    """Delete people with all their embeddings, for good: a file is written anew.

    Example: keras-normface gallery remove people.gallery "Ada Lovelace"
    """
    with failures_in_one_line(resumable=False), loaded("_gallery_run", tensorflow=False).stored(gallery) as people:
        overwritten = people.remove(names)
        say(f"Removed: {', '.join(map(printable, names))}")
        if not overwritten:
            say(loaded("_gallery_run", tensorflow=False).why_not_overwritten(gallery), err=True)


@manage.command()
def merge(gallery: Existing, name: Name, into: Annotated[str, typer.Argument(metavar="INTO", help="Who gets them.")]):
    """Give the embeddings of NAME to INTO: they are one person.

    Example: keras-normface gallery merge people.gallery "A. Lovelace" "Ada Lovelace"
    """
    with failures_in_one_line(resumable=False), loaded("_gallery_run", tensorflow=False).stored(gallery) as people:
        people.merge(name, into)
        say(f"Merged: {printable(name)} into {printable(into)}")


@manage.command()
def export(
    gallery: Existing,
    out: Annotated[str, typer.Argument(metavar="OUT", parser=new_place, help="File to write, .npz or .csv.")],
):
    """Write names, images and embeddings as .npz, or names and images as .csv.

    Example: keras-normface gallery export people.gallery people.npz
    """
    with failures_in_one_line(resumable=False), loaded("_gallery_run", tensorflow=False).stored(gallery) as people:
        people.export(out)
        say(f"Written: {printable(out)}")


@manage.command()
def copy(
    gallery: Existing,
    to: Annotated[str, typer.Argument(metavar="TO", parser=new_place, help=f"Another file, {URL}.")],
):
    """Copy all who are enrolled into another gallery, which is made, or in which is nobody: all at once.

    \b
    Examples:
    keras-normface gallery copy people.gallery backup.gallery
    keras-normface gallery copy people.gallery postgresql://user@host/database
    """  # noqa: D301
    with failures_in_one_line(resumable=False), loaded("_gallery_run", tensorflow=False).stored(gallery) as people:
        with progress_bar("embeddings") as progress:
            subjects, embeddings = people.copy(to, progress=progress)
        say(f"Copied: {subjects:,} people, {embeddings:,} embeddings, as many as {printable(people.path)} holds")


@manage.command()
def check(
    gallery: Existing,
    index: Annotated[
        bool, typer.Option("--index", help="Also build the approximate index, and say how much it finds.")
    ] = False,
):
    """Look through the whole gallery for damage; exit code 1 if there is any.

    Example: keras-normface gallery check people.gallery
    """
    with failures_in_one_line(resumable=False):
        faults, count = loaded("_gallery_run", tensorflow=False).faults_of(gallery)
        for fault in faults:
            say(fault)
        say(f"{count} people, {len(faults):,} faults")
        if index and not faults:
            with progress_bar("subjects") as progress:
                status = loaded("_gallery_run", tensorflow=False).index_of(gallery, progress)
            say(status)
    raise typer.Exit(FOUND_FAULTS if faults else 0)
