"""What the readers fill line by line, and make protocols of."""

from array import array

import numpy as np

from keras_normface.protocols._files import faults_of
from keras_normface.protocols._records import template_rows
from keras_normface.protocols.pairs import PairProtocol
from keras_normface.protocols.templates import GallerySearch, TemplatePairs, TemplateProtocol


class PairTable:
    """Pairs of named images with subjects, both numbered in the order in which they first occur."""

    def __init__(self):
        self._images, self._subjects, self._subject_of = {}, {}, array("i")
        self._left, self._right, self._folds = array("i"), array("i"), array("i")

    def __len__(self):
        return len(self._folds)

    def add(self, left, right, fold):
        """Add a pair of (image, subject), genuine if the subjects are equal."""
        self._left.append(self._number(*left))
        self._right.append(self._number(*right))
        self._folds.append(fold)

    def protocol(self, name, path):
        """The pairs as a `PairProtocol`; errors name `path`."""
        columns = self.columns()
        folds = columns["folds"]
        with faults_of(path):
            return PairProtocol(name=pairs_name(name, len(folds), len(np.unique(folds))), **columns)

    def columns(self):
        """The fields of a `PairProtocol` but for its name, as a dictionary."""
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
    """(LFW, 6000, 10) → `LFW, 6 000 pairs, ten folds`."""
    in_words = "one fold" if folds == 1 else f"{'ten' if folds == 10 else folds} folds"
    return f"{name}, {pairs:,} pairs, {in_words}".replace(",", " ").replace("  ", ", ")


class TemplateTable:
    """Images, each a member of templates; equal template ids of different scopes (splits) differ."""

    def __init__(self):
        self._images, self._templates, self._media, self._subjects = {}, {}, {}, {}
        self._members, self._template_of, self._medium_of = array("q"), array("q"), array("q")
        self._subject_of_image, self._subject_of_template = {}, {}

    def add(self, image, template, medium, subject=None, scope=None):
        """Add a member; the ids of medium and subject are any hashable, subject None if unknown."""
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
        """Name the subject of a template that was added without."""
        number = self._templates.get((scope, template))
        if number is None:
            raise ValueError(f"names template {template}, which has no images")
        subject = self._subjects.setdefault(subject, len(self._subjects))
        if self._subject_of_template.setdefault(number, subject) != subject:
            raise ValueError("gives another subject to the same template")

    def pairs(self, left, right, same=None, scope=None):
        """(n,) template ids → `TemplatePairs`; without `same`, inferred from the subjects."""
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
        """Template ids, repeated or not → `GallerySearch`."""
        return GallerySearch(np.unique(self._numbers(gallery, scope)), np.unique(self._numbers(probes, scope)))

    def protocol(self, name, pairs=(), searches=()):
        """The `TemplateProtocol`: `pairs` one for each split, `searches` a list for each split."""
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
