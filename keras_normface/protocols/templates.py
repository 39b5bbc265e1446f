"""Templates: a person's images and videos as one vector, as in the IJB data sets."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.metrics.score_matrix import unit_rows_float32
from keras_normface.protocols._records import checked_indices, checked_keys, checked_subjects, whole_numbers


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


_BLOCK_ELEMENTS = 2**18


def pool_templates(
    embeddings: ArrayLike, template_ids: ArrayLike, media_ids: ArrayLike, *, members: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One unit vector for each template.

    The images of a medium (the frames of a video) are averaged first, so that a long video weighs no more than a
    photo; the media are summed and the sum is scaled to length one. The images are not: a caller who wants the sum
    with the mirror image adds the two before. Source: Maze et al. 2018, "IARPA Janus Benchmark - C", and the practice
    of the published IJB evaluation scripts.

    Args:
        embeddings: (N, D) finite real numbers.
        template_ids: (M,) the template of each member.
        media_ids: (M,) its medium; equal ids in different templates are different media.
        members: (M,) row of `embeddings` of each member; None when the members are the rows.

    Returns:
        (T,) rising template ids and the (T, D) float32 unit vectors.

    Raises:
        ValueError: lists that do not fit, an embedding that is not finite, or a template whose sum vanishes.

    Example:
        >>> ids, vectors = pool_templates([[1, 0], [1, 0], [0, 1]], [7, 7, 7], [1, 1, 2])
        >>> ids.tolist(), vectors.round(3).tolist()
        ([7], [[0.7070000171661377, 0.7070000171661377]])
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "biuf":
        raise ValueError(f"embeddings must be a matrix of real numbers. Received: embeddings.shape={rows.shape}")
    members = np.arange(len(rows)) if members is None else checked_indices(members, "members", len(rows))
    template_ids = whole_numbers(template_ids, "template_ids", members.size)
    media_ids = whole_numbers(media_ids, "media_ids", members.size)
    order = np.lexsort((media_ids, template_ids))
    members, media_ids = members[order], media_ids[order]
    ids, templates = np.unique(template_ids[order], return_inverse=True)
    starts = np.flatnonzero(np.append(True, (np.diff(media_ids) != 0) | (np.diff(templates) != 0)))
    sizes = np.diff(np.append(starts, members.size))
    weights = 1.0 / np.repeat(sizes, sizes)
    pooled = np.zeros((ids.size, rows.shape[1]))
    # Blocks that stay in the cache: larger ones take twice as long.
    size = max(1, _BLOCK_ELEMENTS // rows.shape[1])
    for start in range(0, members.size, size):
        block = slice(start, start + size)
        vectors = rows[members[block]]
        vectors = vectors * weights[block, None].astype(np.float32 if vectors.dtype == np.float32 else np.float64)
        own = templates[block]
        firsts = np.flatnonzero(np.append(True, np.diff(own) != 0))
        pooled[own[firsts]] += np.add.reduceat(vectors, firsts, axis=0, dtype=np.float64)
    if not np.isfinite(pooled).all():
        _name_the_row(rows, members)
    return ids, unit_rows_float32(pooled, "pooled templates")


def _name_the_row(rows: np.ndarray, members: np.ndarray) -> None:
    for row in np.unique(members):
        if not np.isfinite(rows[row]).all():
            raise ValueError(f"embeddings must be finite. Received: embeddings[{row}] with NaN or infinity")


class TemplateTable:
    """Images, each a member of one or more templates, of a medium and perhaps of a subject.

    Templates of different scopes are different ones even if their ids are equal: IJB-A numbers those of each split
        anew.

    Example:
    >>> table = TemplateTable()
    >>> for image, template, medium in [("1.jpg", 7, "a"), ("2.jpg", 7, "a"), ("3.jpg", 9, "b")]:
    ...     table.add(image, template, medium)
    >>> protocol = table.protocol("toy", pairs=[table.pairs([7], [9], [False])])
    >>> protocol.images, protocol.template_ids.tolist(), protocol.media_ids.tolist()
    (('1.jpg', '2.jpg', '3.jpg'), [0, 0, 1], [0, 0, 1])
    """

    def __init__(self):
        self._images, self._templates, self._media, self._subjects = {}, {}, {}, {}
        self._members, self._template_of, self._medium_of = array("q"), array("q"), array("q")
        self._subject_of_image, self._subject_of_template = {}, {}

    def add(self, image, template, medium, subject=None, scope=None):
        """Add a member.

        Args:
            image: The image's name.
            template: The template's id, an int.
            medium: What tells the medium from others of its template.
            subject: What tells the subject from others; `None` if it is not known.
            scope: What tells the template from others of the same id.

        Raises:
            ValueError: If the image or the template is of another subject already.
        """
        image = self._images.setdefault(image, len(self._images))
        template = self._templates.setdefault((scope, template), len(self._templates))
        self._members.append(image)
        self._template_of.append(template)
        self._medium_of.append(self._media.setdefault(medium, len(self._media)))
        if subject is not None:
            subject = self._subjects.setdefault(subject, len(self._subjects))
            for known, number, what in (
                (self._subject_of_image, image, "image"),
                (self._subject_of_template, template, "template"),
            ):
                if known.setdefault(number, subject) != subject:
                    raise ValueError(f"gives another subject to the same {what}")

    def name_subject(self, template, subject, scope=None):
        """Say whom a template shows, which was added without its subject.

        Args:
            template: As for `add`.
            subject: As for `add`.
            scope: As for `add`.

        Raises:
            ValueError: If there is no such template, or it is of another subject.
        """
        number = self._templates.get((scope, template))
        if number is None:
            raise ValueError(f"names template {template}, which has no images")
        subject = self._subjects.setdefault(subject, len(self._subjects))
        if self._subject_of_template.setdefault(number, subject) != subject:
            raise ValueError("gives another subject to the same template")

    def pairs(self, left, right, same=None, scope=None):
        """Return comparisons of templates, a `TemplatePairs`.

        Args:
            left: Integers `(n,)`, ids of templates.
            right: Like `left`.
            same: Bool `(n,)`; by default told by the subjects.
            scope: As for `add`.

        Raises:
            ValueError: If there is no such template, or `same` contradicts the subjects or is to be told by one that is
                unknown; the place in the list is named, counted from 1.
        """
        rows = self._numbers(left, scope), self._numbers(right, scope)
        subjects = _by_number(self._subject_of_template, len(self._templates))
        of_left, of_right = (subjects[numbers] for numbers in rows)
        known = (of_left >= 0) & (of_right >= 0)
        told = of_left == of_right
        wrong = np.flatnonzero(~known if same is None else known & (told != np.asarray(same)))
        if len(wrong):
            what = "compares templates of an unknown subject" if same is None else "contradicts the templates' subjects"
            raise ValueError(f"comparison {wrong[0] + 1}, of templates {left[wrong[0]]} and {right[wrong[0]]}, {what}")
        return TemplatePairs(*rows, told if same is None else same)

    def search(self, gallery, probes, scope=None):
        """Return a `GallerySearch`.

        Args:
            gallery: Integers, ids of templates, repeated or not; each is taken once.
            probes: Like `gallery`.
            scope: As for `add`.

        Raises:
            ValueError: If there is no such template.
        """
        return GallerySearch(np.unique(self._numbers(gallery, scope)), np.unique(self._numbers(probes, scope)))

    def protocol(self, name, pairs=(), searches=()):
        """Return the `TemplateProtocol`.

        Args:
            name: What it is called.
            pairs: What `pairs` returned, for each split.
            searches: For each split a list of what `search` returned.
        """
        of_image, of_template = self._subject_of_image, self._subject_of_template
        if not of_image and of_template:
            of_image = {i: of_template.get(t, -1) for i, t in zip(self._members, self._template_of, strict=True)}
        return TemplateProtocol(
            name=name,
            images=tuple(self._images),
            members=np.array(self._members),
            template_ids=np.array(self._template_of),
            media_ids=np.array(self._medium_of),
            template_subjects=_by_number(of_template, len(self._templates)) if of_template else None,
            pairs=tuple(pairs),
            searches=tuple(tuple(split) for split in searches),
            subjects=_by_number(of_image, len(self._images)) if of_image else None,
        )

    def _numbers(self, templates, scope):
        """Return the templates' own numbers for an array of their ids."""
        numbers = {template: number for (within, template), number in self._templates.items() if within == scope}
        ids = np.array(sorted(numbers), "int64")
        own = np.array([numbers[template] for template in ids.tolist()], "int64")
        return own[template_rows(ids, np.asarray(templates, "int64"))]


def _by_number(known, count):
    """Return the array of `known`, a dictionary by number, with -1 for what is unknown."""
    return np.array([known.get(number, -1) for number in range(count)], "int64")
