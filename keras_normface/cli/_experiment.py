"""What is trained: the recipe with the changes of the command line, devices, batches and pairs."""

import dataclasses
import json
import re

import keras
import numpy as np
import tensorflow as tf

from keras_normface import recipes
from keras_normface.cli._console import say
from keras_normface.data import CASIA_LFW_OVERLAP, decode_image, open_reader, read_pair_file
from keras_normface.protocols import numbered_lines
from keras_normface.training import PairEvaluation

# Template of the data, template and size of the recipe: where cutting gives the one from the other.
EXACT_CUT = ("arcface_112x112", "sphereface_112x96", (112, 96))
HELD_OUT_IMAGES = 10  # of each person held out; of 500 people that makes 12 million pairs
FEWEST_HELD_OUT, MOST_HELD_OUT = 2, 100
WAYS_OUT = (
    "Here: --center-crop cuts larger images; --set preprocessing.size=[height,width] changes the recipe's size, and "
    "--set preprocessing.template=null its template; or align the photos anew with keras-normface align --template."
)


def requested_recipe(request):
    """The recipe with the changes of the command line; with --describe it is printed, and `None` is returned."""
    recipe = changed(recipes.get(request.recipe), request)
    if request.describe:
        say(recipes.table(recipe.describe()))
        return None
    return recipe


def changed(recipe, request):
    """A recipe with the changes of the command line."""
    changes = {}
    for text in request.changes:
        field, _, value = text.partition("=")
        try:
            changes[field] = json.loads(value)
        except ValueError:
            raise ValueError(f"--set must be FIELD=JSON, such as backbone='\"MobileNet\"'. Received: {text}") from None
    given = {"steps": request.steps, "batch_size": request.batch_size}
    changes |= {name: value for name, value in given.items() if value is not None}
    if request.exclude_lfw_overlap is not None:
        changes["excluded_identities"] = sorted(CASIA_LFW_OVERLAP) if request.exclude_lfw_overlap else []
    return recipe.replace(**changes)


def strategy_of(request):
    """The devices; called before anything else of TensorFlow."""
    if request.virtual_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * request.virtual_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    keras.mixed_precision.set_global_policy(request.precision)
    if request.strategy == "multi-worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if request.strategy == "mirrored":
        cpus = [f"CPU:{number}" for number in range(request.virtual_devices)]
        return tf.distribute.MirroredStrategy(cpus if request.virtual_devices > 1 else None)
    return tf.distribute.get_strategy()


def training_data(recipe, request):
    """The batches; images of another size than the recipe's are refused at once."""
    options = {"exclude": recipe.excluded_identities}
    if request.identities is not None:
        if request.format not in (None, "recordio"):
            raise ValueError(f"--identities is for RecordIO files only. Received: --format {request.format}")
        options["identities"] = [line.text for line in numbered_lines(request.identities, blank=True)]
    try:
        reader = open_reader(request.data, request.format, **options)
    except TypeError:
        raise ValueError(f"--identities is for RecordIO files only. Received: --data {request.data}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"--data {request.data}: {error}") from error
    if recipe.batch_size > len(reader):
        raise ValueError(
            f"--batch-size must be at most the number of images, {len(reader):,}. Received: {recipe.batch_size:,}"
        )
    center_crop = request.center_crop
    if center_crop is None:
        center_crop = (reader.template, recipe.preprocessing.template, recipe.preprocessing.size) == EXACT_CUT
    resize = not center_crop and _same_shape(reader, recipe.preprocessing)
    try:
        data = recipe.data(reader, request.seed, center_crop=center_crop, resize=resize)
    except ValueError as error:
        raise ValueError(f"--data {request.data}: {error}. {WAYS_OUT}") from error
    try:
        size = tuple(decode_image(reader.sample(0)[0]).shape[:2])
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"--data {request.data}: the first image cannot be decoded: {error.message}") from error
    if size != recipe.preprocessing.size and not center_crop and not resize:
        raise ValueError(
            f"--data {request.data}: the images are {size[0]}x{size[1]}, the recipe's "
            f"{'x'.join(map(str, recipe.preprocessing.size))} (height x width). {WAYS_OUT}"
        )
    return data


