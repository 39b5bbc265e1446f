"""What `keras-normface compare-losses` does once its options are checked: the same training under each loss."""

import dataclasses
import importlib.util

import keras
import numpy as np

from keras_normface import heads, margins
from keras_normface._io import write_text
from keras_normface.cli import _experiment, _run_directory
from keras_normface.cli._console import say
from keras_normface.distribute import is_chief
from keras_normface.layers import LearnableScale
from keras_normface.metrics import equal_error_rate, pair_scores, plot_roc, roc_curve, tar_at_far
from keras_normface.recipes import serialized
from keras_normface.training import NanGuard, PairImages, fit_resumable

FAR = 0.01
POINTS = 2000  # of a curve
ENOUGH_PEOPLE, ENOUGH_SEEDS = 1000, 3


def _margin(margin_class, scale=30.0, **config):
    return serialized(heads.MarginSoftmaxHead, margin=serialized(margin_class, **config), scale=scale)


_SCALED = serialized(heads.MarginSoftmaxHead, scale=serialized(LearnableScale, initial_value=10.0))
_CONTRASTIVE = serialized(heads.AgentContrastiveHead)
HEADS = {
    "softmax": [serialized(heads.SoftmaxHead, use_bias=True)],
    "NormFace": [_SCALED],
    "L2-softmax": [serialized(heads.SoftmaxHead, scale=16.0, use_bias=True)],
    "AM-Softmax": [_margin(margins.AdditiveCosine, margin=0.35)],
    "ArcFace": [_margin(margins.AdditiveAngular, margin=0.5)],
    "SphereFace-R v1": [_margin(margins.MultiplicativeAngular, variant="v1", margin=1.5)],
    "SphereFace-R v2": [_margin(margins.MultiplicativeAngular, variant="v2", margin=1.4)],
    "AdaFace": [_margin(margins.AdaFace)],
    "MagFace": [_margin(margins.MagFace)],
    "ElasticFace": [_margin(margins.ElasticFace)],
    "ElasticFace+": [_margin(margins.ElasticFace, by_rank=True)],
    "CurricularFace": [_margin(margins.CurricularFace)],
    "MV-Softmax": [_margin(margins.MVSoftmax)],
    "t-vMF": [_margin(margins.TVMF)],
    "Circle": [_margin(margins.Circle, scale=256.0)],
    "C-contrastive": [_CONTRASTIVE],
    "C-triplet": [serialized(heads.AgentTripletHead, positive_pull=True)],
    "NormFace + C-contrastive": [_SCALED, _CONTRASTIVE],
}
WEIGHTS = {"NormFace + C-contrastive": [1.0, 0.01]}


def compare(request):
    """Train the recipe under each loss, score the pairs, write table and plot."""
    recipe = _experiment.requested_recipe(request)
    if recipe is None:
        return
    if recipe.initial_weights_needed:
        raise ValueError(f"{request.recipe} begins with a trained network, not from scratch: give another --recipe")
    strategy = _experiment.strategy_of(request)
    data, (images, people) = _experiment.split_data(recipe, request)
    run = _run_directory.facts(recipe, data, request, held_out=request.held_out)
    _run_directory.record(recipe, run, strategy, request.out)
    drawn = importlib.util.find_spec("matplotlib") is not None
    if not drawn:
        say('No curves will be drawn without matplotlib: pip install "keras-normface[plot]"', err=True)
    unseen = PairImages(images, recipe.preprocessing, data.center_crop, flip="sum", batch_size=128)
    results = {}
    for loss in request.losses or HEADS:
        scores = []
        for seed in range(request.seed, request.seed + request.seeds):
            model = _trained(loss, seed, recipe, data, strategy, request)
            scores.append(pair_scores(unseen.embeddings(model), people))
        results[loss] = measured(scores)
        say(f"{loss}: EER {', '.join(f'{eer:.3f}' for eer in results[loss].eers)}")
    text = table(results, request, recipe)
    if is_chief(strategy):
        write_text(request.out / "losses.md", text)
        if drawn:
            curves = {loss: result.curve for loss, result in results.items()}
            plot_roc(curves, request.out / "roc.png", title=f"{request.held_out} people not seen in training")
        run["figures"] = {
            loss: {"EER": result.eers, f"TAR@FAR={FAR:g}": result.tars} for loss, result in results.items()
        }
        _run_directory.record(recipe, run, strategy, request.out)
    say(f"\n{text}\n{request.out}/losses.md" + (f", {request.out}/roc.png" if drawn else ""))


def _trained(loss, seed, recipe, data, strategy, request):
    """The network, trained under a loss."""
    recipe = recipe.replace(heads=HEADS[loss], head_weights=WEIGHTS.get(loss))
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, _experiment.jit_compile(request))
    data = recipe.data(data.reader, seed, center_crop=data.center_crop)
    directory = request.out / "checkpoints" / f"{loss.replace(' ', '_')}-{seed}"
    options = {"save_every": request.save_every, "callbacks": [NanGuard(every_steps=100)], "verbose": 0}
    fit_resumable(model, data, None, directory, steps=recipe.steps, **options)
    return model


@dataclasses.dataclass(frozen=True)
class Measured:
    """EER and TAR of each seed, the numbers of genuine and impostor pairs, the curve of all seeds, downsampled."""

    eers: list
    tars: list
    counts: tuple
    curve: object


def measured(of_seeds):
    """Scores and flags of each seed → `Measured`; pairs are many, so the curve keeps `POINTS` points."""
    curve = roc_curve(*map(np.concatenate, zip(*of_seeds, strict=True)))
    fars = np.geomspace(1 / curve.num_impostor, 1.0, POINTS)
    kept = np.unique([0, *(np.searchsorted(curve.far, fars, side="right") - 1)])
    downsampled = {name: getattr(curve, name)[kept] for name in ("far", "tar", "thresholds")}
    same = of_seeds[0][1]
    return Measured(
        [float(equal_error_rate(*one)) for one in of_seeds],
        [float(tar_at_far(*one, far=FAR).tar) for one in of_seeds],
        (int(same.sum()), int((~same).sum())),
        dataclasses.replace(curve, **downsampled),
    )


def table(results, request, recipe):
    """The results in Markdown."""
    genuine, impostor = next(iter(results.values())).counts
    lines = [
        f"{request.held_out} people not seen in training, {genuine:,} genuine and {impostor:,} impostor pairs; "
        f"{recipe.steps:,} steps of {recipe.batch_size}, {request.seeds} seed(s).",
        "",
        f"| loss | EER | TAR@FAR {FAR:.0%} |",
        "|---|--:|--:|",
    ]
    for loss, result in results.items():
        columns = (result.eers, result.tars)
        means = [f"{np.mean(v):.3f}" + (f" ± {np.std(v, ddof=1):.3f}" if len(v) > 1 else "") for v in columns]
        lines.append(f"| {loss} | {' | '.join(means)} |")
    if request.held_out < ENOUGH_PEOPLE or request.seeds < ENOUGH_SEEDS:
        lines += ["", "So few people, or seeds, do not rank the losses: read no order into small differences."]
    return "\n".join(lines) + "\n"
