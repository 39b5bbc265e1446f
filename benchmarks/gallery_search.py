"""Searching a gallery of up to a million people, exactly and by its index, beside FAISS's flat index.

Each person's template is a vector of 512 numbers; probes are templates with noise. Three kinds of vectors: `random`,
the worst case for an index, since all others are about equally far from each; `spectrum`, normal with variances that
fall as 1/i, as principal components of embeddings do; `clustered`, a hundred people around each of many centres, the
best case. For each size: enrolment a second (10,000 people in one transaction), size of the file, the first search,
which reads the file, and then the median of several searches for one probe and for 64, through
`Gallery.identify_many`, and by `faiss.IndexFlatIP.search` alone: the floor is one reading of all vectors. Then the
index: seconds until it is built and measured, MiB that the process has grown by meanwhile, its measured recall, the
same searches, and the share of the exact candidates of 64 probes that are found. Where the recall is too low, the
gallery says so and the searches stay exact. Less than five minutes for the default on two free cores; needs faiss-cpu
and the extra `index`. `--full` adds a million people of the kind `spectrum`: an hour, 12 GB of memory and 6 GB on
the disk.

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

DIMENSION, TOP, ROWS_AT_ONCE, PEOPLE_PER_CENTRE = 512, 5, 10_000, 100
KINDS = ("random", "spectrum", "clustered")
EXACT = "  exact: {:>9} {:>9} {:>8} {:>7} {:>8} {:>8} {:>6} {:>8}"
INDEX = "  index: {:>9} {:>9} {:>8} {:>7} {:>8} {:>8} {:>6}"


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


def held():
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def vectors(kind, size, rng):
    """(size, 512) float32 unit vectors."""
    rows = rng.standard_normal((size, DIMENSION), dtype="float32")
    if kind == "spectrum":
        rows *= np.arange(1, DIMENSION + 1, dtype="float32") ** -0.5
    elif kind == "clustered":
        centres = rng.standard_normal((max(1, size // PEOPLE_PER_CENTRE), DIMENSION), dtype="float32")
        rows = 0.9 * rows + centres[rng.integers(0, len(centres), size)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def enrol(path, rows):
    """A new gallery → people a second."""
    with Gallery(path, fingerprint="benchmark") as gallery:
        start = time.perf_counter()
        for first in range(0, len(rows), ROWS_AT_ONCE):
            names = [f"person {number}" for number in range(first, min(first + ROWS_AT_ONCE, len(rows)))]
            gallery.enrol_embeddings(names, rows[first : first + ROWS_AT_ONCE])
        return len(rows) / (time.perf_counter() - start)


def noisy(rows, count, rng):
    """Some of the vectors, with noise that leaves a cosine of about 0.9."""
    noise = rng.standard_normal((count, DIMENSION), dtype="float32")
    return rows[rng.integers(0, len(rows), count)] + 0.02 * noise


def found_share(found, exact):
    """Which share of the exact candidates are among those that were found."""
    pairs = zip(found, exact, strict=True)
    return statistics.mean(len(set(ours.candidates) & set(theirs.candidates)) / TOP for ours, theirs in pairs)


def measure(directory, kind, size, repeats, rng):
    """Enrol `size` people, search exactly and by an index, print the lines."""
    print(f"{size:,} people, {kind}", flush=True)
    rows = vectors(kind, size, rng)
    path = Path(directory) / "people.gallery"
    path.unlink(missing_ok=True)
    speed = enrol(path, rows)
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(rows)
    probes = {count: noisy(rows, count, rng) for count in (1, 64)}
    print(EXACT.format("enrolled/s", "MiB file", "first s", "probes", "ms", "faiss ms", "ratio", "peak MiB"))
    with Gallery(path, index=None) as gallery:
        start = time.perf_counter()
        gallery.identify(rows[0], threshold=0.5)
        first = time.perf_counter() - start
        for count, some in probes.items():
            ours = timed(lambda some=some: gallery.identify_many(some, threshold=0.5, count=TOP), repeats)
            theirs = timed(lambda some=some, flat=flat: flat.search(some, TOP), repeats)
            cells = f"{speed:,.0f}", f"{os.path.getsize(path) / 2**20:.0f}", f"{first:.2f}", count, f"{ours:.1f}"
            print(EXACT.format(*cells, f"{theirs:.1f}", f"{ours / theirs:.2f}", f"{peak():.0f}"), flush=True)
        exact = gallery.identify_many(probes[64], threshold=0.5, count=TOP)
        del flat
        before = held()
        status = gallery.build_index()
        grown = held() - before
        print(f"  {status}", flush=True)
        if status.in_use:
            print(INDEX.format("built s", "MiB more", "recall", "width", "probes", "ms", "found"))
            share = found_share(gallery.identify_many(probes[64], threshold=0.5, count=TOP), exact)
            for count, some in probes.items():
                ours = timed(lambda some=some: gallery.identify_many(some, threshold=0.5, count=TOP), repeats)
                cells = f"{status.seconds:.1f}", f"{grown:.0f}", f"{status.recall:.4f}", status.width, count
                print(INDEX.format(*cells, f"{ours:.1f}", f"{share:.4f}"), flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000], help="numbers of people")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of vectors")
    parser.add_argument("--repeats", type=int, default=9, help="of each timing; the median counts (default 9)")
    parser.add_argument("--full", action="store_true", help="add 1,000,000 people of the kind spectrum")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        for size in args.sizes:
            for kind in args.kinds:
                measure(directory, kind, size, args.repeats, rng)
        if args.full:
            measure(directory, "spectrum", 1_000_000, args.repeats, rng)


if __name__ == "__main__":
    main()
