"""Figures of a protocol from features, by the function that its kind is evaluated with."""

import dataclasses

import numpy as np

from keras_normface.evaluation.blufr_counts import num_impostors
from keras_normface.evaluation.blufr_evaluation import evaluate_blufr
from keras_normface.evaluation.calibration import calibrate_threshold
from keras_normface.evaluation.ijb import evaluate_ijb, fewest_non_mated
from keras_normface.evaluation.megaface_evaluation import evaluate_megaface
from keras_normface.evaluation.pair_features import checked_share
from keras_normface.evaluation.pair_scoring import score_pairs
from keras_normface.evaluation.pairs import evaluate_pairs
from keras_normface.evaluation.projection import fitted_projection
from keras_normface.evaluation.score_tails import chosen_rates
from keras_normface.evaluation.ytf import evaluate_video_pairs
from keras_normface.version import __version__


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
    return dataclasses.replace(result, settings={key: noted[key] for key in noted if key != "fusion"})


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
