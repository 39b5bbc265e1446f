"""IJB-A, IJB-B and IJB-C: their files, 1:1 verification and 1:N search of templates."""

import os
import posixpath
from array import array

import numpy as np

from keras_normface._threshold import BY_SUBJECT
from keras_normface.metrics.bootstrap import REPEATS, Resamples, rate_name
from keras_normface.metrics.identification import search_gallery
from keras_normface.metrics.results import Result
from keras_normface.metrics.score_matrix import curve_of_sorted, listed_scores
from keras_normface.metrics.verification import chosen_rates, threshold_at_rate
from keras_normface.protocols._files import (
    ProtocolFileError,
    faults_of,
    numbered_lines,
    protocol_file,
    read_numbers,
    rows_of,
)
from keras_normface.protocols._records import checked_ranks, embeddings_of, template_rows
from keras_normface.protocols._shares import Case, split_figure
from keras_normface.protocols.templates import GallerySearch, TemplatePairs, TemplateProtocol, pool_templates


class _TemplateTable:
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


_FILE_COLUMNS = ("FILENAME", "FILE")
_MEDIUM_COLUMNS = ("MEDIA_ID", "SIGHTING_ID")
_NO_SUBJECT = ("", "nan", "none")


def _add_faces(table, path, scope=None):
    """Add the faces of a table of NIST's form to a `_TemplateTable` → set of the template ids."""
    templates = set()
    columns = ("TEMPLATE_ID", "SUBJECT_ID", _FILE_COLUMNS, "SIGHTING_ID", _MEDIUM_COLUMNS)
    for line, (template, subject, file, sighting, medium) in rows_of(path, *columns):
        template = line.whole_number(template, "the template")
        subject, face = _known_subject(line, subject), _crop_name(line, line.relative_path(file), sighting)
        try:
            table.add(face, template, medium, subject, scope)
        except ValueError as error:
            raise line.error(str(error)) from error
        templates.add(template)
    return templates


def _known_subject(line, subject):
    """Text of a subject, unless it is empty, "NaN" or "none"."""
    if subject.lower() in _NO_SUBJECT:
        raise line.error("must name the subject")
    return subject


def _crop_name(line, file, sighting):
    """Name of a face cut out of a photo: `img/12.jpg`, sighting 7 → `img/12_7.jpg`."""
    if not sighting or not sighting.replace("-", "").isalnum():
        raise line.error("must give a sighting as letters and digits")
    stem, ending = posixpath.splitext(file)
    return f"{stem}_{sighting}{ending}"


_GALLERIES = {"IJB-B": ("S1", "S2"), "IJB-C": ("G1", "G2")}
_SPLITS_OF_IJB_A = 10


def read_ijb(directory, kind="IJB-C"):
    """Read the templates, comparisons and searches of IJB-B or IJB-C.

    Two forms are known, inferred from the files that are there (`ijbc` and `G` are `ijbb` and `S` in IJB-B):

    - InsightFace's: `ijbc_face_tid_mid.txt`, lines `1.jpg template medium`; `ijbc_template_pair_label.txt`, lines
      `template template label`; `ijbc_1N_gallery_G1.csv`, `ijbc_1N_gallery_G2.csv` and `ijbc_1N_probe_mixed.csv`, of
      which the columns TEMPLATE_ID and SUBJECT_ID are used. The pairs or the three tables may be missing.
    - NIST's: the three tables with the columns of faces too (FILENAME, SIGHTING_ID), and `ijbc_11_G1_G2_matches.csv`,
      lines `template,template`, which may be missing. A sighting is a medium unless there is a column MEDIA_ID. A
      face's name is that of its photo with the sighting, `img/12_7.jpg` for sighting 7 in `img/12.jpg`: save the
      aligned face so.

    Args:
        directory: Where the files are.
        kind: "IJB-B" or "IJB-C".

    Returns:
        A `TemplateProtocol`.

    Raises:
        ProtocolFileError: If a file is not in its form or contradicts others; file and line are named.
        ValueError: If `kind` is another.
        OSError: If a file is missing or cannot be read.

    Source: Whitelam et al. 2017, "IARPA Janus Benchmark-B Face Dataset"; Maze et al. 2018, "IARPA Janus Benchmark - C";
    the text files are those of the InsightFace project's evaluation.
    """
    if kind not in _GALLERIES:
        raise ValueError(f"`kind` must be one of {list(_GALLERIES)}. Received: kind={kind!r}")
    stem = kind.lower().replace("-", "")
    faces = protocol_file(directory, f"{stem}_face_tid_mid.txt")
    tables = [protocol_file(directory, f"{stem}_1N_gallery_{name}.csv") for name in _GALLERIES[kind]]
    tables.append(protocol_file(directory, f"{stem}_1N_probe_mixed.csv"))
    matches = protocol_file(directory, f"{stem}_11_{'_'.join(_GALLERIES[kind])}_matches.csv")
    if os.path.exists(faces):
        labels = protocol_file(directory, f"{stem}_template_pair_label.txt")
        return _from_text(kind, faces, labels, tables if any(map(os.path.exists, tables)) else [])
    return _from_csv(kind, tables, matches)


