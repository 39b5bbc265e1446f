"""Templates: a person's images and videos as one vector, as in the IJB data sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_normface.evaluation.index_lists import checked_indices, checked_keys, checked_subjects, whole_numbers


@dataclass(frozen=True, eq=False)
class TemplatePairs:
    """Comparisons of two templates each.

    Attributes:
        left, right: (P,) template ids.
        same: (P,) bool, true where both are of one subject.

    Raises:
        ValueError: the three differ in length or are of another type.

    Example:
        >>> TemplatePairs([1, 1], [2, 3], [True, False]).same.tolist()
        [True, False]
    """

    left: np.ndarray
    right: np.ndarray
    same: np.ndarray

    def __post_init__(self):
        left = whole_numbers(self.left, "left")
        object.__setattr__(self, "left", left)
        object.__setattr__(self, "right", whole_numbers(self.right, "right", left.size))
        same = np.asarray(self.same)
        if same.shape != left.shape or not np.isin(same, (0, 1)).all():
            raise ValueError(f"same must be {left.size} of 0 and 1. Received: same of shape {same.shape}")
        object.__setattr__(self, "same", same.astype(bool))


@dataclass(frozen=True, eq=False)
class GallerySearch:
    """A gallery of templates and the templates that are looked up in it.

    A probe is mated when its subject is in the gallery.

    Attributes:
        gallery: (G,) template ids, each once.
        probes: (Q,) template ids, mated and non-mated ones mixed.

    Raises:
        ValueError: either is empty or no list of integers, or the gallery holds a template twice, or one that is
            looked up in it.

    Example:
        >>> GallerySearch([1, 2], [3]).gallery.tolist()
        [1, 2]
    """

    gallery: np.ndarray
    probes: np.ndarray

    def __post_init__(self):
        for name in ("gallery", "probes"):
            values = whole_numbers(getattr(self, name), name)
            if not values.size or (name == "gallery" and np.unique(values).size < values.size):
                raise ValueError(f"{name} must hold at least one template, a gallery each once. Received: {values}")
            object.__setattr__(self, name, values)
        both = np.intersect1d(self.gallery, self.probes)
        if both.size:
            raise ValueError(f"probes must not be in the gallery themselves. Received: template {both[0]} in both")


@dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """What IJB-A, IJB-B and IJB-C prescribe.

    One line of the data sets' metadata is one member: an image, the template that it belongs to, and the
    medium (photo or video) that it comes from. An image may be a member of several templates.

    Attributes:
        name: printed beside each figure.
        images: N keys, each image once; embeddings have one row for each.
        members: (M,) index of the member's image in `images`.
        template_ids: (M,) the member's template.
        media_ids: (M,) the member's medium; frames of one video share it. Only within a template do ids matter.
        template_subjects: (T,) subject of each template, in the order of `np.unique(template_ids)`, -1 where
            unknown, or None. Searches need all of them.
        pairs: one `TemplatePairs` for each split, ten in IJB-A and one elsewhere; may be empty.
        searches: for each split its `GallerySearch`es, over which figures are averaged; may be empty.
        subjects: (N,) subject of each image, -1 where unknown, or None.

    Raises:
        ValueError: index lists that do not fit each other, or a template of which nothing is said.

    Example:
        >>> protocol = TemplateProtocol("toy", ("a", "b", "c"), [0, 1, 2], [7, 7, 8], [0, 1, 0], [0, 1],
        ...                             pairs=(TemplatePairs([7], [8], [False]),))
        >>> protocol.templates.tolist()
        [7, 8]
    """

    name: str
    images: tuple[str, ...]
    members: np.ndarray
    template_ids: np.ndarray
    media_ids: np.ndarray
    template_subjects: np.ndarray | None = None
    pairs: tuple[TemplatePairs, ...] = ()
    searches: tuple[tuple[GallerySearch, ...], ...] = ()
    subjects: np.ndarray | None = None

    def __post_init__(self):
        images = checked_keys(self.images, "images")
        members = checked_indices(self.members, "members", len(images))
        template_ids = whole_numbers(self.template_ids, "template_ids", members.size)
        changes = {
            "images": images,
            "members": members,
            "template_ids": template_ids,
            "media_ids": whole_numbers(self.media_ids, "media_ids", members.size),
            "pairs": tuple(self.pairs),
            "searches": tuple(tuple(split) for split in self.searches),
        }
        if self.subjects is not None:
            changes["subjects"] = checked_subjects(self.subjects, len(images))
        if self.template_subjects is not None:
            count = np.unique(template_ids).size
            changes["template_subjects"] = checked_subjects(self.template_subjects, count, name="template_subjects")
        for name, value in changes.items():
            object.__setattr__(self, name, value)
        if not all(self.searches):
            raise ValueError("searches must hold at least one search for each split. Received: a split without any")
        for pairs in self.pairs:
            self._check_pairs(pairs)
        for search in (search for split in self.searches for search in split):
            self.rows(search.gallery)
            self.rows(search.probes)

    def _check_pairs(self, pairs: TemplatePairs) -> None:
        left, right = self.rows(pairs.left), self.rows(pairs.right)
        if self.template_subjects is None:
            return
        left, right = self.template_subjects[left], self.template_subjects[right]
        wrong = np.flatnonzero((left >= 0) & (right >= 0) & ((left == right) != pairs.same))
        if wrong.size:
            pair = wrong[0]
            raise ValueError(
                "pairs must be the same where the subjects are equal, and only there. "
                f"Received: same[{pair}]={pairs.same[pair]} for subjects {left[pair]} and {right[pair]}"
            )

    @property
    def templates(self) -> np.ndarray:
        """(T,) rising template ids, the order of `template_subjects` and of `pool_templates`."""
        return np.unique(self.template_ids)

    def rows(self, template_ids: np.ndarray) -> np.ndarray:
        """Where templates stand in `templates`.

        Args:
            template_ids: (K,) template ids.

        Returns:
            (K,) integer indices.

        Raises:
            ValueError: there is no such template.
        """
        return template_rows(self.templates, template_ids)


def template_rows(templates: np.ndarray, template_ids: np.ndarray) -> np.ndarray:
    """(K,) indices of `template_ids` in the rising `templates`; an id that is not there is a ValueError."""
    span = int(templates[-1]) - int(templates[0]) + 1
    if span <= 4 * (templates.size + template_ids.size):
        # A table is ten times faster than a search when there are millions of pairs.
        table = np.zeros(span, np.int32)
        table[templates - templates[0]] = np.arange(templates.size)
        rows = table[np.clip(template_ids, templates[0], templates[-1]) - templates[0]]
    else:
        rows = np.searchsorted(templates[:-1], template_ids)
    missing = np.flatnonzero(templates[rows] != template_ids)
    if missing.size:
        raise ValueError(f"templates must all have members. Received: template {template_ids[missing[0]]} without any")
    return rows
