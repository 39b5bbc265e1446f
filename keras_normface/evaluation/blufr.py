"""BLUFR: large-scale verification and open-set identification on LFW, ten trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.index_lists import checked_indices, checked_keys, checked_subjects


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
            raise ValueError(f"trials must be at least two, to have a deviation. Received: {len(self.trials)} trials")
        for number, trial in enumerate(self.trials):
            self._check(trial, f"trials[{number}]")

    def _check(self, trial: BlufrTrial, name: str) -> None:
        for part in ("train", "test", "gallery", "probes"):
            checked_indices(getattr(trial, part), f"{name}.{part}", len(self.images))
        both = np.intersect1d(self.subjects[trial.train], self.subjects[trial.test])
        if both.size:
            raise ValueError(
                f"{name} must test on other subjects than it trains on. Received: subject {both[0]} in both"
            )
        for part in ("gallery", "probes"):
            outside = np.setdiff1d(getattr(trial, part), trial.test)
            if outside.size:
                raise ValueError(f"{name}.{part} must be of the test set. Received: image {outside[0]}, which is not")
        both = np.intersect1d(trial.gallery, trial.probes)
        if both.size:
            raise ValueError(f"{name} must not look up what is in the gallery. Received: image {both[0]} in both")
