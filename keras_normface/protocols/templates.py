"""Templates: a subject's images and videos as one vector, as in the IJB data sets."""

from dataclasses import dataclass

import numpy as np

from keras_normface.metrics import unit_rows
from keras_normface.protocols._records import (
    check_agreement,
    checked_indices,
    checked_keys,
    checked_same,
    checked_subjects,
    set_fields,
    template_rows,
    whole_numbers,
)


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
        right = whole_numbers(self.right, "right", left.size)
        set_fields(self, {"left": left, "right": right, "same": checked_same(self.same, left, right)})


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
                raise ValueError(f"`{name}` must hold at least one template, a gallery each once. Received: {values}")
            object.__setattr__(self, name, values)
        both = np.intersect1d(self.gallery, self.probes)
        if both.size:
            raise ValueError(f"`probes` must not be in the gallery themselves. Received: template {both[0]} in both")


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
        ValueError: index lists that do not fit each other, or a template without a member.

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
        set_fields(self, changes)
        if not all(self.searches):
            raise ValueError("`searches` must hold at least one search for each split. Received: a split without any")
        for pairs in self.pairs:
            self._check_pairs(pairs)
        for search in (search for split in self.searches for search in split):
            self.rows(search.gallery)
            self.rows(search.probes)

    def _check_pairs(self, pairs):
        left, right = self.rows(pairs.left), self.rows(pairs.right)
        if self.template_subjects is not None:
            check_agreement(self.template_subjects, left, right, pairs.same, "template_subjects")

    @property
    def templates(self):
        """(T,) rising template ids, the order of `template_subjects` and of `pool_templates`."""
        return np.unique(self.template_ids)

    def rows(self, template_ids):
        """Where templates stand in `templates`.

        Args:
            template_ids: (K,) template ids.

        Returns:
            (K,) integer indices.

        Raises:
            ValueError: there is no such template.
        """
        return template_rows(self.templates, template_ids)


_BLOCK_ELEMENTS = 2**18


def pool_templates(embeddings, template_ids, media_ids, *, members=None):
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
        raise ValueError(f"`embeddings` must be a matrix of real numbers. Received: embeddings.shape={rows.shape}")
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
    return ids, unit_rows(pooled, "pooled templates", dtype=np.float32)


def _name_the_row(rows, members):
    for row in np.unique(members):
        if not np.isfinite(rows[row]).all():
            raise ValueError(f"`embeddings` must be finite. Received: embeddings[{row}] with NaN or infinity")
