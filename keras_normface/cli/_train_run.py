"""What `keras-normface train` and `finetune` do once their options are checked: train, verify, export."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from keras_normface import recipes
from keras_normface._io import atomic_write
from keras_normface.backbones import pretrained
from keras_normface.cli import _experiment, _held_out, _run_directory, _teacher
from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import progress_bar, say
from keras_normface.cli._prepare_run import PHOTO_EXTENSIONS, align_images, open_source
from keras_normface.distribute import is_chief
from keras_normface.inference import export_embedding_model
from keras_normface.training import (
    BestWeights,
    CheckpointStore,
    NanGuard,
    ScalarLog,
    WeightSnapshots,
    average_snapshots,
    fit_heads,
    fit_resumable,
)

READY_RECIPE = "normface_ready"
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
    _run(recipe, request, _experiment.strategy_of(request))


def finetune(request):
    """Align, verify, train the heads and then all, keep the best or the mean of the snapshots, verify, export."""
    ready = request.trained in READY_NETWORKS
    default = READY_RECIPE if ready else "normface_finetune"
    recipe = _experiment.requested_recipe(dataclasses.replace(request, recipe=request.recipe or default))
    if recipe is None:
        return
    strategy = _experiment.strategy_of(request)
    if ready:
        network = pretrained(request.trained)
        begun_with, load = network.name, lambda backbone: backbone.set_weights(network.network.get_weights())
        recipe = recipe.replace(**{field: getattr(recipes.get(READY_RECIPE), field) for field in OF_THE_NETWORK})
    else:
        path = request.weights or Path(request.trained) / _run_directory.BACKBONE_FILE
        begun_with, load = str(path), lambda backbone: _load_weights(backbone, path)
        if request.trained is not None:
            trained = recipes.Recipe.load(request.trained)
            recipe = recipe.replace(**{field: getattr(trained, field) for field in OF_THE_NETWORK})
        if not path.is_file():
            raise FileNotFoundError(f"There are no weights of a network in {path}")
    if request.head is not None:
        others = recipes.get(request.head)
        recipe = recipe.replace(heads=others.heads, head_weights=others.head_weights)
    recipe = _experiment.changed(recipe, request)
    if request.photos is not None:
        request = dataclasses.replace(request, data=aligned(request, recipe.preprocessing.template))
    recipe, request = _experiment.fitted_to_few(recipe, request) if ready else (recipe, request)
    _run(recipe, request, strategy, begun_with, load)


def aligned(request, template):
    """Folder of photos → folder of their faces, aligned to a template, in OUT; one that is there is completed."""
    if template is None:
        raise ValueError("PHOTOS needs a network whose faces are aligned to a template; give aligned faces by --data")
    photos = open_source(request.photos, "folder", extensions=PHOTO_EXTENSIONS)[0]
    out = request.out / "aligned"
    with progress_bar("photos to align") as progress:
        report = align_images(photos, out, template, jobs=os.cpu_count() or 1, progress=progress)
    say(f"{report.aligned:,} of {report.images:,} photos aligned, {report.no_face:,} without a face: {out}")
    return out


def _run(recipe, request, strategy, begun_with=None, load=None):
    """Train a recipe, from weights that `load` puts into the network or from scratch; OUT gets what comes of it."""
    if request.held_out and recipe.snapshots:
        raise ValueError(
            f"--held-out keeps the weights of one step, and {recipe.name} averages those of {recipe.snapshots}: give "
            "--set snapshots=0, or --recipe normface_ready"
        )
    teacher = _teacher.checked_teacher(recipe, request)
    recipe, older = _teacher.checked_older(recipe, request)
    data, unseen = _experiment.split_data(recipe, request, recipe.excluded_identities)
    evaluations = _experiment.pair_evaluations(recipe, request)
    others = {} if load is None else {"weights": begun_with}
    others |= {"held_out": request.held_out} if request.held_out else {}
    others |= _teacher.facts(teacher, older, request)
    run = _run_directory.facts(recipe, data, request, **others)
    _run_directory.check_is_this_experiment(recipe, run, request.out)
    if teacher is not None:
        data = _teacher.with_teacher(recipe, data, teacher, request)
    keras.utils.set_random_seed(request.seed)
    with strategy.scope():
        model = recipe.build_compiled(data.reader.num_identities, _experiment.jit_compile(request))
        if load is not None:
            load(model.backbone)
        if older is not None:
            _teacher.set_older_centers(model, data, older, request)
    _run_directory.record(recipe, run, strategy, request.out)
    _experiment.say_plan(recipe, data, model, request)
    before = {} if load is None else {pairs.name: pairs.evaluate(model) for pairs in evaluations}
    best = None
    if unseen is not None:
        options = {"preprocessing": recipe.preprocessing, "center_crop": data.center_crop}
        looks = {"every_steps": recipe.evaluation_steps, "patience": recipe.patience}
        best = BestWeights(*unseen, request.out / "held_out", **looks, **options)
    fit(model, recipe, data, evaluations, request, best)
    after = {pairs.name: pairs.evaluate(model) for pairs in evaluations}
    for name, accuracy in after.items():
        say(f"{name}, before: {before[name]}\n{name}, after:  {accuracy}" if before else f"{name}: {accuracy}")
    files = dict(zip(after, request.pairs, strict=True))
    run["figures"] = {name: _figure(accuracy, files[name]) for name, accuracy in after.items()}
    run["figures"] |= {
        f"{name}{_run_directory.BEFORE}": _figure(accuracy, files[name]) for name, accuracy in before.items()
    }
    run = _run_directory.record(recipe, run, strategy, request.out)
    export(model, recipe, data, run, request, None if best is None else _held_out.threshold(best, model))


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


def fit(model, recipe, data, evaluations, request, best=None):
    """Train heads and all to the recipe's last step, resuming where the last call ended; take the best, or the mean."""
    callbacks = [NanGuard(every_steps=100), *evaluations]
    callbacks += [ScalarLog(request.out / "logs")] if request.tensorboard else []
    snapshots = WeightSnapshots(request.out / "snapshots", recipe.snapshot_steps) if recipe.snapshots else None
    callbacks += [each for each in (snapshots, best) if each is not None]
    if (recipe.frozen_steps or recipe.initial_centers != "random") and _is_new(request.out):
        _fit_heads(model, recipe, data, request)
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
    if best is not None:
        say(_held_out.summary(best, best.restore(model)))
    return history


