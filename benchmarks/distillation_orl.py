"""A MobileFaceNet that learns from the ready network, on ORL's folds, against the same network without a teacher.

    python benchmarks/distillation_orl.py
    python benchmarks/distillation_orl.py --folds 2 --seeds 1

Each fold's ten people take no part in training. All rows see the same images, steps, rates and augmentation.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from keras_normface.backbones import pretrained
from keras_normface.heads import DistillationHead
from keras_normface.inference import Embedder
from keras_normface.metrics import equal_error_rate, pair_scores, tar_at_far

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_distill
import orl_finetune
import orl_photos

FOLDS, TRAINED = 4, 30


# Heads and their weights; then whether the teacher's rows are centred.
ROWS = {
    "NormFace alone": (lambda: orl_distill.heads(TRAINED)[:1], [1.0], False),
    "teacher, cosine": (lambda: [DistillationHead(relation_weight=0.0)], [1.0], False),
    "teacher, centred, cosine": (lambda: [DistillationHead(relation_weight=0.0)], [1.0], True),
    "teacher, centred, cosine and relations": (lambda: orl_distill.heads(TRAINED)[1:], [1.0], True),
    "the same and NormFace": (lambda: orl_distill.heads(TRAINED), orl_distill.HEAD_WEIGHTS, True),
}


def measured(embeddings, people):
    """EER and TAR at a FAR of 1 %, all pairs."""
    scores = pair_scores(embeddings, people)
    return equal_error_rate(*scores), tar_at_far(*scores, far=0.01).tar


def main():
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=orl_distill.STEPS)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    args = parser.parse_args()
    faces, people = orl_finetune.aligned_faces(), orl_photos.people()
    rows = orl_distill.teacher_rows(Embedder(pretrained("dlib"), faces="aligned"), faces)
    unseen = [people // (len(np.unique(people)) // FOLDS) == fold for fold in range(args.folds)]
    results = {"the teacher": [measured(rows[some], people[some]) for some in unseen]}
    for name in args.rows:
        make, weights, center = ROWS[name]
        found, start = [], time.monotonic()
        for seed in range(args.seeds):
            pupil = orl_distill.Pupil(make(), weights, steps=args.steps, seed=seed)
            for some in unseen:
                ids = np.unique(people[~some], return_inverse=True)[1]
                given = orl_distill.centred(rows[~some]) if center else rows[~some]
                embed = pupil.fit(faces[~some], {"labels": ids, "teacher": given})
                found.append(measured(embed(faces[some]), people[some]))
        results[name] = found
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print("| | EER, unseen | TAR@FAR 1 %, unseen |\n|---|---|---|")
    for name, found in results.items():
        eer, tar = np.mean(found, axis=0)
        eer_spread, tar_spread = np.std(found, axis=0, ddof=1) if len(found) > 1 else (0.0, 0.0)
        print(f"| {name} | {eer:.3f} ± {eer_spread:.3f} | {tar:.3f} ± {tar_spread:.3f} |")


if __name__ == "__main__":
    main()