def read_ijb_a(directory):
    """Read the ten splits of IJB-A.

    `IJB-A_11_sets/split1/verify_metadata_1.csv` holds a split's templates and `verify_comparisons_1.csv` its
    comparisons, lines `template,template`; `IJB-A_1N_sets/split1/search_gallery_1.csv` and `search_probe_1.csv` hold
    those of a search. The columns are TEMPLATE_ID, SUBJECT_ID, FILE, MEDIA_ID and SIGHTING_ID among others. Either of
    the two directories may be missing. Faces are named as in `read_ijb`.

    Args:
        directory: Where the two directories are.

    Returns:
        A `TemplateProtocol` with a member of `pairs` and of `searches` for each split.

    Raises:
        ProtocolFileError: If a file is not in its form or contradicts others; file and line are named.
        OSError: If a file is missing or cannot be read.

    Source: Klare et al. 2015, "Pushing the Frontiers of Unconstrained Face Detection and Recognition: IARPA Janus
    Benchmark A".
    """
    table, pairs, searches = _TemplateTable(), [], []
    sets = [protocol_file(directory, f"IJB-A_{name}_sets") for name in ("11", "1N")]
    if not any(map(os.path.isdir, sets)):
        raise FileNotFoundError(f"`directory` must hold {' or '.join(sets)}")
    for split in range(1, _SPLITS_OF_IJB_A + 1):
        verify, search = (protocol_file(path, f"split{split}") for path in sets)
        if os.path.isdir(sets[0]):
            _add_faces(table, protocol_file(verify, f"verify_metadata_{split}.csv"), ("11", split))
            path = protocol_file(verify, f"verify_comparisons_{split}.csv")
            pairs.append(_compared(table, path, ",", ("11", split)))
        if os.path.isdir(sets[1]):
            files = [protocol_file(search, f"search_{part}_{split}.csv") for part in ("gallery", "probe")]
            found = [_add_faces(table, file, ("1N", split)) for file in files]
            searches.append(_searches(table, found, files, ("1N", split)))
    return table.protocol("IJB-A, ten splits", pairs, searches)


def _from_text(kind, faces, labels, tables):
    table = _TemplateTable()
    for line in numbered_lines(faces):
        fields = line.text.split()
        if len(fields) != 3:
            raise line.error("must hold an image, the number of its template and of its medium")
        image, template, medium = line.relative_path(fields[0]), *fields[1:]
        table.add(image, line.whole_number(template, "the template"), line.whole_number(medium, "the medium"))
    found = []
    for path in tables:
        found.append(set())
        for line, (template, subject) in rows_of(path, "TEMPLATE_ID", "SUBJECT_ID"):
            template = line.whole_number(template, "the template")
            subject = _known_subject(line, subject)
            try:
                table.name_subject(template, subject)
            except ValueError as error:
                raise line.error(str(error)) from error
            found[-1].add(template)
    searches = [_searches(table, found, tables)] if tables else []
    pairs = [_compared(table, labels, None)] if os.path.exists(labels) or not tables else []
    return table.protocol(kind, pairs, searches)


def _from_csv(kind, tables, matches):
    table = _TemplateTable()
    found = [_add_faces(table, path) for path in tables]
    searches = [_searches(table, found, tables)]
    pairs = [_compared(table, matches, ",")] if os.path.exists(matches) else []
    return table.protocol(kind, pairs, searches)


def _searches(table, found, files, scope=None):
    """Return the searches of the last set of templates in each of those before it, which must not overlap."""
    for number, templates in enumerate(found):
        for other, path in zip(found[:number], files, strict=False):
            if templates & other:
                raise ProtocolFileError(f"{files[number]} repeats template {min(templates & other)} of {path}")
    return [table.search(sorted(gallery), sorted(found[-1]), scope) for gallery in found[:-1]]


