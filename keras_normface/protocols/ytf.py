"""YouTube Faces: pairs of videos, their files, and the figures."""

import os
from dataclasses import dataclass

import numpy as np

from keras_normface._io import ContainedFiles
from keras_normface._threshold import BY_PAIR
from keras_normface.data import EXTENSIONS, PHOTO_EXTENSIONS
from keras_normface.metrics import checked_labels, unit_rows
from keras_normface.metrics.bootstrap import (
    REPEATS,
    Resamples,
    blocks,
    count_blocks,
    pair_weights,
    resampled_figures,
    resampled_units,
)
from keras_normface.metrics.folds import fold_accuracy
from keras_normface.metrics.results import MetricValue, Result
from keras_normface.metrics.verification import sorted_scores
from keras_normface.protocols._files import ProtocolFileError, numbered_lines
from keras_normface.protocols._records import (
    check_agreement,
    checked_indices,
    checked_keys,
    checked_same,
    checked_subjects,
    embeddings_of,
    set_fields,
)
from keras_normface.protocols.pair_files import PairTable, pairs_name


@dataclass(frozen=True, eq=False)
class VideoPairProtocol:
    """What YouTube Faces prescribes: Wolf, Hassner, Maoz 2011, section 4 (5 000 pairs, ten folds of 500).

    Attributes:
        name: printed beside each figure.
        images: N keys of the frames, each once; embeddings have one row for each.
        videos: V lists of indices into `images`, the frames of each video, at least one.
        left, right: (P,) indices into `videos`.
        same: (P,) bool, true where both videos are of one subject.
        folds: (P,) fold of each pair, integers or strings.
        subjects: (N,) subject of each frame, -1 where unknown, or None; one for each video.

    Raises:
        ValueError: lists that do not fit each other, a video with frames of two subjects, or a pair whose two
            subjects contradict `same`.

    Example:
        >>> protocol = VideoPairProtocol("toy", ("a1", "a2", "b1"), ([0, 1], [2]), [0], [1], [False], [0])
        >>> protocol.videos[0].tolist()
        [0, 1]
    """

    name: str
    images: tuple[str, ...]
    videos: tuple[np.ndarray, ...]
    left: np.ndarray
    right: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    subjects: np.ndarray | None = None

    def __post_init__(self):
        images = checked_keys(self.images, "images")
        videos = tuple(
            checked_indices(frames, f"videos[{number}]", len(images), once=True)
            for number, frames in enumerate(self.videos)
        )
        left = checked_indices(self.left, "left", len(videos))
        right = checked_indices(self.right, "right", len(videos))
        same = checked_same(self.same, left, right)
        changes = {"images": images, "videos": videos, "left": left, "right": right, "same": same}
        changes["folds"] = checked_labels(self.folds, "folds", left.size)
        if self.subjects is not None:
            changes["subjects"] = checked_subjects(self.subjects, len(images))
            for number, frames in enumerate(videos):
                if np.unique(changes["subjects"][frames]).size > 1:
                    raise ValueError(f"`subjects` must be one for each video. Received: videos[{number}] with several")
            subjects = changes["subjects"][[frames[0] for frames in videos]]
            check_agreement(subjects, left, right, changes["same"])
        set_fields(self, changes)


def read_ytf(path, root, name="YTF"):
    r"""Read the pairs of videos of YouTube Faces and list their frames.

    After a line of headings, each line is `split, number, video, video, is same`, with videos such as `Ada_Lovelace/2`.
    A video's frames are the images in its directory below `root`, in the order of their sorted names.

    Args:
        path: The file, `splits.txt`.
        root: The directory that holds the videos' directories, such as `frame_images_DB` or one of aligned faces.
        name: What the protocol is called; the numbers of pairs and folds are added.

    Returns:
        A `VideoPairProtocol` with the splits as folds. Its images are the frames' paths below `root`.

    Raises:
        ProtocolFileError: If the file is not in this form, repeats a number within a split, or contradicts the
            subjects, or a video has no directory or no frames; file and line are named.
        OSError: If something cannot be read.

    Source: Wolf, Hassner, Maoz 2011, "Face Recognition in Unconstrained Videos with Matched Background Similarity".

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> for frame in ["Ada/1/1.1.jpg", "Ada/1/1.2.jpg", "Ada/3/3.7.jpg", "Bob/0/0.1.jpg"]:
    ...     os.makedirs(os.path.dirname(os.path.join(root, frame)), exist_ok=True)
    ...     open(os.path.join(root, frame), "wb").close()
    >>> path = os.path.join(root, "splits.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("split number, pair number, first name, second name, is same\n")
    ...     _ = file.write("1, 1, Ada/1, Bob/0, 0\n2, 1, Ada/1, Ada/3, 1\n")
    >>> protocol = read_ytf(path, root)
    >>> protocol.images, protocol.videos[0].tolist(), protocol.same.tolist()
    (('Ada/1/1.1.jpg', 'Ada/1/1.2.jpg', 'Bob/0/0.1.jpg', 'Ada/3/3.7.jpg'), [0, 1], [False, True])
    """
    table, seen, line = PairTable(), {}, None
    for line in numbered_lines(path):
        fields = [field.strip() for field in line.text.split(",")]
        if line.number == 1 and not fields[0].isdigit():
            continue
        _add(table, line, fields, seen)
    if not len(table):
        raise ProtocolFileError(f"{os.fspath(path)} holds no pairs")
    pairs = table.columns()
    files, images, videos = ContainedFiles(root), [], []
    for video in pairs["images"]:
        frames = _frames(files, video, path, seen[video])
        videos.append(np.arange(len(images), len(images) + len(frames)))
        images += frames
    return VideoPairProtocol(
        name=pairs_name(name, len(table), len(np.unique(pairs["folds"]))),
        images=tuple(images),
        videos=tuple(videos),
        subjects=np.repeat(pairs["subjects"], [len(frames) for frames in videos]),
        **{column: pairs[column] for column in ("left", "right", "same", "folds")},
    )


