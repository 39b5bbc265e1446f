"""Pairs of videos, as in YouTube Faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation._checks import checked_labels
from keras_normface.evaluation.index_lists import checked_indices, checked_keys, checked_subjects
from keras_normface.evaluation.pair_protocol import check_agreement


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
        same = np.asarray(self.same)
        if right.shape != left.shape or same.shape != left.shape or not np.isin(same, (0, 1)).all():
            raise ValueError(
                f"right and same (0 or 1) must have one entry for each of the {left.size} of left. "
                f"Received: right of shape {right.shape}, same of shape {same.shape}"
            )
        changes = {"images": images, "videos": videos, "left": left, "right": right, "same": same.astype(bool)}
        changes["folds"] = checked_labels(self.folds, "folds", left.size)
        if self.subjects is not None:
            changes["subjects"] = checked_subjects(self.subjects, len(images))
            for number, frames in enumerate(videos):
                if np.unique(changes["subjects"][frames]).size > 1:
                    raise ValueError(f"subjects must be one for each video. Received: videos[{number}] with several")
            owners = changes["subjects"][[frames[0] for frames in videos]]
            check_agreement(owners, left, right, changes["same"])
        for name, value in changes.items():
            object.__setattr__(self, name, value)
