"""`keras-normface train`, `finetune` and `compare-losses`: their options."""

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from keras_normface.cli._choices import FORMATS, LOSSES, PRECISIONS, RECIPES, STRATEGIES, choice
from keras_normface.cli._console import failures_in_one_line, loaded, say

RecipeName = choice("RecipeName", RECIPES)
DataFormat = choice("DataFormat", FORMATS)
Strategy = choice("Strategy", STRATEGIES)
Precision = choice("Precision", PRECISIONS)
Loss = choice("Loss", LOSSES)


class ListsCommand(TyperCommand):
    """A command without arguments of its own, so that `--pairs A B` can stand for `--pairs A --pairs B`."""

    def parse_args(self, ctx, args):
        """Parse the command line."""
        lists = {name for option in self.params if option.multiple for name in option.opts}
        words, given, values = [], None, 0
        for word in args:
            if word.startswith("-"):
                name, _, value = word.partition("=")
                given, values = name if name in lists else None, int(bool(value))
            elif given is not None:
                words += [given] if values else []
                values += 1
            words.append(word)
        return super().parse_args(ctx, words)


@dataclasses.dataclass(frozen=True)
class TrainingRequest:
    """The options that the three commands share, under their own names; see their help."""

    recipe: str | None
    describe: bool
    changes: tuple[str, ...]
    steps: int | None
    batch_size: int | None
    data: Path | None
    format: str | None
    identities: Path | None
    center_crop: bool | None
    strategy: str
    virtual_devices: int
    precision: str
    xla: bool | None
    seed: int
    save_every: int
    out: Path
    exclude_lfw_overlap: bool | None = None
    pairs: tuple[Path, ...] = ()
    tensorboard: bool = False
    trained: Path | None = None
    weights: Path | None = None
    photos: Path | None = None
    head: str | None = None
    held_out: int | None = None
    losses: tuple[str, ...] = ()
    seeds: int = 1
    teacher: str | None = None
    center_teacher: bool = True
    compatible_with: str | None = None


ListRecipes = Annotated[bool, typer.Option("--list", help="Print the names of all recipes, and end.")]
Describe = Annotated[
    bool, typer.Option("--describe", help="Print every number of the recipe with its source, and end.")
]
Changes = Annotated[
    list[str],
    typer.Option("--set", metavar="FIELD=JSON", help="Change a field: backbone_options.depth=4; may be repeated."),
]
Steps = Annotated[int | None, typer.Option(help="Training steps, in place of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Images per step, all devices together, in place of the recipe's.")]
Data = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Shards, a RecordIO file or its directory, a folder, a list.")
]
Format = Annotated[DataFormat | None, typer.Option(help="Format of --data; inferred from the path if not given.")]
Identities = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Names of a RecordIO file's labels, one per line.")
]
ExcludeOverlap = Annotated[
    bool | None,
    typer.Option(
        "--exclude-lfw-overlap/--no-exclude-lfw-overlap",
        help="Exclude the identities that are in LFW too, or not; by default as the recipe says.",
    ),
]
CenterCrop = Annotated[
    bool | None,
    typer.Option(
        "--center-crop/--no-center-crop",
        help="Cut larger images in their middle, 112x112 to 112x96, or not; by default where the data record a "
        "template that the cut makes that of the recipe.",
    ),
]
Pairs = Annotated[list[Path], typer.Option(metavar="FILE...", help="Pair files to verify: lfw.bin, agedb_30.bin.")]
Devices = Annotated[Strategy, typer.Option(help="Devices to train on.")]
VirtualDevices = Annotated[
    int, typer.Option(min=1, max=64, metavar="N", help="Cut the CPU into N devices, to try --strategy.")
]
Xla = Annotated[bool | None, typer.Option("--xla/--no-xla", help="Compile with XLA or not; by default Keras decides.")]
Computation = Annotated[Precision, typer.Option(help="Precision of the computation.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, order and augmentation.")]
SaveEvery = Annotated[int, typer.Option(min=1, metavar="STEPS", help="Steps between checkpoints.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write OUT/logs for `tensorboard --logdir OUT/logs`.")]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="dlib, or the directory of an exported model, whose embeddings the network learns.",
    ),
]
CompatibleWith = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="dlib, or the directory of an older exported model, with whose embeddings these shall be compared.",
    ),
]
CenterTeacher = Annotated[
    bool,
    typer.Option(
        "--center-teacher/--no-center-teacher",
        help="Take the mean from the teacher's embeddings first, or not: then the network's may be compared with them.",
    ),
]
Out = Annotated[Path, typer.Option(file_okay=False, help="Directory of the run; the same command resumes from it.")]


def train(
    recipe: Annotated[
        RecipeName, typer.Option(metavar="NAME", help="Recipe to train; see --list.")
    ] = RecipeName.am_softmax_casia,
    list_recipes: ListRecipes = False,
    describe: Describe = False,
    changes: Changes = (),
    steps: Steps = None,
    batch_size: BatchSize = None,
    data: Data = None,
    format: Format = None,
    identities: Identities = None,
    exclude_lfw_overlap: ExcludeOverlap = None,
    center_crop: CenterCrop = None,
    pairs: Pairs = (),
    compatible_with: CompatibleWith = None,
    teacher: Teacher = None,
    center_teacher: CenterTeacher = True,
    strategy: Devices = Strategy.one,
    virtual_devices: VirtualDevices = 1,
    precision: Computation = Precision.float32,
    xla: Xla = None,
    seed: Seed = 0,
    save_every: SaveEvery = 1000,
    tensorboard: TensorBoard = False,
    out: Out = Path("runs/casia"),
):
    """Train a paper's experiment on CASIA-WebFace, or on any aligned faces, and export the network.

    The same command again resumes where it ended. OUT then has the checkpoints, recipe.json with every number,
    run.json, backbone.weights.h5, and embedding/, a SavedModel from images to unit embeddings.

    \b
    Examples:
    keras-normface train --recipe am_softmax_casia --describe
    keras-normface train --recipe am_softmax_casia --data shards/ --pairs lfw.bin --out runs/am
    keras-normface train --recipe am_softmax_casia --data faces_webface_112x112 --center-crop
    keras-normface train --recipe mobilefacenet_distilled --teacher dlib --data faces/ --out runs/small
    """  # noqa: D301
    _perform("_train_run", "train", locals())


