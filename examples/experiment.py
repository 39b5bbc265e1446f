"""What the scripts on CASIA-WebFace share: options, devices, data, the run itself, the export."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from keras_normface.startup import load_tensorflow

load_tensorflow()  # first, so that its notices about GPUs stay off the screen

import keras
import numpy as np
import tensorflow as tf

from keras_normface import export_embedding_model, fit_resumable, open_reader, recipes
from keras_normface.data import CASIA_LFW_OVERLAP, READERS, decode_image, read_pair_file
from keras_normface.distribute import is_chief
from keras_normface.protocols import numbered_lines
from keras_normface.training import NanGuard, PairEvaluation, ScalarLog, WeightSnapshots, average_snapshots

BACKBONE_FILE, RECIPE_FILE, RUN_FILE = "backbone.weights.h5", "recipe.json", "run.json"
# Template of the data, template and size of the recipe: where cutting gives the one from the other.
EXACT_CUT = ("arcface_112x112", "sphereface_112x96", (112, 96))
WAYS_OUT = (
    "Here: --center-crop cuts larger images; --set preprocessing.size=[height,width] changes the recipe's size, and "
    "--set preprocessing.template=null its template; or align the photos anew with keras-normface align --template."
)
LOAD_AND_COMPARE = """
import sys
sys.modules["keras_normface"] = None
import numpy as np, tensorflow as tf
served, images, expected = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2]), np.load(sys.argv[3])
print(np.abs(served.serve(images).numpy() - expected).max())
"""


def parser(description, recipe):
    """The options of all the scripts."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add, switch = made.add_argument, argparse.BooleanOptionalAction
    add("--recipe", default=recipe, choices=recipes.NAMES, metavar="NAME", help=f"default {recipe}; see --list")
    add("--list", action="store_true", help="print the names of all recipes, and end")
    add("--describe", action="store_true", help="print every number of the recipe with its source, and end")
    add("--set", action="append", default=[], metavar="FIELD=JSON", help="change a field: backbone_options.depth=4")
    add("--steps", type=int, help="training steps, in the place of the recipe's")
    add("--batch-size", type=int, help="images a step, all devices together, in the place of the recipe's")
    add("--data", type=Path, metavar="PATH", help="shards, a RecordIO file or its directory, a folder, a list")
    add("--format", choices=list(READERS), help="what --data is, where it cannot be inferred from the path")
    add("--identities", type=Path, metavar="FILE", help="names of a RecordIO file's labels, one a line")
    add(
        "--exclude-lfw-overlap",
        action=switch,
        help="exclude the identities that are in LFW too; default: as the recipe says",
    )
    add(
        "--center-crop",
        action=switch,
        help="cut larger images in their middle, 112x112 to 112x96; default: where the data record a template that "
        "the cut makes that of the recipe",
    )
    add("--pairs", type=Path, nargs="+", default=[], metavar="FILE", help="pair files: lfw.bin, agedb_30.bin")
    add("--strategy", choices=["one", "mirrored", "multi-worker"], default="one", help="devices (default: one)")
    add("--virtual-devices", type=int, default=1, metavar="N", help="cut the CPU into N devices, to try --strategy")
    add("--precision", choices=["float32", "mixed_bfloat16", "mixed_float16"], default="float32")
    add("--xla", action=switch, help="compile with XLA or not; by default Keras decides")
    add("--seed", type=int, default=0, help="of weights, order and augmentation")
    add("--save-every", type=int, default=1000, metavar="STEPS", help="steps between checkpoints (default 1000)")
    add("--tensorboard", action="store_true", help="write OUT/logs for `tensorboard --logdir OUT/logs`")
    add("--out", type=Path, default=Path("runs/casia"), help="output directory; the same command resumes from it")
    return made


def chosen_recipe(args):
    """The recipe with the changes of the command line; what --list and --describe ask for is printed, as an end."""
    if args.list:
        sys.exit(print("\n".join(recipes.NAMES)))
    recipe = changed(recipes.get(args.recipe), args)
    if args.describe:
        sys.exit(print(recipes.table(recipe.describe())))
    if args.data is None:
        sys.exit("--data is needed: shards, a RecordIO file, a folder or a list; see --help")
    return recipe