def _add(table, line, fields, seen):
    if len(fields) != 5:
        raise line.error("must hold five fields with commas between them: split, number, video, video, is same")
    split = line.whole_number(fields[0], "the split", 1)
    number = line.whole_number(fields[1], "the number of the pair")
    left, right = (_video(line, field) for field in fields[2:4])
    if (split, number) in seen:
        raise line.error(f"repeats pair {number} of split {split}, which is in line {seen[split, number]}")
    if fields[4] not in ("0", "1") or (fields[4] == "1") != (left[1] == right[1]):
        raise line.error("must end with 1 if both videos are of one subject, and with 0 if not")
    if left == right:
        raise line.error("must name two videos")
    seen[split, number] = line.number
    seen.setdefault(left[0], line.number)
    seen.setdefault(right[0], line.number)
    table.add(left, right, split - 1)


def _video(line, text):
    video = line.relative_path(text)
    if video.count("/") != 1:
        raise line.error("must name videos by subject and number, such as Ada_Lovelace/2")
    return video, video.split("/")[0]


def _frames(files, video, path, number):
    """Return the names of a video's frames, sorted, with the video's directory before them."""
    where = f"line {number} of {os.fspath(path)}"
    try:
        found = sorted(
            entry.name
            for entry in os.scandir(files.checked_path(video))
            if entry.name.lower().endswith(PHOTO_EXTENSIONS) and not entry.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        raise ProtocolFileError(f"{where} names the video {video}, which is not in {files.root}: {error}") from error
    names = [name for name in found if name.lower().endswith(EXTENSIONS)]
    if len(names) < len(found):
        other = next(name for name in found if not name.lower().endswith(EXTENSIONS))
        raise ProtocolFileError(f"{where} names the video {video}, with a frame of a kind that is not read: {other}")
    if not names:
        raise ProtocolFileError(f"{where} names the video {video}, which has no frames in {files.root}")
    return [f"{video}/{name}" for name in names]


_BINS = 100


def _cosine_histogram(left, right, bins=_BINS):
    """(K, D), (M, D) unit rows → (bins,) shares of all cosines in [-1, 1]; 1 is in the last bin."""
    cosines = np.clip(left @ right.T, -1.0, 1.0)
    # The slack keeps cosines that a bin's edge should hold, such as 0, from falling below it in float32.
    places = ((cosines.ravel().astype(np.float64) + 1.0) * (bins / 2) + 1e-5).astype(np.int64)
    return np.bincount(np.minimum(places, bins - 1), minlength=bins) / cosines.size


def _intersection_kernel(left, right):
    """(P, B), (Q, B) histograms → (P, Q) sums of minima: Swain and Ballard 1991, section 3."""
    kernel = np.zeros((len(left), len(right)))
    used = np.flatnonzero(left.any(axis=0) & right.any(axis=0))
    for rows in blocks(len(left), 16 * len(right)):
        for column in used:
            kernel[rows] += np.minimum(left[rows, column, None], right[:, column])
    return kernel


_SVM = "accuracy HIK-SVM"
_PAIRS_RESAMPLED = "subjects unknown: the interval resamples pairs"


def evaluate_video_pairs(protocol, embeddings, *, svm=False, penalty=1.0, intervals=True, repeats=REPEATS, seed=0):
    """Accuracy of the mean of all frame-pair cosines, and on request of the histogram-intersection-kernel SVM.

    The mean over all pairs of frames is exactly the product of the videos' mean unit vectors. Each fold is judged by
    the threshold that is best on the other folds. For the SVM a pair of videos is the histogram of its frame-pair
    cosines, 100 bins over [-1, 1], as shares; each fold is decided by an SVM that was trained on the others. Source:
    Wolf, Hassner, Maoz 2011, "Face recognition in unconstrained videos with matched background similarity", section
    4; Wang et al. 2017 (NormFace), section 4.

    Args:
        protocol: a `VideoPairProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; any lengths.
        svm: whether to train the SVM; needs scikit-learn.
        penalty: the C of the SVM.
        intervals: whether to resample subjects (pairs, where a subject is unknown); thresholds are chosen anew on
            each bootstrap replicate, the SVM is not trained anew.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result` with "accuracy" and, with `svm`, "accuracy HIK-SVM".

    Raises:
        ImportError: `svm` without scikit-learn.
        ValueError: embeddings that do not fit the protocol or are not finite, or pairs of one kind outside a fold.

    Example:
        >>> protocol = VideoPairProtocol(
        ...     "toy", ("a1", "a2", "b1", "b2"), ([0], [1], [2], [3]), left=[0, 0, 2, 2], right=[1, 2, 3, 1],
        ...     same=[1, 0, 1, 0], folds=[0, 0, 1, 1]
        ... )
        >>> evaluate_video_pairs(protocol, [[4, 1], [4, 2], [1, 4], [2, 4]])["accuracy"].value
        1.0
    """
    unit = unit_rows(embeddings_of(embeddings, len(protocol.images), "embeddings"), "embeddings", dtype=np.float32)
    means = np.stack([unit[frames].mean(axis=0, dtype=np.float64) for frames in protocol.videos])
    pairs = sorted_scores(np.einsum("ij,ij->i", means[protocol.left], means[protocol.right]), protocol.same)
    folds = fold_accuracy([pairs], protocol.folds)
    codes = np.unique(protocol.folds, return_inverse=True)[1]
    unit_of, units = resampled_units(_video_subjects(protocol), protocol.left, protocol.right)
    note = _PAIRS_RESAMPLED if intervals and unit_of == BY_PAIR else ""
    resamples, interval = Resamples(unit_of, repeats, seed) if intervals else None, None
    if intervals:
        values = resampled_figures(units, [pairs], pairs, protocol.folds, [], repeats=repeats, seed=seed)
        interval = resamples.keep("accuracy", values["accuracy"])
    figures = [_figure("accuracy", folds.accuracies, interval, note)]
    if svm:
        right = _svm_decisions(protocol, unit, codes, penalty) == protocol.same
        interval = resamples.keep(_SVM, _kept_decisions(units, right, repeats, seed)) if intervals else None
        note = "; ".join(["decisions kept in the interval", note] if note else ["decisions kept in the interval"])
        accuracies = np.bincount(codes, weights=right) / np.bincount(codes)
        figures.append(_figure(_SVM, accuracies, interval, note if intervals else ""))
    counts = {
        "images": len(protocol.images),
        "videos": len(protocol.videos),
        "genuine": int(protocol.same.sum()),
        "impostor": int((~protocol.same).sum()),
        "folds": int(codes.max()) + 1,
    }
    settings = {
        "thresholds": folds.thresholds,
        "intervals": resamples.settings if intervals else None,
    }
    if svm:
        settings["svm"] = {"bins": _BINS, "C": penalty}
    return Result(protocol.name, tuple(figures), counts, settings, resamples=resamples)


def _figure(name, accuracies, interval, note):
    error = float(accuracies.std(ddof=1) / np.sqrt(accuracies.size))
    spread_of = f"standard error of {accuracies.size} folds"
    return MetricValue(name, float(accuracies.mean()), interval=interval, spread=error, spread_of=spread_of, note=note)


def _video_subjects(protocol):
    return None if protocol.subjects is None else protocol.subjects[[frames[0] for frames in protocol.videos]]


def _kept_decisions(units, right, repeats, seed):
    values = []
    for counts in count_blocks(units[0], repeats, seed, columns=right.size):
        weights = pair_weights(counts, *units[1:])
        with np.errstate(invalid="ignore"):
            values.append((weights @ right.astype(np.float64)) / weights.sum(axis=1))
    return np.concatenate(values)


def _svm_decisions(protocol, unit, codes, penalty):
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ImportError('the SVM needs scikit-learn: pip install "keras-normface[svm]"') from error
    frames = [unit[frames] for frames in protocol.videos]
    pairs = zip(protocol.left, protocol.right, strict=True)
    histograms = np.stack([_cosine_histogram(frames[left], frames[right]) for left, right in pairs])
    kernel = _intersection_kernel(histograms, histograms)
    decisions = np.empty(codes.size, bool)
    for fold in range(codes.max() + 1):
        test = np.flatnonzero(codes == fold)
        train = np.flatnonzero(codes != fold)
        machine = SVC(kernel="precomputed", C=penalty).fit(kernel[np.ix_(train, train)], protocol.same[train])
        decisions[test] = machine.predict(kernel[np.ix_(test, train)])
    return decisions