def _is_new(out):
    """Whether there is nothing yet that a training would resume from."""
    return CheckpointStore(out / "checkpoints").latest() is None


def _fit_heads(model, recipe, data, request):
    """The steps before all others, in which the network stays as it is."""
    images = recipe.data(
        data.reader,
        request.seed,
        augmentation=None,
        drop_remainder=False,
        center_crop=data.center_crop,
        resize=data.resize,
    )
    with model.distribute_strategy.scope():
        optimizer = recipe.replace(learning_rate=recipe.frozen_learning_rate, milestones=()).optimizer()
    options = {"initial_centers": recipe.initial_centers, "seed": request.seed, "optimizer": optimizer}
    rows = min(recipe.batch_size, 2 * len(data.reader))
    with progress_bar("batches embedded for the heads") as progress:
        history = fit_heads(
            model,
            images,
            request.out / "heads",
            steps=recipe.frozen_steps,
            batch_size=rows,
            progress=progress,
            **options,
        )
    losses = history.history.get("loss", [])
    if losses:
        say(f"{recipe.frozen_steps:,} steps of the heads alone: loss {losses[0]:.4g}, then {losses[-1]:.4g}")


def export(model, recipe, data, run, request, threshold=None):
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
    card |= {} if threshold is None else {"threshold": threshold}
    options = {"flip": "sum", "preprocessing": recipe.preprocessing, "card": card, "overwrite": True}
    exported = export_embedding_model(single, directory, **options)
    few = min(8, recipe.batch_size)
    options = {"scale": False, "augmentation": None, "center_crop": data.center_crop, "resize": data.resize}
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
