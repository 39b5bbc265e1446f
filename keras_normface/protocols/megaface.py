"""MegaFace challenge 1: each mate in turn among a million distractors."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Number

import numpy as np

from keras_normface import _validation
from keras_normface._io import ContainedFiles, atomic_write, is_contained, regular_file
from keras_normface._threshold import BY_SUBJECT
from keras_normface.metrics import unit_rows
from keras_normface.metrics.bootstrap import REPEATS, Resamples, rate_name
from keras_normface.metrics.identification import TIE, MateRanks
from keras_normface.metrics.results import Result
from keras_normface.metrics.score_matrix import TopScores
from keras_normface.metrics.verification import accepted, chosen_rates, threshold_at_rate
from keras_normface.protocols._files import ProtocolFileError, checked_root, faults_of
from keras_normface.protocols._records import checked_keys, checked_ranks, checked_subjects, embeddings_of
from keras_normface.protocols._shares import Case, split_figure


@dataclass(frozen=True, eq=False)
class MegaFaceProtocol:
    """What MegaFace prescribes: Kemelmacher-Shlizerman et al. 2016, "The MegaFace benchmark", section 4.

    Attributes:
        name: printed beside each figure.
        images: N keys of the probe images (3 530 of FaceScrub), each once; embeddings have one row for each.
        subjects: (N,) subject of each probe image (80 of them), all known; each has at least two images.
        distractors: how many distractors there are, or their keys, each once.

    Raises:
        ValueError: a subject with one image, or no distractor.

    Example:
        >>> MegaFaceProtocol("toy", ("a", "b"), [0, 0], distractors=10).num_distractors
        10
    """

    name: str
    images: tuple[str, ...]
    subjects: np.ndarray
    distractors: int | tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "images", checked_keys(self.images, "images"))
        object.__setattr__(self, "subjects", checked_subjects(self.subjects, len(self.images), known=True))
        values, counts = np.unique(self.subjects, return_counts=True)
        if counts.min() < 2:
            raise ValueError(
                "`subjects` must have two images each, a probe and its mate. "
                f"Received: subject {values[counts.argmin()]} with one"
            )
        if isinstance(self.distractors, Number):
            object.__setattr__(self, "distractors", _validation.integer("distractors", self.distractors, 1))
        else:
            object.__setattr__(self, "distractors", checked_keys(self.distractors, "distractors"))

    @property
    def num_distractors(self):
        """How many distractors there are."""
        return len(self.distractors) if isinstance(self.distractors, tuple) else self.distractors


def read_megaface(probes, distractors, name="MegaFace"):
    """Read the lists of MegaFace's devkit.

    `facescrub_features_list.json` holds the probes, {"path": [...], "id": [...]}: images and their subjects, of equal
    length. `megaface_features_list.json_1000000_1` holds the distractors, {"path": [...]}.

    Args:
        probes: Path of the list of probes.
        distractors: Path of that of the distractors, or their number where the images are not needed.
        name: What the protocol is called; the numbers of probes and distractors are added.

    Returns:
        A `MegaFaceProtocol`.

    Raises:
        ProtocolFileError: If a file is not such a list, repeats an image or leads out of its directory, or a subject
            has one probe only.
        OSError: If a file cannot be read.

    Source: Kemelmacher-Shlizerman et al. 2016, "The MegaFace Benchmark: 1 Million Faces for Recognition at Scale", and
    its devkit.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "facescrub_features_list.json")
    >>> with open(path, "w") as file:
    ...     json.dump({"path": ["Ada/1.png", "Ada/2.png"], "id": ["Ada", "Ada"]}, file)
    >>> read_megaface(path, 1_000_000).name
    'MegaFace, 2 probes, 1 000 000 distractors'
    """
    images, subjects = _list(probes, with_subjects=True)
    # Not NumPy's unique, to which a name is the same with zero characters behind it.
    places = {subject: place for place, subject in enumerate(sorted(set(subjects)))}
    numbers = np.array([places[subject] for subject in subjects])
    others = distractors if isinstance(distractors, Number) else _list(distractors)[0]
    count = others if isinstance(others, Number) else len(others)
    counted = f"{len(images):,} probes; {count:,} distractors".replace(",", " ").replace(";", ",")
    with faults_of(probes):
        return MegaFaceProtocol(f"{name}, {counted}", images, numbers, others)


def _list(path, with_subjects=False):
    path = os.fspath(path)
    with regular_file(path, "r", encoding="utf-8-sig") as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ProtocolFileError(f"{path} is not a valid JSON file: {error}") from error
    images = _texts(content, "path", path)
    wrong = next((image for image in images if not is_contained(image)), None)
    if wrong is not None:
        raise ProtocolFileError(
            f'"path" in {path} must hold paths that stay in their directory. Received: {wrong[:80]!r}'
        )
    if len(set(images)) != len(images):
        raise ProtocolFileError(
            f'"path" in {path} must hold each image once, but {len(images) - len(set(images))} recur'
        )
    subjects = _texts(content, "id", path) if with_subjects else None
    if with_subjects and len(subjects) != len(images):
        raise ProtocolFileError(
            f'{path} must hold an "id" for each "path", but holds {len(subjects)} for {len(images)}'
        )
    return tuple(images), subjects


def _texts(content, key, path):
    texts = content.get(key) if isinstance(content, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ProtocolFileError(f'{path} must hold a list of texts called "{key}"')
    return texts


_HEADER = np.dtype("<i4")
_FLOAT = np.dtype("<f4")
_LARGEST_DIMENSION = 1 << 20
# An OpenCV matrix of one column: rows, columns, bytes of a row, and CV_32F, the number of its type.
_COLUMN_OF_FLOATS = (1, 4, 5)
_BLOCK_BYTES = 1 << 25


def read_megaface_features(path):
    """Read the feature vector of one image.

    The file is an OpenCV matrix of one column: four little-endian int32, which are the rows (the dimension d), the
    columns (1), the bytes of a row (4) and the type (5, CV_32F), then d float32.

    Args:
        path: The file.

    Returns:
        float32 array `(d,)`, as stored.

    Raises:
        ProtocolFileError: If the header is another, the file's size does not fit it, or a number is NaN or infinite.
        OSError: If the file cannot be read.

    Source: the devkit of the MegaFace challenge, which reads matrices in this form.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "1.jpg_ours.bin")
    >>> write_megaface_features(path, np.array([0.5, -1.0]))
    >>> read_megaface_features(path), os.path.getsize(path)
    (array([ 0.5, -1. ], dtype=float32), 24)
    """
    with regular_file(path) as file:
        content = file.read(16 + 4 * _LARGEST_DIMENSION + 1)
    path = os.fspath(path)
    if len(content) < 16:
        raise ProtocolFileError(f"{path} must begin with a header of 16 bytes, but has {len(content)}")
    rows, *rest = np.frombuffer(content, _HEADER, 4).tolist()
    if not 1 <= rows <= _LARGEST_DIMENSION or tuple(rest) != _COLUMN_OF_FLOATS:
        raise ProtocolFileError(f"{path} must begin with the dimension, 1, 4, 5. It begins with {[rows, *rest]}")
    if len(content) != 16 + 4 * rows:
        raise ProtocolFileError(
            f"{path} must have {16 + 4 * rows} bytes for its {rows} numbers, but has {os.path.getsize(path)}"
        )
    vector = np.frombuffer(content, _FLOAT, rows, 16).astype("float32")
    if not np.isfinite(vector).all():
        raise ProtocolFileError(f"{path} holds NaN or infinity, at place {np.flatnonzero(~np.isfinite(vector))[0]}")
    return vector


def write_megaface_features(path, vector):
    """Write the feature vector of one image. Either the whole file is there afterwards, or what was there before.

    Args:
        path: The file; its directory must be there.
        vector: Numbers `(d,)`; they are stored as float32.

    Raises:
        ValueError: If `vector` is of another shape, or NaN or infinite as float32.
        OSError: If it cannot be written.
    """
    vector = np.asarray(vector)
    if vector.dtype.kind in "cUSOmM":
        raise ValueError(f"`vector` must hold real numbers. Received: dtype {vector.dtype}")
    with np.errstate(over="ignore"):
        vector = vector.astype(_FLOAT)
    if vector.ndim != 1 or not 1 <= vector.size <= _LARGEST_DIMENSION:
        raise ValueError(
            f"`vector` must have one dimension of 1 to {_LARGEST_DIMENSION}. Received: shape {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"`vector` must be finite as float32. Received: {vector[~np.isfinite(vector)][0]}")
    with atomic_write(path) as beside, open(beside, "wb") as file:
        file.write(np.array([vector.size, *_COLUMN_OF_FLOATS], _HEADER).tobytes() + vector.tobytes())


class MegafaceFeatures:
    """The feature vectors of many images, read from their files block by block, as often as one likes.

    Args:
        root: The directory of the files.
        names: The images' names, with `/`. An image's file is `root/name` and `suffix`.
        suffix: What follows a name, such as "_ours.bin".
        block_rows: Vectors in a block; by default as many as make 32 MiB.

    Raises:
        ValueError: If there are no names, or one leads out of the directory.
        ProtocolFileError: While reading, if a file is corrupt or of another dimension than the first.
        ValueError: While reading, if a link leads out of the directory.
        OSError: While reading, if a file cannot be read.

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> for number in range(3):
    ...     write_megaface_features(os.path.join(root, f"{number}.jpg_ours.bin"), [number, 1.0])
    >>> features = MegafaceFeatures(root, ["0.jpg", "1.jpg", "2.jpg"], "_ours.bin", block_rows=2)
    >>> [block.tolist() for block in features], len(features)
    ([[[0.0, 1.0], [1.0, 1.0]], [[2.0, 1.0]]], 3)
    """

    def __init__(self, root, names, suffix, block_rows=None):
        self.root, self.names, self.suffix = checked_root(root), names, suffix
        wrong = next((name for name in names if not is_contained(name + suffix)), None)
        if wrong is not None or not len(names):
            raise ValueError(f"`names` must be paths that stay in {self.root}, at least one. Received: {wrong!r}")
        self._block_rows = None if block_rows is None else _validation.integer("block_rows", block_rows, 1)
        self._files = ContainedFiles(root)

    def __len__(self):
        return len(self.names)

    def __iter__(self):
        first = self._vector(self.names[0])
        rows = self._block_rows or max(1, _BLOCK_BYTES // first.nbytes)
        for start in range(0, len(self.names), rows):
            block = np.empty((min(rows, len(self.names) - start), first.size), "float32")
            for row in range(len(block)):
                vector = self._vector(self.names[start + row])
                if vector.size != first.size:
                    raise ProtocolFileError(
                        f"{self._path(self.names[start + row])} is of dimension {vector.size}, not of {first.size} as "
                        f"{self._path(self.names[0])}"
                    )
                block[row] = vector
            yield block

    def _path(self, name):
        return os.path.join(self.root, name + self.suffix)

    def _vector(self, name):
        return read_megaface_features(self._files.checked_path(name + self.suffix))


def _distractor_blocks(distractors, dim, rows):
    """(M, D) array, or blocks (m, D), or vectors (D,) → float32 unit rows (n, D), n <= `rows`."""
    if isinstance(distractors, np.ndarray):
        _check_dim(distractors, dim, 0)
        for start in range(0, len(distractors), rows):
            yield unit_rows(distractors[start : start + rows], "distractors", dtype=np.float32, first=start)
        return
    held, size, first = [], 0, 0
    for part in distractors:
        part = np.atleast_2d(np.asarray(part))
        _check_dim(part, dim, first + size)
        while len(part):
            held.append(part[: rows - size])
            size, part = size + len(held[-1]), part[rows - size :]
            if size == rows:
                yield _joined(held, first)
                held, size, first = [], 0, first + rows
    if held:
        yield _joined(held, first)


def _read_ahead(blocks):
    """The same blocks, each fetched by another thread while the one before it is in use."""
    end = object()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, end)
        while (block := coming.result()) is not end:
            coming = reader.submit(next, blocks, end)
            yield block


def _joined(parts, first):
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return unit_rows(rows, "distractors", dtype=np.float32, first=first)


def _check_dim(part, dim, first):
    if part.ndim != 2 or part.shape[1] != dim:
        raise ValueError(
            f"`distractors` must have as many columns as probes, {dim}. "
            f"Received: a block of shape {part.shape} from distractors[{first}] on"
        )


_FARS = (1e-4, 1e-5, 1e-6)
_BLOCK_ROWS, _TILE_ROWS, _FIRST_COLUMNS = 8192, 64, 64


def evaluate_megaface(
    protocol, probes, distractors, *, ranks=(1, 10, 100), fars=None, intervals=True, repeats=REPEATS, seed=0
):
    """Identification and verification among distractors.

    For every ordered pair of images of a subject, one is the probe and the other, its mate, joins the distractors:
    the rank is one more than the number of distractors that are at least as similar to the probe as the mate is.
    Cosines within 1e-6 are tied, and ties count against the probe. TAR@FAR: genuine scores are those of the
    unordered pairs, impostor scores those of each probe with each distractor; the threshold is 1e-6 above the lowest
    at which at most that share of them is accepted. Source: Kemelmacher-Shlizerman et al. 2016, "The MegaFace
    benchmark", section 4.

    Args:
        protocol: a `MegaFaceProtocol`.
        probes: (N, D), one row for each of `protocol.images`; any lengths.
        distractors: (M, D) array or memory map, or an iterable of blocks (m, D) or vectors (D,); read once,
            by a thread of its own.
        ranks: k of the rank-k rates; the larger the largest, the slower. Together they are the CMC curve.
        fars: rates; None for those of 1e-4, 1e-5 and 1e-6 that are resolved. Memory grows with the largest: some
            12 bytes * far * N * M.
        intervals: whether to resample subjects, with the thresholds kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result` with "rank-k" and "TAR@FAR=..." figures.

    Raises:
        ValueError: arrays that do not fit the protocol or are not finite, another number of distractors than the
            protocol says, or a rate that the impostor scores cannot resolve.

    Example:
        >>> import numpy as np
        >>> protocol = MegaFaceProtocol("toy", ("a", "b"), [0, 0], distractors=2)
        >>> result = evaluate_megaface(protocol, [[1, 0], [3, 4]], np.array([[0, 1], [1, 0]]), ranks=(1, 2), fars=0.5)
        >>> result["rank-1"].value, result["rank-2"].value
        (0.0, 0.5)
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    probes = unit_rows(embeddings_of(probes, len(protocol.images), "probes"), "probes", dtype=np.float32)
    num_impostor = len(probes) * protocol.num_distractors
    fars = chosen_rates(fars, _FARS, num_impostor, "fars", "impostor scores")
    ranks = checked_ranks(ranks)
    names, subjects = np.unique(protocol.subjects, return_inverse=True)
    left, right = _ordered_pairs(subjects)
    genuine = np.einsum("ij,ij->i", probes[left], probes[right])
    mates = MateRanks(left, genuine, len(probes), max(ranks))
    top = TopScores(max((accepted(far, num_impostor) + 1 for far in fars), default=1))
    _look_at(distractors, probes, mates, top, protocol.num_distractors)
    subjects_of, found = subjects[left], mates.ranks()
    cases = {f"rank-{rank}": Case(found <= rank, subjects_of, None) for rank in ranks}
    impostor = top.largest()
    for far in fars:
        # The two kinds are summed in different orders: without this, a model that maps all to one could pass.
        threshold = threshold_at_rate(impostor, far, num_impostor, -2.0) + TIE
        cases[rate_name("TAR@FAR", far)] = Case(genuine >= threshold, subjects_of, float(threshold))
    kept = "interval over subjects, distractors kept"
    figures = tuple(split_figure(name, [[case]], resamples, kept) for name, case in cases.items())
    counts = {
        "images": len(probes),
        "subjects": names.size,
        "distractors": protocol.num_distractors,
        "searches": left.size,
        "genuine": left.size // 2,
        "impostor": num_impostor,
    }
    settings = {"intervals": resamples.settings if intervals else None}
    return Result(protocol.name, figures, counts, settings, resamples=resamples)


def _ordered_pairs(subjects):
    left, right = [], []
    for subject in np.unique(subjects):
        own = np.flatnonzero(subjects == subject)
        rows, columns = np.nonzero(~np.eye(own.size, dtype=bool))
        left.append(own[rows])
        right.append(own[columns])
    return np.concatenate(left), np.concatenate(right)


def _look_at(distractors, probes, mates, top, expected):
    """One pass over the distractors, which tells `mates` and `top` all that can change them."""
    seen, columns = 0, _FIRST_COLUMNS
    buffer = np.empty((len(probes), min(_BLOCK_ROWS, expected)), np.float32)
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for block in _read_ahead(_distractor_blocks(distractors, probes.shape[1], buffer.shape[1])):
            seen += len(block)
            if seen > expected:
                break
            scores = buffer.reshape(-1)[: len(probes) * len(block)].reshape(len(probes), len(block))
            np.matmul(probes, block.T, out=scores)
            start = 0
            while start < len(block):
                # Few columns at first: until floors are known, every score is a candidate.
                _sift(scores[:, start : start + columns], mates, top, pool)
                start, columns = start + columns, min(4 * columns, _BLOCK_ROWS)
    if seen != expected:
        raise ValueError(
            f"`distractors` must be {expected} as the protocol says. Received: {'more' if seen > expected else seen}"
        )


def _sift(scores, mates, top, pool):
    floor = np.minimum(mates.floor, np.nextafter(top.floor, np.float32(np.inf)))

    def candidates(start):
        tile = scores[start : start + _TILE_ROWS]
        found = np.flatnonzero(tile >= floor[start : start + _TILE_ROWS, None])
        rows, columns = np.divmod(found, tile.shape[1])
        return start + rows, tile[rows, columns]

    parts = list(pool.map(candidates, range(0, len(scores), _TILE_ROWS)))
    probes, values = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    mates.add(probes, values)
    mates.raise_floor()
    top.count += scores.size
    top.add_candidates(values[values > top.floor])
