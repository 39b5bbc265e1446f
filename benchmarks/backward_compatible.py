"""New probes against an old gallery, on people of ORL whom neither model has seen.

In each of four folds the old model is trained on fifteen people, the new ones on thirty, all by NormFace: one alone,
one with the old model's class centres as a second head, one that is also pulled to the old model's embedding of each
image. Of the ten other people, five images each are the gallery and five the probes. Takes four minutes on two quiet
cores.

Example:
    python benchmarks/backward_compatible.py --folds 2
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import keras
import numpy as np
import orl_faces  # first: it loads TensorFlow without notices

from keras_normface import EmbeddingModel, LearnableScale, MarginSoftmaxHead, embedding_model
from keras_normface.heads import DistillationHead, FixedCentersHead
from keras_normface.metrics import equal_error_rate, rank_accuracy, tar_at_far
from keras_normface.training import class_means

OLD_PEOPLE, FAR, BATCH_SIZE, DISTILLED_WEIGHT = 15, 0.01, 64, 5.0


def trained(images, people, args, seed, older=None, distilled=False):
    """A function from images to unit embeddings; with the older model's, comparable with its."""
    keras.utils.set_random_seed(args.seed + seed)
    ids = np.unique(people, return_inverse=True)[1]
    targets = {"labels": ids}
    units = int(ids.max()) + 1
    image = keras.Input((orl_faces.HEIGHT, orl_faces.WIDTH, 1))
    heads = [MarginSoftmaxHead(units, scale=LearnableScale(10.0))]
    if older is not None:
        heads.append(FixedCentersHead(units, scale=LearnableScale(10.0)))
        targets["teacher"] = older(images)
        heads[1].set_centers(class_means(targets["teacher"], ids, units))
    if distilled:
        heads.append(DistillationHead())
    weights = [1.0, 1.0, DISTILLED_WEIGHT][: len(heads)]
    model = EmbeddingModel(keras.Model(image, orl_faces.backbone(image)), heads, head_weights=weights)
    warmup = max(args.steps // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(0.0, args.steps - warmup, warmup_target=1e-3, warmup_steps=warmup)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), jit_compile=False)
    data = orl_faces.training_data(images, targets, BATCH_SIZE, args.seed)
    model.fit(data, epochs=1, steps_per_epoch=args.steps, shuffle=False, verbose=0)
    cut = embedding_model(model, flip="sum")
    return lambda x: cut.predict(x, verbose=0, batch_size=100)


def measured(gallery, probes, people):
    """Rank-1, EER and TAR of probes, each against all single images of the gallery."""
    scores = (probes @ gallery.T).ravel()
    same = (people[:, None] == people[None, :]).ravel()
    return (
        rank_accuracy(gallery, people, probes, people),
        equal_error_rate(scores, same),
        tar_at_far(scores, same, far=FAR).tar,
    )


def main():
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=orl_faces.FOLDS, choices=range(1, orl_faces.FOLDS + 1))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    images, people = orl_faces.load_faces()
    first = np.tile(np.arange(orl_faces.IMAGES_EACH) < orl_faces.IMAGES_EACH // 2, orl_faces.PEOPLE)
    results = {}
    for unseen in orl_faces.unseen_people(people, args.folds):
        known = np.unique(people[~unseen])
        early = np.isin(people, known[:OLD_PEOPLE])
        old = trained(images[early], people[early], args, 0)
        rest = images[~unseen], people[~unseen], args
        models = {
            "new, not compatible": trained(*rest, 1),
            "new, compatible": trained(*rest, 2, older=old),
            "new, compatible and distilled": trained(*rest, 3, older=old, distilled=True),
        }
        half = [unseen & first, unseen & ~first]
        old_gallery, old_probes = (old(images[some]) for some in half)
        who = people[half[0]]
        rows = {("old", "old"): measured(old_gallery, old_probes, who)}
        for name, new in models.items():
            gallery, probes = (new(images[some]) for some in half)
            rows["old", name] = measured(old_gallery, probes, who)
            rows[name, name] = measured(gallery, probes, who)
        for row, figures in rows.items():
            results.setdefault(row, []).append(figures)
    print(f"| gallery | probes | rank-1 | EER | TAR@FAR {FAR:.0%} |\n|---|---|---|---|---|")
    for (gallery, probes), folds in results.items():
        means, spread = np.mean(folds, axis=0), np.std(folds, axis=0, ddof=1) if len(folds) > 1 else np.zeros(3)
        cells = " | ".join(f"{mean:.3f} ± {by:.3f}" for mean, by in zip(means, spread, strict=True))
        print(f"| {gallery} | {probes} | {cells} |")


if __name__ == "__main__":
    main()