def _compared(table, path, delimiter, scope=None):
    """Return the comparisons of a file: pairs of templates, with labels where fields are separated by white space."""
    columns = ("template", "template") if delimiter else ("template", "template", "label")
    numbers = read_numbers(path, columns, delimiter)
    same = None
    if not delimiter:
        wrong = (numbers[:, 2] > 1).nonzero()[0]
        if len(wrong):
            raise ProtocolFileError(
                f"{path} must label pairs 0 or 1. Comparison {wrong[0] + 1} is labelled {numbers[wrong[0], 2]}"
            )
        same = numbers[:, 2] == 1
    with faults_of(path):
        return table.pairs(numbers[:, 0], numbers[:, 1], same, scope)


_FARS, _FPIRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), (1e-1, 1e-2, 1e-3)


def evaluate_ijb(
    protocol, embeddings, *, fars=None, fpirs=None, ranks=(1, 5, 10), intervals=True, repeats=REPEATS, seed=0
):
    """Verification of the listed template pairs and search of the galleries, whichever the protocol has.

    Templates are pooled by `pool_templates`. 1:1, TAR@FAR: the threshold is the lowest at which at most that share
    of the impostor pairs is accepted. 1:N, on mated probes: rank-k, and TPIR@FPIR, the share whose mate scores at
    least the threshold, which is the lowest at which at most that share of the NON-mated probes finds anybody, each
    judged by its highest score. Each gallery has its own threshold; figures are averaged over the galleries of a
    split. In ranks, scores within 1e-6 are tied and ties count against the probe. Source: Klare et al. 2015, "Pushing
    the frontiers of unconstrained face detection and recognition: IARPA Janus Benchmark A"; Maze et al. 2018, "IARPA
    Janus Benchmark - C".

    Args:
        protocol: a `TemplateProtocol`.
        embeddings: (N, D), one row for each of `protocol.images`; with mirror images, the sums of the two.
        fars: rates for 1:1; None for those of 1e-1 to 1e-6 that every split resolves.
        fpirs: rates for 1:N; None for those of 1e-1 to 1e-3 that every gallery resolves.
        ranks: k of the rank-k rates.
        intervals: whether to resample subjects, with the thresholds kept.
        repeats: how many times.
        seed: of the resampling.

    Returns:
        A `Result`. With several splits a figure is their mean and its spread their standard deviation (ddof 1).

    Raises:
        ValueError: embeddings that do not fit the protocol or are not finite, pairs of one kind only, a search
            without mated probes or with unknown subjects, or a rate that the impostors cannot resolve.

    Example:
        >>> import numpy as np
        >>> from keras_normface.protocols import GallerySearch, TemplateProtocol
        >>> protocol = TemplateProtocol("toy", ("a", "b", "c"), [0, 1, 2], [1, 2, 3], [0, 0, 0], [7, 7, 8],
        ...                             searches=((GallerySearch([1], [2, 3]),),))
        >>> print(evaluate_ijb(protocol, [[1, 0], [1, 0], [0, 1]], ranks=1, fpirs=1.0, intervals=False))
        toy: rank-1 100.00 %
        toy: TPIR@FPIR=1e+00 100.00 %
    """
    resamples = Resamples(BY_SUBJECT, repeats, seed) if intervals else None
    rows = embeddings_of(embeddings, len(protocol.images), "embeddings")
    if not protocol.pairs and not protocol.searches:
        raise ValueError(f"`protocol` must have pairs or searches. Received: {protocol.name} without any")
    ranks = checked_ranks(ranks)
    _, unit = pool_templates(rows, protocol.template_ids, protocol.media_ids, members=protocol.members)
    subjects = protocol.template_subjects
    codes = None if subjects is None else np.unique(subjects, return_inverse=True)[1]
    counts = {"images": len(protocol.images), "templates": len(unit)}
    if subjects is not None:
        counts["subjects"] = int(np.unique(subjects[subjects >= 0]).size)
    figures, curves = [], {}
    if protocol.pairs:
        figures += _verification(protocol, unit, codes, fars, resamples, counts, curves)
    if protocol.searches:
        figures += _identification(protocol, unit, codes, fpirs, ranks, resamples, counts)
    settings = {"pooling": "mean in a medium, sum of media, unit length"}
    settings["intervals"] = resamples.settings if intervals else None
    return Result(protocol.name, tuple(figures), counts, settings, curves, resamples)


