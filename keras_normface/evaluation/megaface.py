"""MegaFace challenge 1: each mate in turn among a million distractors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.index_lists import checked_keys, checked_subjects


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
                "subjects must have two images each, a probe and its mate. "
                f"Received: subject {values[counts.argmin()]} with one"
            )
        if isinstance(self.distractors, bool) or not isinstance(self.distractors, (int, np.integer)):
            object.__setattr__(self, "distractors", checked_keys(self.distractors, "distractors"))
        elif self.distractors < 1:
            raise ValueError(f"distractors must be at least one. Received: distractors={self.distractors}")

    @property
    def num_distractors(self) -> int:
        """How many distractors there are."""
        return len(self.distractors) if isinstance(self.distractors, tuple) else int(self.distractors)
