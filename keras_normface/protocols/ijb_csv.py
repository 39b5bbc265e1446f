"""Tables of NIST's IJB sets: comma-separated, with a line of headings, a line for each face."""

import csv
import os
import posixpath

from keras_normface.protocols.text_lines import ProtocolFileError, numbered_lines

FILE_COLUMNS = ("FILENAME", "FILE")
MEDIUM_COLUMNS = ("MEDIA_ID", "SIGHTING_ID")
UNKNOWN = ("", "nan", "none")


def rows_of(path, *wanted):
    """Read some columns of a table.

    Args:
        path: The file. Capitals and white space in the headings do not matter.
        *wanted: For each column the heading, or a tuple of headings of which the first that is there counts.

    Yields:
        Pairs of a `Line` and the list of its texts in these columns.

    Raises:
        ProtocolFileError: If a heading is missing (those that are there are named), a line has another number of
            fields than the headings, or there are no lines after them.
        OSError: If the file cannot be read.
    """
    places, fields, line = None, 0, None
    for line in numbered_lines(path):
        try:
            texts = [text.strip() for text in next(csv.reader([line.text]), [])]
        except csv.Error as error:
            raise line.error(f"is no comma-separated line: {error}") from error
        if places is None:
            places, fields = _places(path, [text.upper() for text in texts], wanted), len(texts)
            continue
        if len(texts) != fields:
            raise line.error(f"must hold {fields} fields, as the headings do, but holds {len(texts)}")
        yield line, [texts[place] for place in places]
    if line is None or line.number == 1:
        raise ProtocolFileError(f"{os.fspath(path)} holds no faces")


def _places(path, headings, wanted):
    places = []
    for choice in wanted:
        choice = (choice,) if isinstance(choice, str) else choice
        there = [heading for heading in choice if heading in headings]
        if not there:
            raise ProtocolFileError(
                f"{os.fspath(path)} must have a column {' or '.join(choice)}. "
                f"Its columns are: {', '.join(headings)[:400]}"
            )
        places.append(headings.index(there[0]))
    return places


def add_faces(table, path, scope=None):
    """Add the faces of a table of NIST's form to a `TemplateTable`.

    Args:
        table: The `TemplateTable`.
        path: The file, with the columns TEMPLATE_ID, SUBJECT_ID, FILENAME (or FILE), SIGHTING_ID, and MEDIA_ID if there
            is one; where there is none, a sighting is a medium.
        scope: As for `TemplateTable.add`.

    Returns:
        Set of the ids of the templates.

    Raises:
        ProtocolFileError: If a line is not in this form or contradicts others; file and line are named.
        OSError: If the file cannot be read.
    """
    templates = set()
    columns = ("TEMPLATE_ID", "SUBJECT_ID", FILE_COLUMNS, "SIGHTING_ID", MEDIUM_COLUMNS)
    for line, (template, subject, file, sighting, medium) in rows_of(path, *columns):
        template = line.whole_number(template, "the template")
        subject, face = known_subject(line, subject), crop_name(line, line.relative_path(file), sighting)
        try:
            table.add(face, template, medium, subject, scope)
        except ValueError as error:
            raise line.error(str(error)) from error
        templates.add(template)
    return templates


def known_subject(line, subject):
    """Return the text of a subject, if it names one.

    Args:
        line: The `Line` it stands in.
        subject: The text.

    Raises:
        ProtocolFileError: If it is empty, "NaN" or "none".
    """
    if subject.lower() in UNKNOWN:
        raise line.error("must name the subject")
    return subject


def crop_name(line, file, sighting):
    """Return what a face cut out of a photo is called: `img/12.jpg` and sighting 7 give `img/12_7.jpg`.

    Args:
        line: The `Line` they stand in.
        file: The photo's path.
        sighting: The id of the face in it.

    Raises:
        ProtocolFileError: If the sighting is no plain name.
    """
    if not sighting or not sighting.replace("-", "").isalnum():
        raise line.error("must give a sighting as letters and digits")
    stem, ending = posixpath.splitext(file)
    return f"{stem}_{sighting}{ending}"
