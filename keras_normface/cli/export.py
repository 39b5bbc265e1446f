"""`keras-normface export`: a trained network as a SavedModel, for ONNX or for LiteRT; `show`: the card of one."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_normface._io import json_text
from keras_normface.cli._choices import EXPORT_FORMATS, QUANTIZATIONS, READY_NETWORKS, choice
from keras_normface.cli._console import failures_in_one_line, loaded, say

MAX_LOSS = 0.005
Format = choice("Format", EXPORT_FORMATS)
Quantization = choice("Quantization", QUANTIZATIONS)
Flip = choice("FlipOfExport", ("none", "sum"))


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """The options of the command, under their own names; see its help."""

    run: str
    to: str
    quantize: str
    out: Path | None
    flip: str | None
    calibration: Path | None
    pairs: Path | None
    far: float | None
    max_loss: float
    insist: bool
    licence: str | None
    overwrite: bool

    def check(self):
        """Refuse options that do not belong together.

        Raises:
            typer.BadParameter: If there are any; the message names them.
        """
        if self.to == "saved_model" and self.quantize != "none":
            raise typer.BadParameter(f"--quantize {self.quantize} must not be given for --to saved_model: only none")
        if self.quantize == "int8" and self.calibration is None:
            raise typer.BadParameter("--quantize int8 needs --calibration, a folder of aligned faces")
        if self.licence is not None and not self.licence.strip():
            raise typer.BadParameter("--licence must not be empty")
        if self.directory.exists() and not self.overwrite:
            raise typer.BadParameter(f"{self.directory} exists: --overwrite replaces a model, --out writes elsewhere")
        for option, given in (("--insist", self.insist), ("--far", self.far is not None)):
            if given and self.pairs is None:
                raise typer.BadParameter(f"{option} needs --pairs")

    @property
    def directory(self):
        """Where the model is written."""
        if self.out is not None:
            return self.out
        name = self.to if self.quantize == "none" else f"{self.to}-{self.quantize}"
        return Path(f"{self.run}-{name}" if self.run in READY_NETWORKS else f"{self.run}/{name}")


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help=f"Output directory of a training, or {' or '.join(READY_NETWORKS)}, the ready network."
        ),
    ],
    to: Annotated[Format, typer.Option(help="Who runs it: TensorFlow, onnxruntime or LiteRT.")],
    quantize: Annotated[Quantization, typer.Option(help="Type of its numbers; none is float32.")] = Quantization.none,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory to write; by default RUN/FORMAT-QUANTIZATION.")
    ] = None,
    flip: Annotated[
        Flip | None,
        typer.Option(help="Whether the model adds the flipped image's embedding; by default sum for a training."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of aligned faces, up to 256 of which are taken: on them the model is compared with the "
            "network, and they set int8's ranges.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Pair file, such as lfw.bin, to compare the figures on."),
    ] = None,
    far: Annotated[
        float | None, typer.Option(min=1e-9, max=1, help="With --pairs: the false accept rate of TAR@FAR.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="With --pairs: by how much accuracy and TAR may fall.")
    ] = MAX_LOSS,
    insist: Annotated[bool, typer.Option("--insist", help="With --pairs: write the model whatever it loses.")] = False,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for the card.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is in --out.")] = False,
):
    """Export a trained network.

    The model is compared with the network before it is put in place. Its card, which keras-normface show prints, has
    the figures.

    \b
    Examples:
    keras-normface export runs/casia --to onnx
    keras-normface export runs/casia --to litert --quantize int8 --calibration faces/ --pairs lfw.bin
    keras-normface export dlib --to onnx --out dlib-onnx
    """  # noqa: D301
    options = dict(locals())
    options.update(to=to.value, quantize=quantize.value, flip=None if flip is None else flip.value)
    request = ExportRequest(**options)
    request.check()
    module = loaded("_export_run")
    with failures_in_one_line(resumable=False):
        module.run_export(request)
        say(f"Written: {request.directory}")


def show(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Directory of an exported model.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
):
    """Show what an exported model takes, makes, and was made of.

    Nothing of the model runs: its card, model.json, is read.

    Example: keras-normface show runs/casia/embedding
    """
    with failures_in_one_line(resumable=False):
        from keras_normface.inference import read_card  # here, so that --help need not wait for it

        card = read_card(model)
        say(json_text(card.to_dict()).rstrip("\n") if json else card)
