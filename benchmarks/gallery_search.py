"""Searching a gallery of up to a million people, beside FAISS's flat index on the same vectors.

The vectors are random, of 512 numbers, each person's template being one; probes are templates with noise. For each
size: enrolment a second (10,000 people in one transaction), size of the file, the first search, which reads the file,
and then the median of several searches for one probe and for 64, through `Gallery.identify_many`, and by
`faiss.IndexFlatIP.search` alone: the floor is one reading of all vectors. A minute for the default; needs faiss-cpu.
`--full` adds a million people: ten minutes, 8 GB of memory and 6 GB on the disk.

Example:
    python benchmarks/gallery_search.py --sizes 10000 100000
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from keras_normface.gallery import Gallery

DIMENSION, TOP, ROWS_AT_ONCE = 512, 5, 10_000
HEADER = "   people  enrolled/s  MiB file  first s    probes  gallery ms  faiss ms  ratio  peak MiB"


def timed(work, repeats):
    """Median of milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def peak():
    """MiB that this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(directory, size, repeats, rng):
    """Enrol `size` people, search, print two lines."""
    rows = rng.standard_normal((size, DIMENSION), dtype="float32")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    path = Path(directory) / f"{size}.gallery"
    with Gallery(path, fingerprint="random") as gallery:
        start = time.perf_counter()
        for first in range(0, size, ROWS_AT_ONCE):
            names = [f"person {number}" for number in range(first, min(first + ROWS_AT_ONCE, size))]
            gallery.enrol_embeddings(names, rows[first : first + ROWS_AT_ONCE])
        speed = size / (time.perf_counter() - start)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(rows)
    with Gallery(path) as gallery:
        start = time.perf_counter()
        gallery.identify(rows[0], threshold=0.5)
        first = time.perf_counter() - start
        for count in (1, 64):
            probes = rows[rng.integers(0, size, count)] + 0.02 * rng.standard_normal(
                (count, DIMENSION), dtype="float32"
            )
            ours = timed(lambda probes=probes: gallery.identify_many(probes, threshold=0.5, count=TOP), repeats)
            theirs = timed(lambda probes=probes: index.search(probes, TOP), repeats)
            file = os.path.getsize(path) / 2**20
            print(
                f"{size:9,} {speed:11,.0f} {file:9.0f} {first:8.2f} {count:9} {ours:11.1f} {theirs:9.1f} "
                f"{ours / theirs:6.2f} {peak():9.0f}",
                flush=True,
            )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="numbers of people")
    parser.add_argument("--repeats", type=int, default=9, help="of each timing; the median counts (default 9)")
    parser.add_argument("--full", action="store_true", help="add 1,000,000 people")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        for size in [*args.sizes, *([1_000_000] if args.full else [])]:
            measure(directory, size, args.repeats, rng)


if __name__ == "__main__":
    main()
