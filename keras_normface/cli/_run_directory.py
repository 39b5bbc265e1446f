"""What a run leaves in its directory OUT: `recipe.json`, `run.json`, weights, and the exported model."""

import platform

import keras
import tensorflow as tf

from keras_normface import _validation, recipes
from keras_normface._io import JsonFormat, read_bounded
from keras_normface.distribute import is_chief
from keras_normface.version import __version__

RECIPE_FILE, RUN_FILE, BACKBONE_FILE, EXPORTED = "recipe.json", "run.json", "backbone.weights.h5", "embedding"
RUN_FORMAT = JsonFormat("keras_normface.run", 1)
BEFORE = ", before"  # ends the name of a figure of the network that fine-tuning began with
# Of run.json, what may differ when a run is resumed.
CIRCUMSTANCES = ("data", "template", "center_crop", "versions", "figures")


def facts(recipe, data, request, **others):
    """What run.json records of a run: what makes it this experiment, with `others`, and its circumstances."""
    return {
        "seed": request.seed,
        "images": len(data.reader),
        "identities": data.reader.num_identities,
        **others,
        "data": str(request.data.absolute()),
        "template": recipe.preprocessing.template,
        "center_crop": data.center_crop,
        "versions": {
            "keras_normface": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "figures": {},
    }


def read_run(path):
    """File run.json, from anywhere → its dictionary, with the entries that are read here checked."""
    return read_bounded(path, parsed_run)


def parsed_run(text):
    """Text of run.json → its dictionary."""
    run = RUN_FORMAT.parse(text)
    for name in ("seed", "images", "identities"):
        _validation.integer(name, run.get(name), 0)
    figures = run.get("figures")
    if not isinstance(figures, dict) or not all(isinstance(figure, dict) for figure in figures.values()):
        raise ValueError(f"`figures` must hold a dictionary for each name. {_validation.received('figures', figures)}")
    for figure in figures.values():
        if "accuracy" in figure:
            for name in ("accuracy", "standard_error"):
                _validation.number(name, figure.get(name), at_least=0, at_most=1)
            _validation.integer("folds", figure.get("folds"), 2)
            _validation.strings("pairs", [figure.get("pairs")])
    return run


def check_is_this_experiment(recipe, run, out):
    """Refuse a directory that holds another experiment, naming what differs."""
    for name, ours in ((RECIPE_FILE, recipe.to_fields()), (RUN_FILE, run)):
        if not (out / name).exists():
            continue
        theirs = recipes.read(out / name).to_fields() if name == RECIPE_FILE else read_run(out / name)
        differing = [
            f"{key}: there {theirs.get(key)}, here {ours.get(key)}"
            for key in sorted(set(ours) | set(theirs))
            if theirs.get(key) != ours.get(key) and (name == RECIPE_FILE or key not in CIRCUMSTANCES)
        ]
        if differing:
            raise ValueError(f"{out} holds another experiment; give another --out. {'; '.join(differing)}")


def record(recipe, run, strategy, out):
    """Write OUT/recipe.json and OUT/run.json, by one of several workers; the run with all figures that it has."""
    check_is_this_experiment(recipe, run, out)
    known = read_run(out / RUN_FILE)["figures"] if (out / RUN_FILE).exists() else {}
    run = {**run, "figures": {**known, **run["figures"]}}
    if is_chief(strategy):
        recipe.save(out)
        RUN_FORMAT.write(out / RUN_FILE, run)
    return run


def card_of(recipe, run):
    """Recipe and run.json of a run → what the card of a model that is exported from it says of them."""
    finetuned = "weights" in run
    command = f"keras-normface {'finetune' if finetuned else 'train'} --recipe {recipe.name}"
    data = f"{run['images']:,} images of {run['identities']:,} identities"
    data += f", and their embeddings by {run['teacher']}" if "teacher" in run else ""
    command += f" --teacher {run['teacher'].partition(' ')[0]}" if "teacher" in run else ""
    older = run.get("compatible_with")
    figures = [
        {
            "name": f"accuracy{', before fine-tuning' if name.endswith(BEFORE) else ''}",
            "value": figure["accuracy"],
            "data": f"{figure['pairs']}, {figure['folds']} folds, standard error {figure['standard_error']:.4f}",
            "command": f"{command} --pairs {figure['pairs']}",
        }
        for name, figure in run["figures"].items()
        if "accuracy" in figure
    ]
    return {
        "recipe": {"recipe": recipe.name, "fields": recipe.to_fields()},
        "source": command,
        "training_data": f"{data}, after those of the weights that fine-tuning began with" if finetuned else data,
        "figures": figures,
        "compatible_with": [] if older is None else [older],
    }
