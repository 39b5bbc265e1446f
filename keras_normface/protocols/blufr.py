"""BLUFR's lists of images and trials: its directory of text files, or its MATLAB file."""

import os
import re

import numpy as np

from keras_normface.evaluation.blufr import BlufrProtocol, BlufrTrial
from keras_normface.protocols.blufr_matlab import read_matlab_lists
from keras_normface.protocols.text_lines import ProtocolFileError, faults_of, is_contained, numbered_lines

LISTS = {"train": "train_set.txt", "test": "test_set.txt", "gallery": "gallery_set.txt", "probes": "probe_set.txt"}
LFW_NAME = re.compile(r"(.+)_[0-9]{4}\.[A-Za-z]+")


def read_blufr(path, suffix=None, name="BLUFR on LFW"):
    """Read the trials of BLUFR.

    The directory `list/lfw` of the benchmark holds `image_list.txt` (a file name a line), `labels.txt` (a number a
    line) and `train_set.txt`, `test_set.txt`, `gallery_set.txt`, `probe_set.txt`: first the number of trials, then for
    each its number of images and as many lines `index, name`, counted from 1. `config/lfw/blufr_lfw_config.mat` holds
    the same as `imageList`, `labels`, `trainIndex`, `testIndex`, `galIndex` and `probIndex`; it needs SciPy, the extra
    `mat`.

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
        ImportError: If SciPy is missing.
        OSError: If a file cannot be read.

    Source: Liao, Lei, Yi, Li 2014, "A Benchmark Study of Large-scale Unconstrained Face Recognition", and the read-me
    files of the benchmark.
    """
    path = os.fspath(path)
    names, labels, trials = read_text_lists(path) if os.path.isdir(path) else read_matlab_lists(path)
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


def read_text_lists(directory):
    """Read the text files of BLUFR as they stand.

    Args:
        directory: Where they are.

    Returns:
        Triple of the list of file names, the int64 array of labels, and a list of dictionaries of int64 arrays of
        indices from 0 by "train", "test", "gallery" and "probes", one for each trial.

    Raises:
        ProtocolFileError: If a file is not in its form.
        OSError: If a file cannot be read.
    """
    names = [line.text for line in numbered_lines(os.path.join(directory, "image_list.txt"))]
    labels = [
        line.whole_number(line.text, "a label", 1) for line in numbered_lines(os.path.join(directory, "labels.txt"))
    ]
    sets = {kind: _trials(os.path.join(directory, file), names) for kind, file in LISTS.items()}
    if len({len(trials) for trials in sets.values()}) != 1:
        counts = ", ".join(f"{len(sets[kind])} in {file}" for kind, file in LISTS.items())
        raise ProtocolFileError(f"the lists in {directory} must have the same number of trials. They have {counts}")
    trials = [dict(zip(sets, trial, strict=True)) for trial in zip(*sets.values(), strict=True)]
    return names, np.array(labels, "int64"), trials


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
    match = LFW_NAME.fullmatch(name)
    return f"{match[1]}/{whole}" if match and match[1] != "." else whole