def changed(recipe, args):
    """A recipe with the changes of the command line."""
    changes = {}
    for text in args.set:
        field, _, value = text.partition("=")
        try:
            changes[field] = json.loads(value)
        except ValueError:
            sys.exit(f"--set must be FIELD=JSON, such as backbone='\"MobileNet\"'. Received: {text}")
    changes |= {name: getattr(args, name) for name in ("steps", "batch_size") if getattr(args, name) is not None}
    if args.exclude_lfw_overlap is not None:
        changes["excluded_identities"] = sorted(CASIA_LFW_OVERLAP) if args.exclude_lfw_overlap else []
    try:
        return recipe.replace(**changes)
    except ValueError as error:
        sys.exit(str(error))


def strategy_of(args):
    """The devices; called before anything else of TensorFlow."""
    if args.virtual_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * args.virtual_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    keras.mixed_precision.set_global_policy(args.precision)
    if args.strategy == "multi-worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if args.strategy == "mirrored":
        cpus = [f"CPU:{number}" for number in range(args.virtual_devices)]
        return tf.distribute.MirroredStrategy(cpus if args.virtual_devices > 1 else None)
    return tf.distribute.get_strategy()


def training_data(recipe, args):
    """The batches; images of another size than the recipe's are refused at once; settles `args.center_crop`."""
    options = {"exclude": recipe.excluded_identities}
    try:
        if args.identities is not None:
            options["identities"] = [line.text for line in numbered_lines(args.identities, blank=True)]
        reader = open_reader(args.data, args.format, **options)
    except (OSError, ValueError) as error:
        sys.exit(f"--data {args.data}: {error}")
    if args.center_crop is None:
        args.center_crop = (reader.template, recipe.preprocessing.template, recipe.preprocessing.size) == EXACT_CUT
    try:
        data = recipe.data(reader, args.seed, center_crop=args.center_crop)
    except ValueError as error:
        sys.exit(f"--data {args.data}: {error}\n{WAYS_OUT}")
    size = decode_image(reader.sample(0)[0]).shape[:2]
    if tuple(size) != recipe.preprocessing.size and not args.center_crop:
        sys.exit(
            f"The images are {size[0]}x{size[1]}, the recipe's {'x'.join(map(str, recipe.preprocessing.size))} (height "
            f"x width).\n{WAYS_OUT}"
        )
    return data


def remember(recipe, data, strategy, args, **others):
    """Write OUT/recipe.json and OUT/run.json; another experiment in OUT is refused, naming what differs."""
    run = {"seed": args.seed, "images": len(data.reader), "identities": data.reader.num_identities, **others}
    for name, ours in ((RECIPE_FILE, recipe.to_fields()), (RUN_FILE, run)):
        path = args.out / name
        if path.exists():
            theirs = recipes.read(path).to_fields() if name == RECIPE_FILE else json.loads(path.read_text("utf-8"))
            differing = [
                f"{key}: there {theirs.get(key)}, here {ours.get(key)}"
                for key in sorted(set(ours) | set(theirs))
                if theirs.get(key) != ours.get(key)
            ]
            if differing:
                sys.exit(f"{args.out} holds another experiment; give another --out. {'; '.join(differing)}")
    if not is_chief(strategy):
        return
    args.out.mkdir(parents=True, exist_ok=True)
    recipe.save(args.out)
    unfinished = args.out / f"new-{RUN_FILE}"
    unfinished.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(args.out / RUN_FILE)


def note_on_names(recipe, reader):
    """A note, where the identities that the recipe excludes have names of another form than those of the data."""
    name, kinds = reader.identities[0], {re.sub(r"\d", "0", name) for name in recipe.excluded_identities}
    if not kinds or re.sub(r"\d", "0", name) in kinds:
        return ""
    return (
        f"\nNote: identities have names such as {name!r}, those to be excluded such as "
        f"{recipe.excluded_identities[0]!r}: if these are the same people, none of them is excluded"
    )


