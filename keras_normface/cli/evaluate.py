"""What `keras-normface evaluate` was asked for, and which of its options belong together."""

import contextlib
import dataclasses
import importlib.util
import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_normface._io import json_text, write_text
from keras_normface.cli._console import failures_in_one_line
from keras_normface.cli._evaluate_inputs import (
    distractor_features,
    find_distractors,
    list_leaks,
    open_features,
    read_train_identities,
)
from keras_normface.inference import save_embeddings, store_threshold
from keras_normface.metrics.bootstrap import REPEATS
from keras_normface.metrics.calibration import calibrate_threshold
from keras_normface.metrics.plots import plot_det, plot_roc
from keras_normface.metrics.projection import fitted_projection
from keras_normface.metrics.verification import chosen_rates
from keras_normface.protocols import open_protocol
from keras_normface.protocols.blufr import evaluate_blufr, num_impostors
from keras_normface.protocols.compare import compare_results
from keras_normface.protocols.ijb import evaluate_ijb, fewest_non_mated
from keras_normface.protocols.megaface import evaluate_megaface
from keras_normface.protocols.pairs import FLIPS, checked_share, evaluate_pairs, score_pairs
from keras_normface.protocols.ytf import evaluate_video_pairs
from keras_normface.version import __version__

FAMILIES = {
    **dict.fromkeys(("lfw", "pairs", "agedb30", "calfw", "cplfw", "cfp-fp", "cfp-ff"), "pairs"),
    "blufr": "blufr",
    "ytf": "videos",
    "megaface": "megaface",
    **dict.fromkeys(("ijba", "ijbb", "ijbc"), "templates"),
}
# Options that are for some families only.
FAMILIES_OF = {
    "center": ("pairs", "blufr"),
    "pca": ("pairs", "blufr"),
    "far": ("pairs", "blufr", "megaface", "templates"),
    "fpir": ("blufr", "templates"),
    "rank": ("blufr", "megaface", "templates"),
    "svm": ("videos",),
    "calibrate_far": ("pairs",),
    "distractors": ("megaface",),
    "distractor_list": ("megaface",),
    "feature_suffix": ("megaface",),
}
NAMED_BY_FOLDER = ("lfw", "blufr", "ytf", "megaface")


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of the command, under their own names; see its help."""

    protocol: str
    protocol_file: Path
    images: Path | None
    model: Path | None
    embeddings: Path | None
    flip: str
    center: bool
    pca: float | None
    far: tuple[float, ...]
    fpir: tuple[float, ...]
    rank: tuple[int, ...]
    svm: bool
    suffix: str | None
    distractors: Path | None
    distractor_list: Path | None
    feature_suffix: str | None
    compare: Path | None
    train_identities: Path | None
    train_embeddings: Path | None
    calibrate_far: float | None
    save_embeddings: Path | None
    out: Path | None
    cache: Path | None
    resize: bool
    batch_size: int
    seed: int
    repeats: int

    @property
    def family(self):
        """Which function evaluates the protocol: "pairs", "blufr", "videos", "megaface" or "templates"."""
        return FAMILIES[self.protocol]

    @property
    def packed(self):
        """Whether the protocol's file holds its images."""
        return self.family == "pairs" and self.protocol_file.suffix.lower() == ".bin"

    @property
    def cache_directory(self):
        """Where embeddings are cached, or `None`."""
        if self.cache is None and self.out is not None:
            return self.out / "cache"
        return self.cache

    def check(self):
        """Refuse options that do not go together.

        Raises:
            typer.BadParameter: If there are such; it names them.
        """
        for option, families in FAMILIES_OF.items():
            if getattr(self, option) not in (None, False, ()) and self.family not in families:
                raise typer.BadParameter(f"--{option.replace('_', '-')} does not belong to {self.protocol}")
        if (self.model is None) == (self.embeddings is None):
            raise typer.BadParameter("either --model or --embeddings must be given")
        try:
            checked_share(self.pca, "--pca")
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        self._check_images()
        self._check_leaks()
        if self.calibrate_far is not None and (self.model is None or self.flip != "none"):
            raise typer.BadParameter(
                "--calibrate-far stores the threshold with --model, for its embeddings as they are: without --flip"
            )
        if self.save_embeddings is not None and self.save_embeddings.suffix != ".npz":
            raise typer.BadParameter(f"--save-embeddings must end in .npz. Received: {self.save_embeddings}")
        if self.family == "megaface":
            self._check_distractors()

    def _check_images(self):
        has_images = self.images is not None or self.packed or self.protocol.startswith("cfp")
        if self.packed and self.images is not None:
            raise typer.BadParameter("--images must not be given with a .bin file, which holds its images")
        for option, path in (("--model", self.model), ("--compare", self.compare)):
            if path is not None and path.is_dir() and not (path / "saved_model.pb").is_file():
                raise typer.BadParameter(f"{option} must be the directory of a SavedModel. Received: {path}")
            if path is not None and path.is_dir() and not has_images:
                raise typer.BadParameter(f"--images must be given with {option}, which is a model")
        if self.embeddings is not None and self.embeddings.is_dir() and self.feature_suffix is None:
            raise typer.BadParameter("--embeddings must be an .npz file, or feature files with their --feature-suffix")
        if self.model is None and (self.flip != "none" or self.resize):
            raise typer.BadParameter("--flip and --resize need --model: stored embeddings are taken as they are")

    def _check_leaks(self):
        named = self.protocol in (*NAMED_BY_FOLDER, "pairs") and not self.packed
        if self.train_identities is not None and not named:
            form = f"{self.protocol} from a .bin file" if self.packed else self.protocol
            raise typer.BadParameter(f"--train-identities: {form} does not name persons")

    def _check_distractors(self):
        if self.distractors is None:
            raise typer.BadParameter("--distractors must be given for megaface")
        of_one_model = self.distractors.is_file() or self.feature_suffix is not None
        if self.compare is not None and of_one_model:
            raise typer.BadParameter("--compare needs --distractors that are images: features belong to one model")


