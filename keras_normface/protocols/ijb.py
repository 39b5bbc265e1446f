"""IJB-A, IJB-B and IJB-C: NIST's tables, or the text files that InsightFace made of them."""

import os

from keras_normface.protocols.ijb_csv import add_faces, known_subject, rows_of
from keras_normface.protocols.number_table import read_numbers
from keras_normface.protocols.template_table import TemplateTable
from keras_normface.protocols.text_lines import ProtocolFileError, faults_of, numbered_lines

GALLERIES = {"IJB-B": ("S1", "S2"), "IJB-C": ("G1", "G2")}
SPLITS_OF_IJB_A = 10


def read_ijb(directory, kind="IJB-C"):
    """Read the templates, comparisons and searches of IJB-B or IJB-C.

    Two forms are known, told by what lies there (`ijbc` and `G` are `ijbb` and `S` in IJB-B):

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
    if kind not in GALLERIES:
        raise ValueError(f"`kind` must be one of {list(GALLERIES)}. Received: kind={kind!r}")
    stem = kind.lower().replace("-", "")
    directory = os.fspath(directory)
    faces = os.path.join(directory, f"{stem}_face_tid_mid.txt")
    tables = [os.path.join(directory, f"{stem}_1N_gallery_{name}.csv") for name in GALLERIES[kind]]
    tables.append(os.path.join(directory, f"{stem}_1N_probe_mixed.csv"))
    matches = os.path.join(directory, f"{stem}_11_{'_'.join(GALLERIES[kind])}_matches.csv")
    if os.path.exists(faces):
        labels = os.path.join(directory, f"{stem}_template_pair_label.txt")
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
    table, pairs, searches = TemplateTable(), [], []
    sets = [os.path.join(os.fspath(directory), f"IJB-A_{name}_sets") for name in ("11", "1N")]
    if not any(map(os.path.isdir, sets)):
        raise FileNotFoundError(f"`directory` must hold {' or '.join(sets)}")
    for split in range(1, SPLITS_OF_IJB_A + 1):
        verify, search = (os.path.join(path, f"split{split}") for path in sets)
        if os.path.isdir(sets[0]):
            add_faces(table, os.path.join(verify, f"verify_metadata_{split}.csv"), ("11", split))
            path = os.path.join(verify, f"verify_comparisons_{split}.csv")
            pairs.append(_compared(table, path, ",", ("11", split)))
        if os.path.isdir(sets[1]):
            files = [os.path.join(search, f"search_{part}_{split}.csv") for part in ("gallery", "probe")]
            found = [add_faces(table, file, ("1N", split)) for file in files]
            searches.append(_searches(table, found, files, ("1N", split)))
    return table.protocol("IJB-A, ten splits", pairs, searches)


def _from_text(kind, faces, labels, tables):
    table = TemplateTable()
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
            subject = known_subject(line, subject)
            try:
                table.name_subject(template, subject)
            except ValueError as error:
                raise line.error(str(error)) from error
            found[-1].add(template)
    searches = [_searches(table, found, tables)] if tables else []
    pairs = [_compared(table, labels, None)] if os.path.exists(labels) or not tables else []
    return table.protocol(kind, pairs, searches)


def _from_csv(kind, tables, matches):
    table = TemplateTable()
    found = [add_faces(table, path) for path in tables]
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
