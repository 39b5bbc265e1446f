"""What `keras-normface train` and `finetune` do once their options are checked: train, verify, export."""

import os
import subprocess
import sys

import keras
import numpy as np

from keras_normface import recipes
from keras_normface._io import atomic_write
from keras_normface.cli import _experiment, _run_directory
from keras_normface.cli._console import say
from keras_normface.distribute import is_chief
from keras_normface.inference import export_embedding_model
from keras_normface.training import NanGuard, ScalarLog, WeightSnapshots, average_snapshots, fit_resumable

OF_THE_NETWORK = ("backbone", "backbone_options", "embedding_dim", "dropout", "preprocessing")
LARGEST_DIFFERENCE = 1e-4
LOAD_AND_COMPARE = """
import sys
sys.modules["keras_normface"] = None
import numpy as np, tensorflow as tf
served, images, expected = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2]), np.load(sys.argv[3])
print(np.abs(served.serve(images).numpy() - expected).max())
"""


def train(request):
    """Train from scratch, verify, export."""
    recipe = _experiment.requested_recipe(request)
    if recipe is None:
        return
    if recipe.initial_weights_needed:
        raise ValueError(f"{request.recipe} begins with a trained network: use keras-normface finetune")
    _run(recipe, request)


def finetune(request):
    """Verify, fine-tune, average the snapshots, verify, export."""
    recipe = _experiment.requested_recipe(request)
    if recipe is None:
        return
    weights = request.weights
    if weights is None:
        trained, weights = recipes.Recipe.load(request.trained), request.trained / _run_directory.BACKBONE_FILE
        recipe = recipe.replace(**{field: getattr(trained, field) for field in OF_THE_NETWORK})
        recipe = _experiment.changed(recipe, request)
    if not weights.is_file():
        raise FileNotFoundError(f"There are no weights of a network in {weights}")
    _run(recipe, request, weights)


def _run(recipe, request, weights=None):
    """Train a recipe, from the weights of a file or from scratch, and leave in OUT all that comes of it."""
    strategy = _experiment.strategy_of(request)
    data = _experiment.training_data(recipe, request)
    evaluations = _experiment.pair_evaluations(recipe, request)
    run = _run_directory.facts(recipe, data, request, **({} if weights is None else {"weights": str(weights)}))
    _run_directory.check_is_this_experiment(recipe, run, request.out)
    keras.utils.set_random_seed(request.seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, _experiment.jit_compile(request))
        if weights is not None:
            _load_weights(model.backbone, weights)
    _run_directory.record(recipe, run, strategy, request.out)
    _experiment.say_plan(recipe, data, model, request)
    before = {} if weights is None else {pairs.name: pairs.evaluate(model) for pairs in evaluations}
    fit(model, recipe, data, evaluations, request)
    after = {pairs.name: pairs.evaluate(model) for pairs in evaluations}
    for name, accuracy in after.items():
        say(f"{name}, before: {before[name]}\n{name}, after:  {accuracy}" if before else f"{name}: {accuracy}")
    files = dict(zip(after, request.pairs, strict=True))
    run["figures"] = {name: _figure(accuracy, files[name]) for name, accuracy in after.items()}
    run["figures"] |= {
        f"{name}{_run_directory.BEFORE}": _figure(accuracy, files[name]) for name, accuracy in before.items()
    }
    run = _run_directory.record(recipe, run, strategy, request.out)
    export(model, recipe, data, run, request)


def _load_weights(backbone, path):
    """Load a file of weights; what Keras raises for another network's, or a corrupt file, names the file."""
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} does not hold weights of this network: {error}") from error


def _figure(accuracy, path):
    """A `FoldAccuracy` and the pair file → what run.json holds of it."""
    of_folds = {"standard_error": accuracy.standard_error, "folds": accuracy.accuracies.size}
    return {"accuracy": accuracy.mean, **of_folds, "pairs": path.name}


def fit(model, recipe, data, evaluations, request):
    """Train to the recipe's last step, resuming where the last call ended; average its snapshots."""
    callbacks = [NanGuard(every_steps=100), *evaluations]
    callbacks += [ScalarLog(request.out / "logs")] if request.tensorboard else []
    snapshots = WeightSnapshots(request.out / "snapshots", recipe.snapshot_steps) if recipe.snapshots else None
    callbacks += [] if snapshots is None else [snapshots]
    history = fit_resumable(
        model,
        data,
        None,
        request.out / "checkpoints",
        steps=recipe.steps,
        save_every=request.save_every,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if snapshots is not None:
        written = snapshots.written()
        if len(written) < recipe.snapshots:
            directory = request.out / "snapshots"
            raise ValueError(f"{recipe.snapshots} snapshots are to be averaged, but {directory} has {len(written)}")
        average_snapshots(model, written)
    return history


def export(model, recipe, data, run, request):
    """Write the network's weights and the SavedModel, and compare that with the network in a process of its own."""
    weights = model.get_weights()  # of several workers, all must ask
    if not is_chief(model.distribute_strategy):
        return
    keras.mixed_precision.set_global_policy("float32")  # as the SavedModel computes
    single = recipe.build(data.reader.num_identities)  # of no strategy
    single.set_weights(weights)
    with atomic_write(request.out / _run_directory.BACKBONE_FILE) as beside:
        single.backbone.save_weights(f"{beside}.weights.h5")  # Keras wants this ending
        os.replace(f"{beside}.weights.h5", beside)
    directory, card = request.out / _run_directory.EXPORTED, _run_directory.card_of(recipe, run)
    options = {"flip": "sum", "preprocessing": recipe.preprocessing, "card": card, "overwrite": True}
    exported = export_embedding_model(single, directory, **options)
    few = min(8, recipe.batch_size)
    options = {"scale": False, "augmentation": None, "center_crop": data.center_crop}
    images = next(iter(recipe.replace(batch_size=few).data(data.reader, request.seed, **options)(0, 0)))[0].numpy()
    files = [request.out / "check_images.npy", request.out / "check_embeddings.npy"]
    for path, array in zip(files, (images, exported.predict(images, verbose=0)), strict=True):
        with atomic_write(path) as beside, open(beside, "wb") as file:
            np.save(file, array)
    difference = _difference_of_loaded(directory, files)
    if not difference < LARGEST_DIFFERENCE:
        raise ValueError(f"The SavedModel in {directory} differs from the network by {difference}")
    say(f"SavedModel, loaded and compared in a new process (difference {difference:.1g}): {directory}")


def _difference_of_loaded(directory, files):
    """SavedModel, files of images and embeddings → their largest difference in a process without this package."""
    command = [sys.executable, "-c", LOAD_AND_COMPARE, directory, *files]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own interpreter and source
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"The check of {directory} in a new process failed: {last}")
    return float(done.stdout.split()[-1])
