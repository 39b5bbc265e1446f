"""Pairs as readers find them, one after the other, and the protocol that they make."""

from array import array

import numpy as np

from keras_normface.evaluation.pair_protocol import PairProtocol
from keras_normface.protocols.text_lines import faults_of


class PairTable:
    """Pairs of images that are named by paths, each of a subject.

    Images and subjects are numbered in the order in which they first occur.

    Example:
    >>> table = PairTable()
    >>> table.add(("Ada/1.jpg", "Ada"), ("Bob/1.jpg", "Bob"), fold=0)
    >>> table.add(("Bob/1.jpg", "Bob"), ("Bob/2.jpg", "Bob"), fold=1)
    >>> protocol = table.protocol("Two pairs", "pairs.txt")
    >>> protocol.images, protocol.right.tolist(), protocol.same.tolist()
    (('Ada/1.jpg', 'Bob/1.jpg', 'Bob/2.jpg'), [1, 2], [False, True])
    """

    def __init__(self):
        self._images, self._subjects, self._subject_of = {}, {}, array("i")
        self._left, self._right, self._folds = array("i"), array("i"), array("i")

    def __len__(self):
        return len(self._folds)

    def add(self, left, right, fold):
        """Add a pair, which is genuine if the subjects are one.

        Args:
            left: Pair of an image's name and its subject's.
            right: Like `left`.
            fold: Number of the fold, from 0.
        """
        self._left.append(self._number(*left))
        self._right.append(self._number(*right))
        self._folds.append(fold)

    def protocol(self, name, path):
        """Return the pairs as a `PairProtocol`.

        Args:
            name: What it is called; the numbers of pairs and folds are added.
            path: Where they were read from, for errors.

        Raises:
            ProtocolFileError: If there are pairs of one kind only, or one fold only.
        """
        columns = self.columns()
        folds = columns["folds"]
        with faults_of(path):
            return PairProtocol(name=pairs_name(name, len(folds), len(np.unique(folds))), **columns)

    def columns(self):
        """Return the pairs as a dictionary.

        Returns:
            "images", a tuple of names; "subjects", int64 (images,); "left" and "right", int64 (pairs,), numbers of
            images; "same", bool (pairs,); "folds", int64 (pairs,).
        """
        left, right, folds = (np.array(column, "int64") for column in (self._left, self._right, self._folds))
        subjects = np.array(self._subject_of, "int64")
        same = subjects[left] == subjects[right]
        return {
            "images": tuple(self._images),
            "left": left,
            "right": right,
            "same": same,
            "folds": folds,
            "subjects": subjects,
        }

    def _number(self, image, subject):
        number = self._images.setdefault(image, len(self._images))
        if number == len(self._subject_of):
            self._subject_of.append(self._subjects.setdefault(subject, len(self._subjects)))
        return number


def pairs_name(name, pairs, folds):
    """Return the name of a protocol of pairs, as it is printed beside each figure.

    Args:
        name: Of the data set.
        pairs: Their number.
        folds: Their number.

    Example:
    >>> pairs_name("LFW", 6000, 10)
    'LFW, 6 000 pairs, ten folds'
    """
    in_words = "ten" if folds == 10 else folds
    return f"{name}, {pairs:,} pairs, {in_words} folds".replace(",", " ").replace("  ", ", ")
