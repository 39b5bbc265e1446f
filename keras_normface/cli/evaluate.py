"""`keras-normface evaluate`: the figures of a protocol, from a model and images or from embeddings."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from keras_normface.cli.evaluate_comparison import compared
from keras_normface.cli.evaluate_distractors import distractor_features, find_distractors
from keras_normface.cli.evaluate_features import open_features
from keras_normface.cli.evaluate_figures import calibrated, check_rates, figures
from keras_normface.cli.evaluate_leaks import list_leaks, read_train_identities
from keras_normface.cli.evaluate_output import write_outputs
from keras_normface.cli.evaluate_request import FAMILIES, Request
from keras_normface.cli.show import failures_in_one_line
from keras_normface.embedding_store import save_embeddings
from keras_normface.evaluation.bootstrap import REPEATS
from keras_normface.evaluation.pair_features import FUSIONS
from keras_normface.export import store_threshold
from keras_normface.protocols import open_protocol

Kind = Enum("Kind", {name: name for name in FAMILIES})
Mirror = Enum("Mirror", {name: name for name in ("none", *FUSIONS)})


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
    mirror: Annotated[
        Mirror, typer.Option(help="How the mirror image's embedding is added to that of the image.")
    ] = Mirror.none,
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

    keras-normface evaluate cfp-fp --protocol-file cfp_fp.bin --model embedding/ --mirror sum

    keras-normface evaluate ijbc --protocol-file IJBC/meta/ --embeddings ijbc.npz --far 1e-4 --fpir 1e-2
    """
    options = dict(locals())
    options.update(protocol=protocol.value, mirror=mirror.value, far=tuple(far), fpir=tuple(fpir), rank=tuple(rank))
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
