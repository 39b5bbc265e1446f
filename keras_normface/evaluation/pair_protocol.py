"""Pairs of images in folds, as in Labeled Faces in the Wild, AgeDB-30, CALFW, CPLFW and CFP-FP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation._checks import checked_labels
from keras_normface.evaluation.index_lists import checked_indices, checked_keys, checked_subjects


@dataclass(frozen=True, eq=False)
class PairProtocol:
    """Pairs of images in folds: Huang et al. 2007, "Labeled Faces in the Wild", View 2 (6 000 pairs, ten folds).

    Attributes:
        name: printed beside each figure, such as "LFW, 6 000 pairs, ten folds".
        images: N keys of the images, each once; embeddings have one row for each.
        left, right: (P,) indices into `images`.
        same: (P,) bool, true where both images show one subject.
        folds: (P,) fold of each pair, integers or strings, at least two folds.
        subjects: (N,) subject of each image, -1 where unknown, or None.

    Raises:
        ValueError: lists that do not fit each other, pairs of one kind only, one fold only, or a pair whose two
            subjects contradict `same`.

    Example:
        >>> protocol = PairProtocol("toy", ("a1", "a2", "b1"), [0, 0], [1, 2], [True, False], [0, 1], [7, 7, 8])
        >>> protocol.right.tolist(), protocol.same.tolist()
        ([1, 2], [True, False])
    """

    name: str
    images: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    subjects: np.ndarray | None = None

    def __post_init__(self):
        images = checked_keys(self.images, "images")
        left = checked_indices(self.left, "left", len(images))
        right = checked_indices(self.right, "right", len(images))
        changes = {"images": images, "left": left, "right": right, "same": _checked_same(self.same, left, right)}
        changes["folds"] = checked_labels(self.folds, "folds", left.size)
        if np.unique(changes["folds"]).size < 2:
            raise ValueError(f"folds must name at least two folds. Received: folds all {changes['folds'][0]!r}")
        if self.subjects is not None:
            changes["subjects"] = checked_subjects(self.subjects, len(images))
            check_agreement(changes["subjects"], left, right, changes["same"])
        for name, value in changes.items():
            object.__setattr__(self, name, value)


def _checked_same(same: object, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    same = np.asarray(same)
    if right.shape != left.shape or same.shape != left.shape or not np.isin(same, (0, 1)).all():
        raise ValueError(
            f"right and same (0 or 1) must have one entry for each of the {left.size} of left. "
            f"Received: right of shape {right.shape}, same of shape {same.shape}"
        )
    genuine = np.count_nonzero(same)
    if genuine in (0, same.size):
        raise ValueError(
            "same must mark at least one genuine and one impostor pair. "
            f"Received: same with {genuine} genuine and {same.size - genuine} impostor pairs"
        )
    return same.astype(bool)


def check_agreement(subjects: np.ndarray, left: np.ndarray, right: np.ndarray, same: np.ndarray) -> None:
    """Refuse pairs that are said to be of one subject and are of two, or the other way round.

    Args:
        subjects: (N,) subject of each image (or video), -1 where unknown.
        left: (P,) indices into `subjects`.
        right: (P,) indices into `subjects`.
        same: (P,) bool.

    Raises:
        ValueError: there is such a pair; it is named.

    Example:
        >>> import numpy as np
        >>> check_agreement(np.array([7, 7, -1]), np.array([0, 0]), np.array([1, 2]), np.array([True, True]))
    """
    known = (subjects[left] >= 0) & (subjects[right] >= 0)
    wrong = np.flatnonzero(known & ((subjects[left] == subjects[right]) != same))
    if wrong.size:
        pair = wrong[0]
        raise ValueError(
            "subjects must be equal in genuine pairs and differ in impostor pairs. "
            f"Received: same[{pair}]={same[pair]} for subjects {subjects[left[pair]]} and {subjects[right[pair]]}"
        )