def show_plan(recipe, data, model, args):
    """What is going to be done, before it is."""
    print(recipes.table(recipe.describe()))
    print(note_on_names(recipe, data.reader))
    parameters = [sum(int(np.prod(w.shape)) for w in part.trainable_weights) for part in (model.backbone, model)]
    epochs = recipe.steps / data.steps_per_epoch
    devices = model.distribute_strategy.num_replicas_in_sync
    for head in model.heads if hasattr(model, "heads") else []:
        cost = head.cost(max(1, recipe.batch_size // devices), jit_compile=devices == 1 and args.xla is not False)
        print(f"\n{head.name}, on each device:\n{cost}")
    print(
        f"\n{len(data.reader):,} images of {data.reader.num_identities:,} identities from {args.data}; not taken: "
        f"{len(data.reader.ignored):,} other files, {len(data.reader.empty_identities):,} identities without an image\n"
        f"{recipe.steps:,} steps of {recipe.batch_size} = {epochs:.1f} epochs of {data.steps_per_epoch:,} steps\n"
        f"{parameters[0]:,} parameters of the network, {parameters[1] - parameters[0]:,} of class centres and scales\n"
        f"{devices} device(s), {args.precision}, seed {args.seed} -> {args.out}",
        flush=True,
    )


def pair_evaluations(recipe, args):
    """A callback for each of the pair files."""
    files = [read_pair_file(path) for path in args.pairs]
    options = {"preprocessing": recipe.preprocessing, "center_crop": True}
    return [PairEvaluation(pairs.images, pairs.same, name=pairs.path.stem, **options) for pairs in files]


def train(model, recipe, data, evaluations, args):
    """Train to the recipe's last step, resuming where the last call ended; average its snapshots."""
    callbacks = [NanGuard(every_steps=100), *evaluations]
    callbacks += [ScalarLog(args.out / "logs")] if args.tensorboard else []
    snapshots = WeightSnapshots(args.out / "snapshots", recipe.snapshot_steps) if recipe.snapshots else None
    callbacks += [] if snapshots is None else [snapshots]
    history = fit_resumable(
        model,
        data,
        None,
        args.out / "checkpoints",
        steps=recipe.steps,
        save_every=args.save_every,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if snapshots is not None:
        written = snapshots.written()
        if len(written) < recipe.snapshots:
            sys.exit(f"{recipe.snapshots} snapshots are to be averaged, but {args.out}/snapshots has {len(written)}")
        average_snapshots(model, written)
    return history


def export(model, recipe, data, args):
    """Write the network's weights and the SavedModel, and load that in a process without the package."""
    weights = model.get_weights()  # of several workers, all must ask
    if not is_chief(model.distribute_strategy):
        return
    keras.mixed_precision.set_global_policy("float32")  # as the SavedModel computes
    single = recipe.build(data.reader.num_identities)  # of no strategy
    single.set_weights(weights)
    unfinished = args.out / f"new-{BACKBONE_FILE}"  # Keras wants this ending
    single.backbone.save_weights(unfinished)
    unfinished.replace(args.out / BACKBONE_FILE)
    options = {"flip": "sum", "preprocessing": recipe.preprocessing, "overwrite": True}
    exported = export_embedding_model(single, args.out / "embedding", **options)
    few = min(8, recipe.batch_size)
    plain = recipe.replace(batch_size=few).data(
        data.reader, args.seed, scale=False, augmentation=None, center_crop=args.center_crop
    )
    images = next(iter(plain(0, 0)))[0].numpy()
    files = [args.out / "check_images.npy", args.out / "check_embeddings.npy"]
    for path, array in zip(files, (images, exported.predict(images, verbose=0)), strict=True):
        np.save(path, array)
    command = [sys.executable, "-c", LOAD_AND_COMPARE, args.out / "embedding", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nThe check of the SavedModel in a new process failed")
    difference = float(done.stdout)
    if not difference < 1e-4:
        sys.exit(f"The SavedModel differs from the model by {difference}")
    print(f"SavedModel, loaded and compared in a new process (difference {difference:.1g}): {args.out}/embedding")
