r"""Train a paper's experiment on CASIA-WebFace, or on any faces in one of its shapes.

    python examples/train_casia_webface.py --list
    python examples/train_casia_webface.py --recipe am_softmax_casia --data shards/
    python examples/train_casia_webface.py --recipe am_softmax_casia --data faces_webface_112x112 --center-crop \
        --no-exclude-lfw-overlap --strategy mirrored --xla --pairs faces_webface_112x112/lfw.bin --out runs/am

The same command again resumes where it ended. OUT then has the checkpoints, recipe.json with every number,
backbone.weights.h5, and embedding/, a SavedModel from images to unit embeddings. docs/casia.md is the whole way.
"""

import sys

import experiment
import keras


def main():
    """Train, verify, export."""
    args = experiment.parser(__doc__, recipe="am_softmax_casia").parse_args()
    recipe = experiment.chosen_recipe(args)
    if recipe.initial_weights_needed:
        sys.exit(f"{args.recipe} begins with a trained network: use examples/finetune_normface.py")
    strategy = experiment.strategy_of(args)
    data = experiment.training_data(recipe, args)
    experiment.remember(recipe, data, strategy, args)
    keras.utils.set_random_seed(args.seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, "auto" if args.xla is None else args.xla)
    experiment.show_plan(recipe, data, model, args)
    evaluations = experiment.pair_evaluations(recipe, args)
    experiment.train(model, recipe, data, evaluations, args)
    for pairs in evaluations:
        print(f"{pairs.name}: {pairs.evaluate(model)}")
    experiment.export(model, recipe, data, args)


if __name__ == "__main__":
    main()
