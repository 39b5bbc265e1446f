"""What `keras-normface evaluate` was asked for, and which of its options belong together."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli._choices import CARD_FILE, FLIPS, READY_NETWORKS, REPEATS, choice
from keras_normface.cli._console import failures_in_one_line, loaded
from keras_normface.cli.verify import MODEL_HELP

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
    model: str | None
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
    compare: str | None
    train_identities: Path | None
    train_embeddings: Path | None
    calibrate_far: float | None
    save_embeddings: Path | None
    out: Path | None
    cache: Path | None
    resize: bool
    center_crop: bool
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
        """Refuse options that do not belong together.

        Raises:
            typer.BadParameter: If there are any; the message names them.
        """
        for option, families in FAMILIES_OF.items():
            if getattr(self, option) not in (None, False, ()) and self.family not in families:
                raise typer.BadParameter(f"--{option.replace('_', '-')} must not be given for {self.protocol}")
        if (self.model is None) == (self.embeddings is None):
            raise typer.BadParameter("exactly one of --model and --embeddings must be given")
        if self.pca is not None and not 0 < self.pca <= 1:
            raise typer.BadParameter(f"--pca must be a share of the variance in (0, 1]. Received: {self.pca}")
        self._check_images()
        self._check_leaks()
        if self.calibrate_far is not None and (self.model is None or self.flip != "none"):
            raise typer.BadParameter("--calibrate-far needs --model, with which it stores the threshold, and no --flip")
        if self.calibrate_far is not None and self.model in READY_NETWORKS:
            raise typer.BadParameter(
                f"--calibrate-far stores the threshold with --model: {self.model} must be exported first"
            )
        if self.save_embeddings is not None and self.save_embeddings.suffix != ".npz":
            raise typer.BadParameter(f"--save-embeddings must end in .npz. Received: {self.save_embeddings}")
        if self.save_embeddings is not None and not self.save_embeddings.parent.is_dir():
            raise typer.BadParameter(
                f"--save-embeddings must be in a directory that exists. Received: {self.save_embeddings}"
            )
        if self.family == "megaface":
            self._check_distractors()

    def _check_images(self):
        has_images = self.images is not None or self.packed or self.protocol.startswith("cfp")
        if self.packed and self.images is not None:
            raise typer.BadParameter("--images must not be given with a .bin file, which holds its images")
        for option, name in (("--model", self.model), ("--compare", self.compare)):
            if name is None or (option == "--compare" and os.path.isfile(name)):
                continue
            if name not in READY_NETWORKS and not os.path.isfile(os.path.join(name, CARD_FILE)):
                other = ", or an .npz file" if option == "--compare" else ""
                raise typer.BadParameter(
                    f"{option} must be the directory of an exported model, with {CARD_FILE} in it, or "
                    f"{' or '.join(READY_NETWORKS)}{other}. Received: {name}"
                )
            if not has_images:
                raise typer.BadParameter(f"--images must be given where {option} is a model")
        if self.embeddings is not None and self.embeddings.is_dir() and self.feature_suffix is None:
            raise typer.BadParameter("--embeddings must be an .npz file, or feature files with their --feature-suffix")
        if self.model is None and (self.flip != "none" or self.resize or self.center_crop):
            raise typer.BadParameter(
                "--flip, --resize and --center-crop need --model: stored embeddings are used as they are"
            )
        if self.resize and self.center_crop:
            raise typer.BadParameter("--resize and --center-crop exclude each other")

    def _check_leaks(self):
        named = self.protocol in (*NAMED_BY_FOLDER, "pairs") and not self.packed
        if self.train_identities is not None and not named:
            form = f"{self.protocol} from a .bin file" if self.packed else self.protocol
            raise typer.BadParameter(f"--train-identities must not be given for {form}, which names no identities")

    def _check_distractors(self):
        if self.distractors is None:
            raise typer.BadParameter("--distractors must be given for megaface")
        of_one_model = self.distractors.is_file() or self.feature_suffix is not None
        if self.compare is not None and of_one_model:
            raise typer.BadParameter("--compare needs --distractors that are images: features are those of one model")


Kind = choice("Kind", FAMILIES)
Flip = choice("Flip", FLIPS)


def evaluate(
    protocol: Annotated[Kind, typer.Argument(help="Name of the protocol.")],
    protocol_file: Annotated[
        Path,
        typer.Option(
            exists=True,
            help="File of the protocol: pairs.txt, a .bin file, pairs.tsv of `pairs`, BLUFR's .mat or directory of "
            "lists, YTF's splits.txt, MegaFace's list of probes, the directory of CFP or IJB.",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Directory that the protocol's image names are relative to."),
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(exists=True, help="Instead of --model: an .npz file, or a directory of MegaFace's feature files."),
    ] = None,
    flip: Annotated[
        Flip, typer.Option(help="How to combine the embeddings of the image and of its mirror image.")
    ] = Flip.none,
    center: Annotated[
        bool,
        typer.Option("--center", help="Subtract the mean of the other folds, or of the training images."),
    ] = False,
    pca: Annotated[
        float | None,
        typer.Option(help="Share of the variance that a PCA, fitted on the same images, keeps, such as 0.995."),
    ] = None,
    far: Annotated[
        list[float], typer.Option(help="False accept rate to report; may be repeated. By default all powers of ten.")
    ] = (),
    fpir: Annotated[
        list[float], typer.Option(help="False positive identification rate to report (blufr, ijb); may be repeated.")
    ] = (),
    rank: Annotated[
        list[int], typer.Option(min=1, help="Rank to report (blufr, megaface, ijb); may be repeated.")
    ] = (),
    svm: Annotated[bool, typer.Option("--svm", help="Also evaluate the SVM on histograms (ytf).")] = False,
    suffix: Annotated[
        str | None, typer.Option(help="Suffix of the image files (lfw, blufr), such as .png; .jpg by default.")
    ] = None,
    distractors: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="Distractors of MegaFace: an .npy matrix, or a directory of images or of feature files."
        ),
    ] = None,
    distractor_list: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="List of the distractors; by default all that --distractors holds."
        ),
    ] = None,
    feature_suffix: Annotated[
        str | None, typer.Option(help="Suffix of the feature files, after the image's name, such as _ours.bin.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="A second model, as --model, or .npz file, to compare with the first.")
    ] = None,
    train_identities: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Identities of the training set, to find leaks: names, one per line; shards; dataset.json; a folder.",
        ),
    ] = None,
    train_embeddings: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="An .npz file with embeddings of training images, to find near duplicates.",
        ),
    ] = None,
    calibrate_far: Annotated[
        float | None, typer.Option(help="Store the threshold for this false accept rate with --model.")
    ] = None,
    save_embeddings: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The .npz file to write the embeddings to, for --embeddings."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory for result.json, result.md, roc.png and det.png.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory of the embedding cache; by default OUT/cache.")
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Resize images that differ in size from the model's input.")
    ] = False,
    center_crop: Annotated[
        bool,
        typer.Option("--center-crop", help="Cut larger images in their middle: faces of 112x112 for a 112x96 model."),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Images per step of the model.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the bootstrap.")] = 0,
    repeats: Annotated[int, typer.Option(min=0, help="Bootstrap replicates for the intervals; 0 for none.")] = REPEATS,
):
    """Evaluate a model on a protocol.

    Each image is embedded once. With --out or --cache, the same command resumes after an interruption.

    \b
    Examples:
    keras-normface evaluate lfw --protocol-file pairs.txt --images lfw/ --model embedding/
    keras-normface evaluate cfp-fp --protocol-file cfp_fp.bin --model embedding/ --flip sum
    keras-normface evaluate ijbc --protocol-file IJBC/meta/ --embeddings ijbc.npz --far 1e-4
    """  # noqa: D301
    options = dict(locals())
    options.update(protocol=protocol.value, flip=flip.value, far=tuple(far), fpir=tuple(fpir), rank=tuple(rank))
    request = Request(**options)
    request.check()
    run = loaded("_evaluate_run")
    with failures_in_one_line(resumable=request.cache_directory is not None):
        run.run_evaluation(request)