def check_rates(request, protocol):
    """Refuse a false accept rate that the protocol cannot resolve, before anything is embedded.

    Args:
        request: A `Request`.
        protocol: The protocol.

    Raises:
        ValueError: If there is one; it names the rate and the least that can be had.
    """
    of, count, strangers = "impostor pairs", None, None
    if request.family == "pairs":
        count = int(np.count_nonzero(~protocol.same))
    elif request.family == "blufr":
        count, strangers = map(min, num_impostors(protocol))
    elif request.family == "megaface":
        of, count = "impostor scores", len(protocol.images) * protocol.num_distractors
    elif request.family == "templates":
        count = min((int(np.count_nonzero(~pairs.same)) for pairs in protocol.pairs), default=0)
        strangers = fewest_non_mated(protocol) if protocol.searches else 0
    for option, rates, least, what in (
        ("--far", request.far, count, of),
        ("--calibrate-far", request.calibrate_far, count, of),
        ("--fpir", request.fpir, strangers, "probes without a mate"),
    ):
        if rates in (None, ()) or least is None:
            continue
        if least == 0:
            raise ValueError(f"{option} must not be given for {protocol.name}, where {what} are missing")
        chosen_rates(rates, (), least, option, what)


def figures(request, protocol, rows, settings, distractors=None):
    """Return the `Result` of a protocol.

    Args:
        request: A `Request`.
        protocol: The protocol.
        rows: Features `(N, dim)` of its images.
        settings: Dictionary of what made them, to note down.
        distractors: Features of the distractors, for MegaFace.

    Raises:
        ValueError: From the function that evaluates the protocol.
    """
    options = {"intervals": request.repeats > 0, "repeats": max(1, request.repeats), "seed": request.seed}
    if request.family != "videos":
        options["fars"] = request.far or None
    if request.family == "pairs":
        options.update(center=request.center, pca=request.pca)
        result = evaluate_pairs(protocol, rows, **options)
    elif request.family == "blufr":
        projection = _Projection(request) if request.center or request.pca is not None else None
        options.update(dir_fars=request.fpir or None, ranks=request.rank or (1,), projection=projection)
        result = evaluate_blufr(protocol, rows, **options)
    elif request.family == "videos":
        result = evaluate_video_pairs(protocol, rows, svm=request.svm, **options)
    elif request.family == "megaface":
        options.update(ranks=request.rank or (1, 10, 100))
        result = evaluate_megaface(protocol, rows, distractors, **options)
    else:
        options.update(fpirs=request.fpir or None, ranks=request.rank or (1, 5, 10))
        result = evaluate_ijb(protocol, rows, **options)
    if not result.figures:
        raise ValueError(f"{protocol.name} is too small for any of the default rates: give --far or --fpir")
    noted = {"made by": f"keras_normface {__version__}", **result.settings, **settings}
    return dataclasses.replace(result, settings=noted)


