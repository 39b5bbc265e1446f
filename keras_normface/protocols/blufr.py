"""BLUFR: large-scale verification and open-set identification on LFW, ten trials."""

import math
import os
import re
from dataclasses import dataclass

import numpy as np

from keras_normface._io import is_contained
from keras_normface._threshold import BY_SUBJECT
from keras_normface.metrics import unit_rows
from keras_normface.metrics.bootstrap import REPEATS, THRESHOLD_KEPT, TOO_FEW, Resamples, rate_name
from keras_normface.metrics.identification import SearchScores, search_gallery
from keras_normface.metrics.projection import fitted_projection
from keras_normface.metrics.results import MetricValue, Result
from keras_normface.metrics.score_matrix import AllPairScores, num_impostor_pairs, score_all_pairs
from keras_normface.metrics.verification import chosen_rates
from keras_normface.protocols._files import ProtocolFileError, faults_of, numbered_lines, protocol_file
from keras_normface.protocols._matlab import cells_of, numbers_of, read_matlab, text_of
from keras_normface.protocols._records import (
    checked_indices,
    checked_keys,
    checked_ranks,
    checked_subjects,
    embeddings_of,
)
from keras_normface.protocols._shares import Case, replicate_shares


@dataclass(frozen=True, eq=False)
class BlufrTrial:
    """One random split of the subjects; all are (K,) indices of images, each once.

    Attributes:
        train: images of the training subjects, which a learned projection may be fitted on.
        test: images all of whose pairs are verified.
        gallery: test images that are known by name.
        probes: test images that are looked up; those whose subject is in the gallery are genuine.

    Example:
        >>> BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3]).probes.tolist()
        [2, 3]
    """

    train: np.ndarray
    test: np.ndarray
    gallery: np.ndarray
    probes: np.ndarray

    def __post_init__(self):
        for name in ("train", "test", "gallery", "probes"):
            highest = np.iinfo(np.int64).max
            object.__setattr__(self, name, checked_indices(getattr(self, name), name, highest, once=True))


@dataclass(frozen=True, eq=False)
class BlufrProtocol:
    """What BLUFR prescribes: Liao et al. 2014, "A benchmark study of large-scale unconstrained face recognition".

    Attributes:
        name: printed beside each figure.
        images: N keys, each image once; embeddings have one row for each.
        subjects: (N,) subject of each image, all known.
        trials: `BlufrTrial`s, ten in the published lists, at least two.

    Raises:
        ValueError: an index that is no image's, a training subject among the test subjects, a gallery or a probe
            image outside the test set, or an image that is in the gallery and a probe.

    Example:
        >>> trial = BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3])
        >>> protocol = BlufrProtocol("toy", ("a", "b", "c", "d"), [0, 1, 1, 2], (trial, trial))
        >>> len(protocol.trials)
        2
    """

    name: str
    images: tuple[str, ...]
    subjects: np.ndarray
    trials: tuple[BlufrTrial, ...]

    def __post_init__(self):
        object.__setattr__(self, "images", checked_keys(self.images, "images"))
        count = len(self.images)
        object.__setattr__(self, "subjects", checked_subjects(self.subjects, count, known=True))
        object.__setattr__(self, "trials", tuple(self.trials))
        if len(self.trials) < 2:
            raise ValueError(f"`trials` must be at least two, to have a deviation. Received: {len(self.trials)} trials")
        for number, trial in enumerate(self.trials):
            self._check(trial, f"trials[{number}]")

    def _check(self, trial, name):
        for part in ("train", "test", "gallery", "probes"):
            checked_indices(getattr(trial, part), f"{name}.{part}", len(self.images))
        both = np.intersect1d(self.subjects[trial.train], self.subjects[trial.test])
        if both.size:
            raise ValueError(
                f"`{name}` must test on other subjects than it trains on. Received: subject {both[0]} in both"
            )
        for part in ("gallery", "probes"):
            outside = np.setdiff1d(getattr(trial, part), trial.test)
            if outside.size:
                raise ValueError(f"`{name}.{part}` must be of the test set. Received: image {outside[0]}, which is not")
        both = np.intersect1d(trial.gallery, trial.probes)
        if both.size:
            raise ValueError(f"`{name}` must not look up what is in the gallery. Received: image {both[0]} in both")


_INDICES = {"train": "trainIndex", "test": "testIndex", "gallery": "galIndex", "probes": "probIndex"}
_FIELDS = ("imageList", "labels", *_INDICES.values())


def _matlab_lists(path):
    """MATLAB file of version 5 to 7 → as `_text_lists`."""
    path = os.fspath(path)
    variables = read_matlab(path, _FIELDS)
    names = [text_of(cell, "imageList", path) for cell in cells_of(variables, "imageList", path)]
    labels = numbers_of(variables["labels"], "labels", path)
    sets = {
        kind: [numbers_of(cell, field, path) - 1 for cell in cells_of(variables, field, path)]
        for kind, field in _INDICES.items()
    }
    return names, labels, _transposed(sets, _INDICES, path)


