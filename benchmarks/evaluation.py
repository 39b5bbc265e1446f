"""Time and memory of the evaluation protocols at full size, on synthetic 512-dimensional embeddings.

    python benchmarks/evaluation.py --only blufr,ijb --folder /tmp
    python benchmarks/evaluation.py --scale 0.1        # a quick look

Each protocol is measured in a process of its own. The floor is what a matrix product alone needs for the scores, at
the rate that a 4096 x 4096 product reaches before and after; for LFW it is the usual loop over 400 thresholds, which
tries fewer of them. The peak is that of the whole process: TensorFlow, which the package imports, the embeddings,
and the evaluation. MegaFace's distractors (2 GB) are written to `--folder`, dropped from the page cache, read back
from the disk, and removed.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

DIM = 512
PROTOCOLS = ("lfw", "blufr", "megaface", "ijb")


def peak_megabytes():
    """The most memory that this process has held so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds_of(work):
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_rate(size=4096):
    """Operations a second of a float32 matrix product, the best of three."""
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    return 2 * size**3 / min(seconds_of(lambda: a @ a) for _ in range(3))


def timed(work, operations):
    """Seconds of `work` and the seconds that a matrix product needs for so many operations."""
    rates = [product_rate()]
    seconds = seconds_of(work)
    rates.append(product_rate())
    return seconds, operations / statistics.mean(rates)


def people(rng, subjects, noise=1.5):
    """(N, DIM) float32 embeddings of images of `subjects`."""
    centres = rng.standard_normal((subjects.max() + 1, DIM), dtype=np.float32)
    rows = rng.standard_normal((subjects.size, DIM), dtype=np.float32)
    rows *= noise
    for start in range(0, subjects.size, 4096):
        rows[start : start + 4096] += centres[subjects[start : start + 4096]]
    return rows


def loop_over_thresholds(scores, same, folds=10):
    """The usual way: 400 thresholds on the squared distance, each tried on each fold's other pairs."""
    distances, thresholds = 2.0 - 2.0 * scores, np.arange(0.0, 4.0, 0.01)
    fold_of, accuracies = np.arange(scores.size) * folds // scores.size, []
    for fold in range(folds):
        others, own = fold_of != fold, fold_of == fold
        shares = [np.mean((distances[others] < threshold) == same[others]) for threshold in thresholds]
        best = thresholds[int(np.argmax(shares))]
        accuracies.append(np.mean((distances[own] < best) == same[own]))
    return np.mean(accuracies)