def calibrated(request, protocol, rows):
    """Return the `CalibratedThreshold` for the wanted rate.

    Args:
        request: A `Request`.
        protocol: A `PairProtocol`.
        rows: Embeddings `(N, dim)` of its images, as the model makes them.

    Raises:
        ValueError: From `calibrate_threshold`.
    """
    sides = {}
    if protocol.subjects is not None:
        left, right = protocol.subjects[protocol.left], protocol.subjects[protocol.right]
        if min(left.min(), right.min()) >= 0:
            sides = {"left_subjects": left, "right_subjects": right}
    return calibrate_threshold(
        score_pairs(protocol, rows).pooled,
        protocol.same,
        request.calibrate_far,
        protocol=protocol.name,
        repeats=max(1, request.repeats),
        seed=request.seed,
        **sides,
    )


class _Projection:
    """The mean or PCA that BLUFR fits on each trial's training images."""

    def __init__(self, request):
        self._share = checked_share(request.pca, "--pca")
        self.__name__ = "mean subtracted" if self._share is None else f"PCA that keeps {self._share:g} of the variance"

    def __call__(self, training, subjects):
        return fitted_projection(training, self._share).of


def write_outputs(out, result, comparison=None):
    """Write `result.json`, `result.md`, and `roc.png` and `det.png` if there are curves; each is whole or not there.

    Pictures of an earlier run are removed where there are none now.

    Args:
        out: A directory that exists.
        result: A `Result`.
        comparison: `None`, or a `Comparison`, for `comparison.json` and `result.md`.

    Raises:
        OSError: If a file cannot be written.
    """
    result.save(out / "result.json")
    text = result.markdown()
    if comparison is not None:
        write_text(out / "comparison.json", json_text(comparison.to_dict(), indent=1))
        head, *items = str(comparison).splitlines()
        text += "\n".join(["", head, "", *(f"- {item}" for item in items), ""])
    write_text(out / "result.md", text)
    drawn = bool(result.curves) and importlib.util.find_spec("matplotlib") is not None
    if result.curves and not drawn:
        typer.echo('No curves drawn: they need matplotlib, pip install "keras-normface[evaluate]"', err=True)
    for name, plot in (("roc.png", plot_roc), ("det.png", plot_det)):
        if drawn:
            plot(result.curves, out / name, title=result.protocol)
        else:
            _remove(out / name)
    if comparison is None:
        _remove(out / "comparison.json")


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def compared(request, opened, result, name):
    """Evaluate the second model and compare it with the first, on the same draws of subjects.

    Args:
        request: A `Request`.
        opened: An `OpenedProtocol`.
        result: The `Result` of the first model.
        name: Name of the first model.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If the second model's features do not fit the protocol.
        OSError: If something cannot be read.
    """
    second = open_features(request.compare, request)
    rows = second.of(opened.protocol.images, opened.images)
    distractors = None
    if request.family == "megaface":
        distractors = distractor_features(request, opened.protocol, second)
    other = figures(request, opened.protocol, rows, second.settings, distractors)
    return compare_results(result, other, (name, second.name))


Kind = Enum("Kind", {name: name for name in FAMILIES})
Flip = Enum("Flip", {name: name for name in ("none", *FLIPS)})