_LISTS = {"train": "train_set.txt", "test": "test_set.txt", "gallery": "gallery_set.txt", "probes": "probe_set.txt"}
_LFW_NAME = re.compile(r"(.+)_[0-9]{4}\.[A-Za-z]+")


def read_blufr(path, suffix=None, name="BLUFR on LFW"):
    """Read the trials of BLUFR.

    The directory `list/lfw` of the benchmark holds `image_list.txt` (a file name a line), `labels.txt` (a number a
    line) and `train_set.txt`, `test_set.txt`, `gallery_set.txt`, `probe_set.txt`: first the number of trials, then for
    each its number of images and as many lines `index, name`, counted from 1. `config/lfw/blufr_lfw_config.mat` holds
    the same as `imageList`, `labels`, `trainIndex`, `testIndex`, `galIndex` and `probIndex`.

    Args:
        path: The directory, or the MATLAB file.
        suffix: How the images' names are to end, such as ".png"; by default as in the list.
        name: What the protocol is called; the number of trials is added.

    Returns:
        A `BlufrProtocol`. Its images are called as in LFW's directories, `Ada_Lovelace/Ada_Lovelace_0001.jpg`; names
        of another form are kept as they are. Subjects are the labels, less one.

    Raises:
        ProtocolFileError: If something is not in this form or does not fit together: indices beyond the list, a name
            that is not that of its index, a trial whose test images are not its gallery and its probes, or whose
            subjects are trained on and tested.
        OSError: If a file cannot be read.

    Source: Liao, Lei, Yi, Li 2014, "A Benchmark Study of Large-scale Unconstrained Face Recognition", and the read-me
    files of the benchmark.
    """
    path = os.fspath(path)
    names, labels, trials = _text_lists(path) if os.path.isdir(path) else _matlab_lists(path)
    if len(labels) != len(names):
        raise ProtocolFileError(f"{path} must hold a label for each of {len(names)} images, but holds {len(labels)}")
    images = tuple(_image_name(image, suffix, path) for image in names)
    for number, trial in enumerate(trials, 1):
        looked_up = np.concatenate([trial["gallery"], trial["probes"]])
        if not np.array_equal(np.sort(looked_up), np.sort(trial["test"])):
            raise ProtocolFileError(
                f"trial {number} of {path} must test the images of the gallery and the probes, each once, and no others"
            )
    in_words = "ten" if len(trials) == 10 else len(trials)
    with faults_of(f"{path}, counted from 0"):
        trials = tuple(BlufrTrial(**trial) for trial in trials)
        return BlufrProtocol(f"{name}, {in_words} trials", images, labels - 1, trials)


def _text_lists(directory):
    """Directory of text lists → names, (N,) labels, and for each trial its index arrays (from 0) by kind."""
    names = [line.text for line in numbered_lines(protocol_file(directory, "image_list.txt"))]
    lines = numbered_lines(protocol_file(directory, "labels.txt"))
    labels = [line.whole_number(line.text, "a label", 1) for line in lines]
    sets = {kind: _trials(protocol_file(directory, file), names) for kind, file in _LISTS.items()}
    return names, np.array(labels, "int64"), _transposed(sets, _LISTS, directory)


def _transposed(sets, places, path):
    """Index arrays of all trials by kind → for each trial its index arrays by kind; `places` names the kinds."""
    if len({len(trials) for trials in sets.values()}) != 1:
        counts = ", ".join(f"{len(sets[kind])} in {place}" for kind, place in places.items())
        raise ProtocolFileError(f"{path} must hold the same number of trials of each kind. Received: {counts}")
    return [dict(zip(sets, trial, strict=True)) for trial in zip(*sets.values(), strict=True)]


def _trials(path, names):
    lines = numbered_lines(path)
    first = _next(lines, path)
    trials = []
    for _ in range(first.whole_number(first.text, "the number of trials", 1)):
        head = _next(lines, path)
        count = head.whole_number(head.text, "the number of images of a trial", 1)
        trials.append(np.array([_index(_next(lines, path), names) for _ in range(count)], "int64"))
    for line in lines:
        raise line.error(f"is one too many: the first line says {len(trials)} trials")
    return trials


def _next(lines, path):
    for line in lines:
        return line
    raise ProtocolFileError(f"{path} ends too early")


def _index(line, names):
    number, _, name = line.text.partition(",")
    index = line.whole_number(number.strip(), "the index of an image", 1)
    if index > len(names) or names[index - 1] != name.strip():
        there = f"image {index} is {names[index - 1]!r}" if index <= len(names) else f"there are {len(names)} images"
        raise line.error(f"does not fit image_list.txt: {there}")
    return index - 1


