"""What came of an alignment, counted from its log."""

import dataclasses

from keras_normface.prepare.align_log import parsed_line

NO_FACE, NOT_AN_IMAGE = "no face", "not an image"


@dataclasses.dataclass(frozen=True)
class AlignReport:
    """How many images were aligned, and why the others were not.

    Args:
        images: Number of images that were read.
        aligned: Images of which a face was aligned.
        no_face: Images without a face.
        several_faces: Images with several faces, of which one was aligned; they are counted in `aligned` too.
        not_an_image: Files that could not be read as an image.
        resumed: Images that were done already by earlier runs.

    Example:
    >>> AlignReport(images=3, aligned=2, no_face=1, several_faces=1, not_an_image=0).aligned
    2
    """

    images: int
    aligned: int
    no_face: int
    several_faces: int
    not_an_image: int
    resumed: int = 0


def report_of(path, resumed=0):
    """Count what a log says.

    Args:
        path: Path of the log.
        resumed: What `AlignReport.resumed` shall be.

    Returns:
        An `AlignReport`.

    Raises:
        ValueError: If a line is damaged.

    Example:
    >>> import os, tempfile
    >>> from keras_normface.prepare.align_log import line_of
    >>> path = os.path.join(tempfile.mkdtemp(), "align.jsonl")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(line_of({"name": "a.jpg", "output": None, "faces": 0, "reason": "no face"}))
    >>> report_of(path).no_face
    1
    """
    images = aligned = no_face = several = not_an_image = 0
    with open(path, "rb") as file:
        for line in file:
            record = parsed_line(line)
            if record is None or not isinstance(record.get("faces"), int) or "reason" not in record:
                raise ValueError(f"Line {images + 1} of {path} is damaged: {line[:80]!r}")
            images += 1
            aligned += record["reason"] is None
            no_face += record["reason"] == NO_FACE
            several += record["faces"] > 1
            not_an_image += str(record["reason"]).startswith(NOT_AN_IMAGE)
    return AlignReport(images, aligned, no_face, several, not_an_image, resumed)