def evaluate(
    protocol: Annotated[Kind, typer.Argument(help="Which protocol.")],
    protocol_file: Annotated[
        Path,
        typer.Option(
            exists=True,
            help="Its file: pairs.txt, a .bin file, pairs.tsv of `pairs`, BLUFR's .mat or directory of lists, YTF's "
            "splits.txt, MegaFace's list of probes, the directory of CFP or IJB.",
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Directory that its images' names start from.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Exported model, with its preprocessing.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(exists=True, help="Instead of --model: an .npz file, or a directory of MegaFace's feature files."),
    ] = None,
    flip: Annotated[
        Flip, typer.Option(help="How the embedding of the flipped image is added to that of the image.")
    ] = Flip.none,
    center: Annotated[
        bool,
        typer.Option("--center", help="Subtract a mean, that of the other folds or of the training images."),
    ] = False,
    pca: Annotated[
        float | None, typer.Option(help="Share of the variance that a PCA, fitted likewise, keeps, such as 0.995.")
    ] = None,
    far: Annotated[
        list[float], typer.Option(help="False accept rate to report; may be repeated. By default all round ones.")
    ] = (),
    fpir: Annotated[
        list[float], typer.Option(help="Rate of false identifications (blufr, ijb); may be repeated.")
    ] = (),
    rank: Annotated[
        list[int], typer.Option(min=1, help="Rank to report (blufr, megaface, ijb); may be repeated.")
    ] = (),
    svm: Annotated[bool, typer.Option("--svm", help="Train the SVM on histograms too (ytf).")] = False,
    suffix: Annotated[
        str | None, typer.Option(help="How image files end (lfw, blufr), such as .png; .jpg by default.")
    ] = None,
    distractors: Annotated[
        Path | None,
        typer.Option(exists=True, help="MegaFace's: an .npy matrix, or a directory of images or of feature files."),
    ] = None,
    distractor_list: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Their list; by default all that --distractors holds."),
    ] = None,
    feature_suffix: Annotated[
        str | None, typer.Option(help="What follows an image's name in that of its feature file, such as _ours.bin.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(exists=True, help="A second exported model or .npz file, to compare with the first.")
    ] = None,
    train_identities: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="Who the model was trained on: names, one a line; shards; a dataset.json; or a folder."
        ),
    ] = None,
    train_embeddings: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="An .npz file of training images, to find near duplicates."),
    ] = None,
    calibrate_far: Annotated[
        float | None, typer.Option(help="Store the threshold for this false accept rate with --model.")
    ] = None,
    save_embeddings: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the embeddings, for --embeddings: an .npz file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory for result.json, result.md, roc.png and det.png.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where embeddings are kept for the next run; OUT/cache.")
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resize images of another size than the model's.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Images in one step of the model.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the resampling.")] = 0,
    repeats: Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")] = REPEATS,
):
    """Evaluate a model on a protocol.

    Each image is embedded once. With --out or --cache, a run that was killed goes on when it is started again.

    Examples:
    keras-normface evaluate lfw --protocol-file pairs.txt --images lfw_112x112/ --model embedding/ --out runs/lfw

    keras-normface evaluate cfp-fp --protocol-file cfp_fp.bin --model embedding/ --flip sum

    keras-normface evaluate ijbc --protocol-file IJBC/meta/ --embeddings ijbc.npz --far 1e-4 --fpir 1e-2
    """
    options = dict(locals())
    options.update(protocol=protocol.value, flip=flip.value, far=tuple(far), fpir=tuple(fpir), rank=tuple(rank))
    request = Request(**options)
    request.check()
    with failures_in_one_line(resumable=request.cache_directory is not None):
        _evaluate(request)


def _evaluate(request):
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
    known = None if request.train_identities is None else read_train_identities(request.train_identities)
    opened = _opened(request)
    check_rates(request, opened.protocol)
    features = open_features(request.model or request.embeddings, request)
    rows = features.of(opened.protocol.images, opened.images)
    if request.save_embeddings is not None:
        save_embeddings(request.save_embeddings, opened.protocol.images, rows)
    if known is not None or request.train_embeddings is not None:
        list_leaks(request, opened.protocol, known, rows)
    result = _figures(request, opened.protocol, features, rows)
    typer.echo(str(result))
    comparison = compared(request, opened, result, features.name) if request.compare is not None else None
    if comparison is not None:
        typer.echo(str(comparison))
    if request.calibrate_far is not None:
        threshold = calibrated(request, opened.protocol, rows)
        store_threshold(request.model, threshold)
        typer.echo(f"{threshold}\nStored with {request.model}")
    if request.out is not None:
        write_outputs(request.out, result, comparison)


def _opened(request):
    options = {} if request.suffix is None else {"suffix": request.suffix}
    if request.family == "megaface":
        options["distractors"] = find_distractors(request)
    return open_protocol(request.protocol, request.protocol_file, request.images, **options)


def _figures(request, protocol, features, rows):
    distractors = None
    if request.family == "megaface":
        distractors = distractor_features(request, protocol, features)
    return figures(request, protocol, rows, features.settings, distractors)