def _image_name(name, suffix, path):
    if "/" in name or not is_contained(name):
        raise ProtocolFileError(f"{path} must list images by names without path. Received: {name[:80]!r}")
    stem, ending = os.path.splitext(name)
    whole = stem + (ending if suffix is None else suffix)
    match = _LFW_NAME.fullmatch(name)
    image = f"{match[1]}/{whole}" if match and match[1] != "." else whole
    if not is_contained(image):
        raise ProtocolFileError(f"{path} must list images that stay in their directory. Received: {name[:80]!r}")
    return image


def num_impostors(protocol):
    """Impostor pairs of each trial's test set, and each trial's impostor probes.

    Args:
        protocol: a `BlufrProtocol`.

    Returns:
        Two lists, a number for each trial.

    Raises:
        ValueError: a trial lacks pairs or probes of a kind.

    Example:
        >>> trial = BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3])
        >>> num_impostors(BlufrProtocol("toy", ("a", "b", "c", "d"), [0, 1, 1, 2], (trial, trial)))
        ([2, 2], [1, 1])
    """
    pairs, probes = [], []
    for number, trial in enumerate(protocol.trials):
        subjects = protocol.subjects[trial.test]
        non_mated = ~np.isin(protocol.subjects[trial.probes], protocol.subjects[trial.gallery])
        pairs.append(num_impostor_pairs(subjects))
        probes.append(int(np.count_nonzero(non_mated)))
        counts = {
            "genuine pairs": subjects.size * (subjects.size - 1) // 2 - pairs[-1],
            "impostor pairs": pairs[-1],
            "genuine probes": non_mated.size - probes[-1],
            "impostor probes": probes[-1],
        }
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise ValueError(
                f"`trials` must have pairs and probes of both kinds. Received: trials[{number}] without {missing[0]}"
            )
    return pairs, probes


_FARS, _DIR_FARS = (1e-2, 1e-3, 1e-4, 1e-5), (1e-1, 1e-2, 1e-3)
_PCA_SHARE = 0.995
_SPREAD = "standard deviation over {} trials"


@dataclass(frozen=True, eq=False)
class _Scored:
    """One trial's scores, subjects numbered 0..S-1."""

    pairs: AllPairScores
    search: SearchScores
    probe_subjects: np.ndarray


