"""Members of templates as readers find them, and the protocol that they make."""

from array import array

import numpy as np

from keras_normface.evaluation.templates import GallerySearch, TemplatePairs, TemplateProtocol, template_rows


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