def _verification(protocol, unit, codes, fars, resamples, counts, curves):
    impostors = [int(pairs.same.size - np.count_nonzero(pairs.same)) for pairs in protocol.pairs]
    for number, pairs in enumerate(protocol.pairs):
        if not 0 < impostors[number] < pairs.same.size:
            raise ValueError(
                "`pairs` must hold genuine and impostor pairs. "
                f"Received: pairs[{number}] with {impostors[number]} impostor pairs of {pairs.same.size}"
            )
    fars = chosen_rates(fars, _FARS, min(impostors), "fars", "impostor pairs")
    cases = {rate_name("TAR@FAR", far): [] for far in fars}
    for number, pairs in enumerate(protocol.pairs):
        left = protocol.rows(pairs.left)
        scores = listed_scores(unit, left, protocol.rows(pairs.right))
        genuine, impostor = scores[pairs.same], np.sort(scores[~pairs.same])
        subjects_of = left[pairs.same]
        known = codes is not None and (protocol.template_subjects[subjects_of] >= 0).all()
        subjects_of = codes[subjects_of] if known else None
        lowest = min(genuine.min(), impostor[0])
        for far, name in zip(fars, cases, strict=True):
            threshold = threshold_at_rate(impostor[::-1], far, impostor.size, lowest)
            cases[name].append(Case(genuine >= threshold, subjects_of, float(threshold)))
        curves["1:1" if len(protocol.pairs) == 1 else f"1:1 split {number + 1}"] = curve_of_sorted(
            np.sort(genuine), impostor
        )
    counts["impostor pairs"] = sum(impostors)
    counts["genuine pairs"] = sum(int(pairs.same.sum()) for pairs in protocol.pairs)
    return [split_figure(name, [[case] for case in cases[name]], resamples) for name in cases]


def _identification(protocol, unit, codes, fpirs, ranks, resamples, counts):
    if codes is None or (protocol.template_subjects < 0).any():
        raise ValueError("`template_subjects` must be known for searches. Received: a protocol that lacks some")
    found = [[_search(protocol, unit, codes, search) for search in split] for split in protocol.searches]
    fewest = fewest_non_mated(protocol)
    if not all(scores.mated.any() for split in found for scores, _ in split):
        raise ValueError("`searches` must each have a mated probe. Received: a gallery without any")
    if fewest:
        fpirs = chosen_rates(fpirs, _FPIRS, fewest, "fpirs", "non-mated probes")
    elif fpirs is not None:
        raise ValueError(
            "`fpirs` must be None where a gallery has no non-mated probe. Received: fpirs and such a gallery"
        )
    counts["mated probes"] = sum(int(scores.mated.sum()) for split in found for scores, _ in split)
    counts["non-mated probes"] = sum(int((~scores.mated).sum()) for split in found for scores, _ in split)
    cases = {f"rank-{rank}": [[_ranked(*one, rank) for one in split] for split in found] for rank in ranks}
    for fpir in fpirs or ():
        cases[rate_name("TPIR@FPIR", fpir)] = [[_above(*one, fpir) for one in split] for split in found]
    return [split_figure(name, cases[name], resamples) for name in cases]


def fewest_non_mated(protocol):
    """The least number of non-mated probes of a gallery, which says what FPIR a protocol resolves.

    Args:
        protocol: a `TemplateProtocol`.

    Returns:
        The number, or None where there is no search or a subject is unknown.
    """
    subjects = protocol.template_subjects
    searches = [search for split in protocol.searches for search in split]
    if not searches or subjects is None or (subjects < 0).any():
        return None
    sides = [(subjects[protocol.rows(search.probes)], subjects[protocol.rows(search.gallery)]) for search in searches]
    return min(int(np.count_nonzero(~np.isin(probes, gallery))) for probes, gallery in sides)


def _search(protocol, unit, codes, search):
    gallery, probes = protocol.rows(search.gallery), protocol.rows(search.probes)
    return search_gallery(unit[gallery], codes[gallery], unit[probes], codes[probes]), codes[probes]


def _ranked(scores, subjects_of, rank):
    return Case(scores.rank[scores.mated] <= rank, subjects_of[scores.mated], None)


def _above(scores, subjects_of, fpir):
    non_mated = np.sort(scores.highest[~scores.mated])[::-1]
    threshold = threshold_at_rate(non_mated, fpir, non_mated.size, -2.0)
    return Case(scores.mate[scores.mated] >= threshold, subjects_of[scores.mated], float(threshold))