def evaluate_blufr(
    protocol,
    embeddings,
    *,
    projection=None,
    fars=None,
    dir_fars=None,
    ranks=(1,),
    intervals=True,
    repeats=REPEATS,
    seed=0,
):
    """Verification of all pairs and open-set identification, mean minus standard deviation over the trials.

    VR@FAR: the threshold is the round(FAR * N)-th largest of the N impostor scores of all pairs of the test set; where
    that is the last, the smallest of all scores.
    DIR@FAR rank-k: the N scores are each impostor probe's highest over the gallery; a genuine probe counts when its
    mate scores at least the threshold and is among the k best. In ranks, scores within 1e-6 are tied and ties count
    against the probe. Source: Liao et al. 2014, "A benchmark study of large-scale unconstrained face recognition",
    sections 3 and 4.

    Args:
        protocol: a `BlufrProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; any lengths.
        projection: None, "pca" (99.5 % of the variance), or a function of a trial's training embeddings (K, D) and
            their subjects (K,) that returns a function from (M, D) to (M, d). Fitted anew for each trial.
        fars: rates for VR; None for those of 1e-2 to 1e-5 that every trial resolves.
        dir_fars: rates for DIR; None for those of 1e-1 to 1e-3 that every trial resolves.
        ranks: k of the DIR.
        intervals: whether to resample subjects, with each trial's threshold kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result`. Each figure is the mean minus the standard deviation (ddof 1) over the trials, which is what the
        benchmark reports; the mean alone is a figure of its own, named with "mean". Each trial's value and
        threshold are in `settings["trials"]`.

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, a trial without genuine or impostor
            pairs or probes, or a rate that a trial cannot resolve.

    Example:
        >>> import numpy as np
        >>> trial = BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3])
        >>> protocol = BlufrProtocol("toy", ("a", "b", "c", "d"), [0, 1, 1, 2], (trial, trial))
        >>> result = evaluate_blufr(protocol, np.eye(4)[[0, 1, 1, 2]], fars=0.5, dir_fars=1.0, intervals=False)
        >>> print(result["VR@FAR=5e-01"])
        VR@FAR=5e-01 100.00 % +- 0.00 % (standard deviation over 2 trials); mean minus standard deviation
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    rows = embeddings_of(embeddings, len(protocol.images), "embeddings")
    ranks = checked_ranks(ranks)
    names, subjects = np.unique(protocol.subjects, return_inverse=True)
    impostors, unknown = num_impostors(protocol)
    fars = chosen_rates(fars, _FARS, min(impostors), "fars", "impostor pairs")
    dir_fars = chosen_rates(dir_fars, _DIR_FARS, min(unknown), "dir_fars", "impostor probes")
    unit = unit_rows(rows, "embeddings", dtype=np.float32) if projection is None else None
    cases = {rate_name("VR@FAR", far): [] for far in fars}
    cases |= {f"{rate_name('DIR@FAR', far)} rank-{rank}": [] for far in dir_fars for rank in ranks}
    for trial, num_impostor in zip(protocol.trials, impostors, strict=True):
        tested = _projected(rows, trial, subjects, projection) if unit is None else unit[trial.test]
        keep = max((_rounded(far, num_impostor) for far in fars), default=1)
        scored = _score_trial(tested, trial, subjects, keep)
        for name, case in zip(cases, _decided(scored, fars, dir_fars, ranks), strict=True):
            cases[name].append(case)
    return Result(
        protocol=protocol.name,
        figures=tuple(figure for name in cases for figure in _figures(name, cases[name], resamples)),
        counts={
            "images": len(protocol.images),
            "subjects": names.size,
            "trials": len(protocol.trials),
            "fewest impostor pairs": min(impostors),
            "fewest impostor probes": min(unknown),
        },
        settings={
            "projection": getattr(projection, "__name__", str(projection)),
            "intervals": resamples.settings if intervals else None,
            "trials": {
                name: [{"value": float(case.success.mean()), "threshold": case.threshold} for case in cases[name]]
                for name in cases
            },
        },
        resamples=resamples,
    )


def _score_trial(tested, trial, subjects, keep):
    position = np.full(subjects.size, -1)
    position[trial.test] = np.arange(trial.test.size)
    gallery, probes = tested[position[trial.gallery]], tested[position[trial.probes]]
    probe_subjects = subjects[trial.probes]
    search = search_gallery(gallery, subjects[trial.gallery], probes, probe_subjects)
    return _Scored(score_all_pairs(tested, subjects[trial.test], keep), search, probe_subjects)


def _decided(scored, fars, dir_fars, ranks):
    """A `Case` for each figure, in their order."""
    pairs, search = scored.pairs, scored.search
    for far in fars:
        threshold = _threshold(pairs.impostor, far, pairs.num_impostor, pairs.genuine)
        yield Case(pairs.genuine >= threshold, pairs.genuine_subjects, float(threshold))
    mated = scored.probe_subjects[search.mated]
    non_mated = np.sort(search.highest[~search.mated])[::-1]
    mate, mate_rank = search.mate[search.mated], search.rank[search.mated]
    for far in dir_fars:
        threshold = _threshold(non_mated, far, non_mated.size, mate)
        for rank in ranks:
            yield Case((mate >= threshold) & (mate_rank <= rank), mated, float(threshold))


def _figures(name, cases, resamples):
    values = np.array([case.success.mean() for case in cases])
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    note = "mean minus standard deviation"
    spread = {"spread": deviation, "spread_of": _SPREAD.format(len(cases))}
    shares = None if resamples is None else replicate_shares(cases, resamples)
    reported = plain = None
    if shares is not None:
        means = shares.mean(axis=1)
        reported = resamples.keep(name, means - shares.std(axis=1, ddof=1))
        plain = resamples.keep(f"{name} mean", means)
    kept = "" if resamples is None else TOO_FEW if reported is None else THRESHOLD_KEPT
    yield MetricValue(
        name, mean - deviation, interval=reported, note="; ".join(part for part in (note, kept) if part), **spread
    )
    yield MetricValue(f"{name} mean", mean, interval=plain, note=kept, **spread)


def _projected(rows, trial, subjects, projection):
    train = np.asarray(rows[trial.train], np.float64)
    if projection == "pca":
        transform = fitted_projection(train, _PCA_SHARE).of
    elif callable(projection):
        transform = projection(train, subjects[trial.train])
    else:
        raise ValueError(f'`projection` must be None, "pca" or a function. Received: projection={projection!r}')
    return unit_rows(transform(np.asarray(rows[trial.test], np.float64)), "projected embeddings", dtype=np.float32)


def _threshold(impostor, far, count, genuine):
    """BLUFR's rule: the impostor score of rank round(FAR * N) itself, so that rounding and ties may exceed FAR."""
    # Not `threshold_at_rate`, which never exceeds a rate: figures must be those of the benchmark's MATLAB code.
    accepted = _rounded(far, count)
    # Where all impostors are accepted, so is everything: the benchmark's own code does that too.
    return min(impostor[-1], genuine.min()) if accepted == count else impostor[accepted - 1]


def _rounded(far, count):
    # Halves are rounded up, as MATLAB does; Python's round would go to the even number.
    return math.floor(far * count + 0.5)