def measure_lfw(scale, folder):
    """6 000 pairs in ten folds, from scores and from embeddings."""
    from keras_normface.metrics import cross_validated_accuracy
    from keras_normface.protocols import PairProtocol, evaluate_pairs

    rng = np.random.default_rng(0)
    pairs = max(20, int(600 * scale)) * 10
    same = np.arange(pairs) % (pairs // 10) < pairs // 20
    scores = np.clip(rng.normal(0.1 + 0.5 * same, 0.12), -1.0, 1.0)
    baseline = min(seconds_of(lambda: loop_over_thresholds(scores, same)) for _ in range(3))
    ours = min(seconds_of(lambda: cross_validated_accuracy(scores, same)) for _ in range(5))
    yield "LFW, every threshold, from scores", ours, baseline
    subjects = rng.permutation(np.arange(2 * pairs))
    left, right = np.arange(pairs), np.arange(pairs, 2 * pairs)
    subjects[right[same]] = subjects[left[same]]
    rows = people(rng, subjects)
    folds = np.repeat(np.arange(10), pairs // 10)
    protocol = PairProtocol("LFW", tuple(map(str, range(2 * pairs))), left, right, same, folds, subjects)
    for name, options in (
        ("LFW, from embeddings", {"intervals": False}),
        ("LFW, with 1000 resamples", {}),
        ("LFW, a PCA for each fold", {"intervals": False, "pca": 0.995}),
    ):
        yield name, seconds_of(lambda chosen=options: evaluate_pairs(protocol, rows, **chosen)), None


def blufr_protocol(rng, scale):
    """Trials of about the size of BLUFR's: 13 233 images of 5 749 subjects, 9 700 test images a trial."""
    from keras_normface.protocols import BlufrProtocol, BlufrTrial

    num_people, num_images = int(5749 * scale), int(13233 * scale)
    frequency = 1.0 / (np.arange(num_people) + 8.0)
    more = rng.choice(num_people, num_images - num_people, p=frequency / frequency.sum())
    sizes = 1 + np.bincount(more, minlength=num_people)
    subjects = np.repeat(np.arange(num_people), sizes)
    firsts, trials = np.searchsorted(subjects, np.arange(num_people)), []
    for _ in range(10):
        order = rng.permutation(num_people)
        train, test = order[: num_people * 1500 // 5749], order[num_people * 1500 // 5749 :]
        test_images = np.flatnonzero(np.isin(subjects, test))
        gallery = firsts[test[sizes[test] > 1][: int(1000 * scale)]]
        trials.append(
            BlufrTrial(
                np.flatnonzero(np.isin(subjects, train)), test_images, gallery, np.setdiff1d(test_images, gallery)
            )
        )
    return BlufrProtocol("BLUFR", tuple(map(str, range(num_images))), subjects, tuple(trials))


def measure_blufr(scale, folder):
    """Ten trials, with and without intervals."""
    from keras_normface.protocols import evaluate_blufr

    rng = np.random.default_rng(0)
    protocol = blufr_protocol(rng, scale)
    rows = people(rng, protocol.subjects)
    # A pair is compared once: half of the square of the test images.
    operations = sum(DIM * trial.test.size**2 for trial in protocol.trials)
    for name, intervals in (("BLUFR, ten trials", False), ("BLUFR, ten trials, 1000 resamples", True)):
        yield (
            name,
            *timed(
                lambda with_intervals=intervals: evaluate_blufr(protocol, rows, intervals=with_intervals), operations
            ),
        )


def write_distractors(path, count, rng):
    """Write (count, DIM) float32 and ask the system to forget them, so that they are read from the disk."""
    with open(path, "wb") as file:
        for start in range(0, count, 8192):
            rng.standard_normal((min(8192, count - start), DIM), dtype=np.float32).tofile(file)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_distractors(path):
    """Blocks of (n, DIM) float32 from a file."""
    with open(path, "rb") as file:
        while (block := np.fromfile(file, np.float32, 8192 * DIM)).size:
            yield block.reshape(-1, DIM)


def measure_megaface(scale, folder):
    """3 530 probes of 80 identities against a million distractors from the disk."""
    from keras_normface.protocols import MegaFaceProtocol, evaluate_megaface

    rng = np.random.default_rng(0)
    subjects = np.arange(3530) % 80
    rows, count = people(rng, subjects), int(1e6 * scale)
    protocol = MegaFaceProtocol("MegaFace", tuple(map(str, range(3530))), subjects, count)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        path = os.path.join(directory, "distractors.f32")
        write_distractors(path, count, rng)
        yield (
            "MegaFace",
            *timed(lambda: evaluate_megaface(protocol, rows, read_distractors(path)), 2 * DIM * 3530 * count),
        )


def ijb_parts(rng, scale):
    """Members, template ids, media ids and subjects of about the size of IJB-C's."""
    num_templates, num_images, num_people = (max(8, int(n * scale)) for n in (23124, 469375, 3531))
    template_subjects = np.arange(num_templates) % num_people
    sizes = 1 + rng.multinomial(num_images - num_templates, rng.dirichlet(np.ones(num_templates)))
    template_ids = np.repeat(np.arange(num_templates), sizes)
    media_ids = rng.integers(0, 8, size=num_images)
    return template_subjects, template_ids, media_ids


def measure_ijb(scale, folder):
    """1:1 with 15.6 million pairs, and 1:N with two galleries, both from image embeddings."""
    from keras_normface.protocols import GallerySearch, TemplatePairs, TemplateProtocol, evaluate_ijb, pool_templates

    rng = np.random.default_rng(0)
    template_subjects, template_ids, media_ids = ijb_parts(rng, scale)
    count, num_people = template_subjects.size, template_subjects.max() + 1
    rows = people(rng, template_subjects[template_ids], noise=4.0)
    members = np.arange(template_ids.size)
    parts = tuple(map(str, members)), members, template_ids, media_ids, template_subjects
    yield "IJB-C, pooling alone", seconds_of(lambda: pool_templates(rows, template_ids, media_ids)), None
    # The worst order: pairs of any two templates, shuffled. The published lists compare 3 531 with 19 593.
    left, right = (rng.integers(0, count, size=int(15_658_489 * scale * scale)) for _ in range(2))
    right[:20_000] = (left[:20_000] + num_people) % (count // num_people * num_people)
    same = template_subjects[left] == template_subjects[right]
    protocol = TemplateProtocol("IJB-C 1:1", *parts, pairs=(TemplatePairs(left, right, same),))
    del left, right, same
    yield "IJB-C 1:1, with pooling", *timed(lambda: evaluate_ijb(protocol, rows), DIM * count**2)
    galleries = np.arange(num_people // 2), np.arange(num_people // 2, num_people)
    probes = np.arange(num_people, count)
    searches = (tuple(GallerySearch(gallery, probes) for gallery in galleries),)
    protocol = TemplateProtocol("IJB-C 1:N", *parts, searches=searches)
    yield "IJB-C 1:N, with pooling", *timed(lambda: evaluate_ijb(protocol, rows), 2 * DIM * probes.size * num_people)


def in_process(name, arguments):
    """Print one protocol's lines, measured in a fresh process."""
    numbers = ["--scale", str(arguments.scale), "--folder", arguments.folder]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, __file__, "--measure", name, *numbers]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in output.splitlines():
        what, seconds, floor, peak, before = json.loads(line)
        shown = ("", "") if floor is None else (f"{floor:.3f}", f"{floor / seconds:.2f}")
        print(f"| {what} | {seconds:.3f} | {shown[0]} | {shown[1]} | {peak:.0f} | {before:.0f} |", flush=True)


def main():
    """Parse the arguments; measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PROTOCOLS), help="some of %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the images, such as 0.1")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where MegaFace writes its 2 GB")
    parser.add_argument("--measure", choices=PROTOCOLS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if not set(chosen) <= set(PROTOCOLS) or not 0.0 < arguments.scale <= 1.0:
        parser.error(f"--only takes {', '.join(PROTOCOLS)}, with commas; --scale a number above 0 and at most 1")
    if arguments.measure:
        importlib.import_module("keras_normface.metrics")
        before = peak_megabytes()
        for what, seconds, floor in globals()[f"measure_{arguments.measure}"](arguments.scale, arguments.folder):
            print(json.dumps([what, seconds, floor, peak_megabytes(), before]), flush=True)
        return
    print("| | s | floor, s | floor / s | peak, MB | with nothing but the imports, MB |\n|---|--:|--:|--:|--:|--:|")
    for name in chosen:
        in_process(name, arguments)


if __name__ == "__main__":
    main()