def _same_shape(reader, preprocessing):
    """Whether faces are aligned by the recipe's template, in another size of the same ratio: these are resized."""
    if reader.image_size is None or reader.template is None or reader.template != preprocessing.template:
        return False
    (height, width), (wanted_height, wanted_width) = reader.image_size, preprocessing.size
    return (height, width) != preprocessing.size and height * wanted_width == width * wanted_height


def split_data(recipe, request, excluded=()):
    """The batches without the last `held_out` identities, and pair of images and labels of these; `None` of nobody."""
    recipe = recipe.replace(excluded_identities=list(excluded))
    if not request.held_out:
        return training_data(recipe, request), None
    reader = training_data(recipe, request).reader
    if request.held_out > reader.num_identities - 2:
        raise ValueError(
            f"--held-out must leave two identities. Received: {request.held_out} of {reader.num_identities}"
        )
    names = list(reader.identities)[-request.held_out :]
    people = range(reader.num_identities - request.held_out, reader.num_identities)
    places = np.concatenate([np.flatnonzero(reader.labels == person)[:HELD_OUT_IMAGES] for person in people])
    rest = training_data(recipe.replace(excluded_identities=[*excluded, *names]), request)
    return rest, (reader.encoded(places), reader.labels[places])


def fitted_to_few(recipe, request):
    """Recipe and options for a ready network and few people: a fifth is held out, a batch is not more than there is."""
    counts = np.bincount(open_reader(request.data, request.format).labels)
    held_out = request.held_out
    if held_out is None:
        held_out = min(len(counts) // 5, MOST_HELD_OUT)
        held_out = held_out if held_out >= FEWEST_HELD_OUT else 0
    if not held_out:
        say("Nobody is held out: all steps are trained, whether they help or not, and no threshold is stored")
    images = int(counts[: len(counts) - held_out].sum())
    if request.batch_size is None and 0 < images < recipe.batch_size:
        recipe = recipe.replace(batch_size=images)
    return recipe, dataclasses.replace(request, held_out=held_out)


def pair_evaluations(recipe, request):
    """A callback for each of the pair files."""
    made = []
    if len({path.stem for path in request.pairs}) < len(request.pairs):
        names = ", ".join(map(str, request.pairs))
        raise ValueError(f"--pairs must be files of different names, which figures are called by. Received: {names}")
    for path in request.pairs:
        pairs, options = read_pair_file(path), {"preprocessing": recipe.preprocessing, "center_crop": True}
        try:
            made.append(PairEvaluation(pairs.images, pairs.same, name=path.stem, **options))
        except ValueError as error:
            raise ValueError(f"--pairs {path}: {error}") from error
    return made


def jit_compile(request):
    """`jit_compile` of `compile`."""
    return "auto" if request.xla is None else request.xla


def note_on_names(recipe, reader):
    """A note, where the identities that the recipe excludes have names of another form than those of the data."""
    name, kinds = reader.identities[0], {re.sub(r"\d", "0", name) for name in recipe.excluded_identities}
    if not kinds or re.sub(r"\d", "0", name) in kinds:
        return ""
    return (
        f"\nNote: identities have names such as {name!r}, those to be excluded such as "
        f"{recipe.excluded_identities[0]!r}: if these are the same people, none of them is excluded"
    )


def say_plan(recipe, data, model, request):
    """Say what is going to be done, before it is."""
    say(recipes.table(recipe.describe()))
    if note := note_on_names(recipe, data.reader):
        say(note)
    parameters = [sum(int(np.prod(w.shape)) for w in part.trainable_weights) for part in (model.backbone, model)]
    epochs = recipe.steps / data.steps_per_epoch
    devices = model.distribute_strategy.num_replicas_in_sync
    for head in model.heads if hasattr(model, "heads") else []:
        cost = head.cost(max(1, recipe.batch_size // devices), jit_compile=devices == 1 and request.xla is not False)
        say(f"\n{head.name}, on each device:\n{cost}")
    say(
        f"\n{len(data.reader):,} images of {data.reader.num_identities:,} identities from {request.data}; not taken: "
        f"{len(data.reader.ignored):,} other files, {len(data.reader.empty_identities):,} identities without an image\n"
        f"{recipe.steps:,} steps of {recipe.batch_size} = {epochs:.1f} epochs of {data.steps_per_epoch:,} steps\n"
        f"{parameters[0]:,} parameters of the network, {parameters[1] - parameters[0]:,} of class centres and scales\n"
        f"{devices} device(s), {request.precision}, seed {request.seed} -> {request.out}"
    )
