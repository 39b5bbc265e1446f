"""What `keras-normface evaluate` was asked for, and which of its options belong together."""

import dataclasses
from pathlib import Path

import typer

from keras_normface.evaluation.pair_features import checked_share

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
    mirror: str
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
        if self.calibrate_far is not None and (self.model is None or self.mirror != "none"):
            raise typer.BadParameter(
                "--calibrate-far stores the threshold with --model, for its embeddings as they are: without --mirror"
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
        if self.model is None and (self.mirror != "none" or self.resize):
            raise typer.BadParameter("--mirror and --resize need --model: stored embeddings are taken as they are")

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