def finetune(
    photos: Annotated[
        Path | None,
        typer.Argument(
            exists=True, file_okay=False, help="A folder of photos for each person: faces are aligned into OUT/aligned."
        ),
    ] = None,
    recipe: Annotated[
        RecipeName | None,
        typer.Option(
            metavar="NAME", help="Recipe to fine-tune by; normface_ready with --from dlib, else normface_finetune."
        ),
    ] = None,
    trained: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="dlib, the ready network, or OUT of `keras-normface train`: network and preprocessing are its.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of the recipe's own network (.weights.h5) instead.")
    ] = None,
    head: Annotated[
        RecipeName | None, typer.Option(metavar="NAME", help="Recipe whose heads, losses and margins, are taken.")
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of people not trained on, who say when to stop; by default a fifth of them with --from dlib, "
            "else none.",
        ),
    ] = None,
    list_recipes: ListRecipes = False,
    describe: Describe = False,
    changes: Changes = (),
    steps: Steps = None,
    batch_size: BatchSize = None,
    data: Data = None,
    format: Format = None,
    identities: Identities = None,
    exclude_lfw_overlap: ExcludeOverlap = None,
    center_crop: CenterCrop = None,
    pairs: Pairs = (),
    compatible_with: CompatibleWith = None,
    strategy: Devices = Strategy.one,
    virtual_devices: VirtualDevices = 1,
    precision: Computation = Precision.float32,
    xla: Xla = None,
    seed: Seed = 0,
    save_every: SaveEvery = 1000,
    tensorboard: TensorBoard = False,
    out: Out = Path("runs/normface"),
):
    """Fine-tune a trained network on people of your own, under NormFace's loss or that of any recipe.

    Photos are aligned first, or --data names faces that are. The last --held-out people are not trained on: their
    pairs say which weights are kept, and give the exported model its threshold. The same command again resumes where
    it ended; OUT is as of `keras-normface train`.

    \b
    Examples:
    keras-normface finetune photos/ --from dlib --out runs/mine
    keras-normface finetune photos/ --from dlib --head am_softmax_casia --out runs/am
    keras-normface finetune --from runs/casia --data shards/ --pairs lfw.bin --out runs/normface
    """  # noqa: D301
    _perform("_train_run", "finetune", locals())


def compare_losses(
    recipe: Annotated[
        RecipeName, typer.Option(metavar="NAME", help="Recipe of network, optimizer and data; see --list.")
    ] = RecipeName.am_softmax_casia,
    held_out: Annotated[int, typer.Option(min=2, help="Number of identities that are not trained on.")] = 500,
    losses: Annotated[
        list[Loss], typer.Option(metavar="LOSS...", help=f"Losses, by default all: {', '.join(LOSSES)}.")
    ] = (),
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs of each loss.")] = 1,
    list_recipes: ListRecipes = False,
    describe: Describe = False,
    changes: Changes = (),
    steps: Steps = None,
    batch_size: BatchSize = None,
    data: Data = None,
    format: Format = None,
    identities: Identities = None,
    center_crop: CenterCrop = None,
    strategy: Devices = Strategy.one,
    virtual_devices: VirtualDevices = 1,
    precision: Computation = Precision.float32,
    xla: Xla = None,
    seed: Seed = 0,
    save_every: SaveEvery = 1000,
    out: Out = Path("runs/losses"),
):
    """Train one network under several losses, and compare them on people that none of them has seen.

    Network, optimizer, learning rates and data are those of --recipe, the same for every loss and tuned for none. The
    last --held-out identities take no part in training; all pairs among the first ten images of each are scored. LFW
    plays no part, so the identities that are in LFW too are not excluded. OUT then has losses.md, a table, and
    roc.png. The same command again resumes where it ended.

    \b
    Examples:
    keras-normface compare-losses --data shards/ --held-out 500 --out runs/losses
    keras-normface compare-losses --data faces/ --held-out 10 --losses softmax NormFace --seeds 3 --steps 500
    """  # noqa: D301
    _perform("_compare_losses", "compare", locals())


def _perform(file, function, options):
    """Options of a command → what it does, by a function of a file of this room."""
    if options.pop("list_recipes"):
        say("\n".join(RECIPES))
        return
    request = TrainingRequest(**{name: _plain(value) for name, value in options.items()})
    with failures_in_one_line():
        if (request.data is None) == (request.photos is None) and not request.describe:
            both = " and not both" if function == "finetune" else ""
            what = "PHOTOS or --data" if function == "finetune" else "--data"
            raise ValueError(f"{what} must be given{both}: shards, a RecordIO file, a folder or a list; see --help")
        if function == "finetune" and not request.describe and (request.trained is None) == (request.weights is None):
            raise ValueError("One of --from and --weights must be given, and not both")
    run = loaded(file)
    with failures_in_one_line():
        getattr(run, function)(request)


def _plain(value):
    """What an option holds, without enumerations."""
    if isinstance(value, Enum):
        return value.value
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
