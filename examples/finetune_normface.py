"""Fine-tune a trained network under one of NormFace's losses, averaging snapshots, and verify it before and after.

    python examples/finetune_normface.py --from runs/casia --data shards/ --pairs lfw.bin --out runs/normface
    python examples/finetune_normface.py --recipe normface_contrastive --from runs/casia --data shards/ --out runs/c

--from is the OUT of train_casia_webface.py: network, embedding and preprocessing are its; all else is the recipe's.
--weights takes a file of Keras weights of the recipe's own network instead. The class centres start anew. The same
command again resumes where it ended.
"""

import sys
from pathlib import Path

import experiment
import keras

from keras_normface import recipes

OF_THE_NETWORK = ("backbone", "backbone_options", "embedding_dim", "dropout", "preprocessing")


def parse_args():
    """The command line."""
    parser = experiment.parser(__doc__, recipe="normface_finetune")
    parser.set_defaults(out=Path("runs/normface"))
    parser.add_argument("--from", dest="trained", type=Path, metavar="OUT", help="of train_casia_webface.py")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the recipe's network (.weights.h5)")
    return parser.parse_args()


def start(args):
    """The recipe on the trained network, and the file of its weights."""
    recipe = experiment.chosen_recipe(args)
    if (args.trained is None) == (args.weights is None):
        sys.exit("One of --from and --weights is needed, not both")
    if args.weights is not None:
        return recipe, args.weights
    trained = recipes.Recipe.load(args.trained)
    recipe = recipe.replace(**{field: getattr(trained, field) for field in OF_THE_NETWORK})
    return experiment.changed(recipe, args), args.trained / experiment.BACKBONE_FILE


def main():
    """Verify, fine-tune, average, verify, export."""
    args = parse_args()
    recipe, weights = start(args)
    strategy = experiment.strategy_of(args)
    data = experiment.training_data(recipe, args)
    experiment.remember(recipe, data, strategy, args, weights=str(weights))
    keras.utils.set_random_seed(args.seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, "auto" if args.xla is None else args.xla)
        model.backbone.load_weights(weights)
    experiment.show_plan(recipe, data, model, args)
    evaluations = experiment.pair_evaluations(recipe, args)
    before = [pairs.evaluate(model) for pairs in evaluations]
    experiment.train(model, recipe, data, evaluations, args)
    for pairs, accuracy in zip(evaluations, before, strict=True):
        print(f"{pairs.name}, before: {accuracy}\n{pairs.name}, after:  {pairs.evaluate(model)}")
    experiment.export(model, recipe, data, args)


if __name__ == "__main__":
    main()
