"""The same network, data and steps under every loss: a table and a plot, on people that none of them has seen.

    python examples/compare_losses.py --data shards/ --held-out 500 --out runs/losses
    python examples/compare_losses.py --data faces/ --held-out 10 --losses softmax NormFace --seeds 3 --steps 500

Network, optimizer, learning rates and data are those of --recipe, the same for every loss and tuned for none. The
last --held-out identities take no part in training; all pairs among the first ten images of each are scored. LFW plays
no part, so those that it shows are not excluded. The same command again resumes where it ended.
"""

import dataclasses
import sys
from pathlib import Path

import experiment
import keras
import numpy as np

from keras_normface import fit_resumable, heads, margins
from keras_normface.layers import LearnableScale
from keras_normface.metrics import equal_error_rate, pair_scores, plot_roc, roc_curve, tar_at_far
from keras_normface.recipes import serialized
from keras_normface.training import NanGuard, PairImages

FAR = 0.01
IMAGES = 10  # of each person held out; of 500 people that makes 12 million pairs
POINTS = 2000  # of a curve


def margin(margin_class, scale=30.0, **config):
    """A head with a margin."""
    return serialized(heads.MarginSoftmaxHead, margin=serialized(margin_class, **config), scale=scale)


SCALED = serialized(heads.MarginSoftmaxHead, scale=serialized(LearnableScale, initial_value=10.0))
CONTRASTIVE = serialized(heads.AgentContrastiveHead)
LOSSES = {
    "softmax": [serialized(heads.SoftmaxHead, use_bias=True)],
    "NormFace": [SCALED],
    "L2-softmax": [serialized(heads.SoftmaxHead, scale=16.0, use_bias=True)],
    "AM-Softmax": [margin(margins.AdditiveCosine, margin=0.35)],
    "ArcFace": [margin(margins.AdditiveAngular, margin=0.5)],
    "SphereFace-R v1": [margin(margins.MultiplicativeAngular, variant="v1", margin=1.5)],
    "SphereFace-R v2": [margin(margins.MultiplicativeAngular, variant="v2", margin=1.4)],
    "C-contrastive": [CONTRASTIVE],
    "C-triplet": [serialized(heads.AgentTripletHead, positive_pull=True)],
    "NormFace + C-contrastive": [SCALED, CONTRASTIVE],
}
WEIGHTS = {"NormFace + C-contrastive": [1.0, 0.01]}


def parse_args():
    """The command line."""
    parser = experiment.parser(__doc__, recipe="am_softmax_casia")
    parser.set_defaults(out=Path("runs/losses"))
    parser.add_argument("--held-out", type=int, default=500, help="identities that are not trained on (default 500)")
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES), metavar="LOSS")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs of each loss (default 1)")
    args = parser.parse_args()
    if args.held_out < 2:
        sys.exit(f"--held-out must be at least 2, so that there are pairs. Received: {args.held_out}")
    return args


def split(recipe, args):
    """A reader without the last identities, and the images and labels of those."""
    reader = experiment.training_data(recipe.replace(excluded_identities=[]), args).reader
    if args.held_out > reader.num_identities - 2:
        sys.exit(f"--held-out must leave two identities. Received: {args.held_out} of {reader.num_identities}")
    names = list(reader.identities)[-args.held_out :]
    people = range(reader.num_identities - args.held_out, reader.num_identities)
    unseen = np.concatenate([np.flatnonzero(reader.labels == person)[:IMAGES] for person in people])
    rest = experiment.training_data(recipe.replace(excluded_identities=names), args)
    return rest, reader.encoded(unseen), reader.labels[unseen]


def trained(loss, seed, recipe, data, strategy, args):
    """The network under a loss."""
    recipe = recipe.replace(heads=LOSSES[loss], head_weights=WEIGHTS.get(loss))
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, "auto" if args.xla is None else args.xla)
    data = recipe.data(data.reader, seed, center_crop=args.center_crop)
    directory = args.out / "checkpoints" / f"{loss.replace(' ', '_')}-{seed}"
    options = {"save_every": args.save_every, "callbacks": [NanGuard(every_steps=100)], "verbose": 0}
    fit_resumable(model, data, None, directory, steps=recipe.steps, **options)
    return model


def measured(of_seeds):
    """EER and TAR of each seed, the numbers of pairs, and the curve of all seeds, downsampled: pairs are many."""
    eers = [equal_error_rate(*one) for one in of_seeds]
    tars = [tar_at_far(*one, far=FAR).tar for one in of_seeds]
    curve = roc_curve(*map(np.concatenate, zip(*of_seeds, strict=True)))
    fars = np.geomspace(1 / curve.num_impostor, 1.0, POINTS)
    kept = np.unique([0, *(np.searchsorted(curve.far, fars, side="right") - 1)])
    downsampled = {name: getattr(curve, name)[kept] for name in ("far", "tar", "thresholds")}
    same = of_seeds[0][1]
    return eers, tars, (same.sum(), (~same).sum()), dataclasses.replace(curve, **downsampled)


def table(results, people, args, recipe):
    """The results in Markdown."""
    genuine, impostor = next(iter(results.values()))[2]
    lines = [
        f"{people} people not seen in training, {genuine:,} genuine and {impostor:,} impostor pairs; "
        f"{recipe.steps:,} steps of {recipe.batch_size}, {args.seeds} seed(s).",
        "",
        f"| loss | EER | TAR@FAR {FAR:.0%} |",
        "|---|--:|--:|",
    ]
    for loss, (eers, tars, *_) in results.items():
        means = [f"{np.mean(v):.3f}" + (f" ± {np.std(v, ddof=1):.3f}" if len(v) > 1 else "") for v in (eers, tars)]
        lines.append(f"| {loss} | {' | '.join(means)} |")
    if people < 1000 or args.seeds < 3:
        lines += ["", "So few people, or seeds, do not rank the losses: read no order into small differences."]
    return "\n".join(lines) + "\n"


def main():
    """Train each, score the pairs, write table and plot."""
    args = parse_args()
    recipe = experiment.chosen_recipe(args)
    if recipe.initial_weights_needed:
        sys.exit(f"{args.recipe} begins with a trained network; here all begin from scratch: take another --recipe")
    strategy = experiment.strategy_of(args)
    data, images, people = split(recipe, args)
    experiment.remember(recipe, data, strategy, args, held_out=args.held_out)
    unseen = PairImages(images, recipe.preprocessing, args.center_crop, flip="sum", batch_size=128)
    results = {}
    for loss in args.losses:
        scores = []
        for seed in range(args.seed, args.seed + args.seeds):
            model = trained(loss, seed, recipe, data, strategy, args)
            scores.append(pair_scores(unseen.embeddings(model), people))
        results[loss] = measured(scores)
        print(f"{loss}: EER {', '.join(f'{eer:.3f}' for eer in results[loss][0])}", flush=True)
    text = table(results, args.held_out, args, recipe)
    (args.out / "losses.md").write_text(text, encoding="utf-8")
    curves = {loss: curve for loss, (*_, curve) in results.items()}
    plot_roc(curves, args.out / "roc.png", title=f"{args.held_out} people not seen in training")
    print(f"\n{text}\n{args.out}/losses.md, {args.out}/roc.png")


if __name__ == "__main__":
    main()
