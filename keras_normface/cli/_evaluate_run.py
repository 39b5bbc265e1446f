"""What `keras-normface evaluate` does once its options are checked: embed, score, compare, write."""

import contextlib
import dataclasses
import importlib.util
import os

import numpy as np

from keras_normface._io import json_text, printable, write_text
from keras_normface.cli._console import say
from keras_normface.cli._evaluate_inputs import (
    distractor_features,
    find_distractors,
    list_leaks,
    open_features,
    read_train_identities,
)
from keras_normface.inference import read_card, save_embeddings, write_card
from keras_normface.metrics.calibration import calibrate_threshold
from keras_normface.metrics.plots import plot_det, plot_roc
from keras_normface.metrics.projection import fitted_projection
from keras_normface.metrics.verification import chosen_rates
from keras_normface.protocols import open_protocol
from keras_normface.protocols.blufr import evaluate_blufr, num_impostors
from keras_normface.protocols.compare import compare_results
from keras_normface.protocols.ijb import evaluate_ijb, fewest_non_mated
from keras_normface.protocols.megaface import evaluate_megaface
from keras_normface.protocols.pairs import checked_share, evaluate_pairs, score_pairs
from keras_normface.protocols.ytf import evaluate_video_pairs
from keras_normface.version import __version__


def run_evaluation(request):
    """Evaluate the model on the protocol, print the figures and write what was asked for."""
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
    say(result)
    comparison = compared(request, opened, result, features.name) if request.compare is not None else None
    if comparison is not None:
        say(comparison)
    if request.calibrate_far is not None:
        threshold = calibrated(request, opened.protocol, rows)
        write_card(request.model, dataclasses.replace(read_card(request.model), threshold=threshold))
        say(f"{threshold}\nStored with {printable(request.model)}")
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


def check_rates(request, protocol):
    """Refuse a rate that the protocol cannot resolve, before anything is embedded."""
    of, count, non_mated = "impostor pairs", None, None
    if request.family == "pairs":
        count = int(np.count_nonzero(~protocol.same))
    elif request.family == "blufr":
        count, non_mated = map(min, num_impostors(protocol))
    elif request.family == "megaface":
        of, count = "impostor scores", len(protocol.images) * protocol.num_distractors
    elif request.family == "templates":
        count = min((int(np.count_nonzero(~pairs.same)) for pairs in protocol.pairs), default=0)
        non_mated = fewest_non_mated(protocol) if protocol.searches else 0
    for option, rates, least, what in (
        ("--far", request.far, count, of),
        ("--calibrate-far", request.calibrate_far, count, of),
        ("--fpir", request.fpir, non_mated, "non-mated probes"),
    ):
        if rates in (None, ()) or least is None:
            continue
        if least == 0:
            raise ValueError(f"{option} must not be given for {protocol.name}, which has no {what}")
        chosen_rates(rates, (), least, option, what)


def figures(request, protocol, rows, settings, distractors=None):
    """Features `(N, dim)` of a protocol's images → its `Result`, which records `settings`."""
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
    """Embeddings `(N, dim)` of a protocol's images → the `CalibratedThreshold` at --calibrate-far."""
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
    """Write `result.json`, `result.md`, and with curves `roc.png` and `det.png`; remove those of an earlier run."""
    result.save(out / "result.json")
    text = result.markdown()
    if comparison is not None:
        write_text(out / "comparison.json", json_text(comparison.to_dict(), indent=1))
        head, *items = str(comparison).split("\n")
        text += "\n".join(["", head, "", *(f"- {item}" for item in items), ""])
    write_text(out / "result.md", text)
    drawn = bool(result.curves) and importlib.util.find_spec("matplotlib") is not None
    if result.curves and not drawn:
        say('No curves are drawn without matplotlib: pip install "keras-normface[evaluate]"', err=True)
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
    """The `Comparison` of the first model with the second, on the same bootstrap replicates."""
    second = open_features(request.compare, request)
    rows = second.of(opened.protocol.images, opened.images)
    distractors = None
    if request.family == "megaface":
        distractors = distractor_features(request, opened.protocol, second)
    other = figures(request, opened.protocol, rows, second.settings, distractors)
    return compare_results(result, other, (name, second.name))
