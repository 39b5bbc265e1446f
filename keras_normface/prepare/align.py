"""Faces in photos brought to the places of a template, as the papers' training images are."""

import operator
import os
import warnings

from keras_normface.prepare.align_log import LOG_NAME, PartLog
from keras_normface.prepare.align_names import AlignedNames
from keras_normface.prepare.align_report import report_of
from keras_normface.prepare.align_run import AlignRun
from keras_normface.prepare.align_settings import begin, settings_of
from keras_normface.prepare.output import only_one_at_work
from keras_normface.prepare.pictures import ENCODINGS, pillow
from keras_normface.prepare.templates import similarity_class, template_size

NO_FACE_CHOICES = ("skip", "center")


def align_images(
    reader,
    out,
    template="arcface_112x112",
    *,
    detect=None,
    no_face="skip",
    encoding="jpeg",
    quality=95,
    batch=16,
    jobs=2,
    progress=None,
):
    """Find the face in each photo, bring it to a template, and write it to a tree like that of the photos.

    The five points of the face (of several, that which `chosen_face` chooses) are brought nearest to those of the
    template by a similarity, the image is warped by it with bilinear interpolation, and written as
    `identity/name.jpg`; for the names see `AlignedNames`. `align.jsonl` says of each image, in the order of the
    reader: `name`, `identity`, `output` (path of the aligned image, or null), `size` (height and width of the
    photo), `faces` (number found), `box`, `points` and `score` (the detector's confidence) of the one chosen, and
    `reason`: null if it was aligned, else "no face" or "not an image: ...". For an `ImageList`, `aligned.txt` is
    a list of the aligned images with the same labels.

    A run that was killed is taken up by the same call; with the same `batch`, the files are then those of an
    undisturbed run, byte for byte. A call on a finished directory does nothing.

    Args:
        reader: A `Reader` of photos, such as `IdentityFolder`.
        out: Directory to write; new, empty, or of an earlier call with the same photos and settings.
        template: "sphereface_112x96" or "arcface_112x112".
        detect: Function from a list of uint8 RGB arrays `(height, width, 3)` of one size to a list with a list of
            `Face` for each. `None`: `Mtcnn()`.
        no_face: What becomes of a photo without a face: "skip", or "center", its largest centred part in the
            shape of the template, scaled.
        encoding: "jpeg" or "png".
        quality: Of JPEG, 1 to 100.
        batch: Number of photos in one step; those of one size go through the detector together. Twice as many
            are in memory, decoded.
        jobs: Number of threads that decode, warp and encode.
        progress: `None`, or a function that is called with the number of photos done and that of all.

    Returns:
        An `AlignReport`.

    Raises:
        ValueError: If an argument does not fit, or a name leads out of `out`.
        OutputError: A ValueError. If `out` holds something else, was begun with other settings, or another run
            is at work there.
        ImportError: If Pillow, scikit-image, or the default detector is not installed.
        OSError: If something cannot be read or written, except that a file is not there: this is logged.

    Example:
    >>> import io, os, tempfile
    >>> import numpy as np
    >>> from keras_normface.data import IdentityFolder
    >>> from keras_normface.prepare.face_detection import Face
    >>> from PIL import Image
    >>> directory = tempfile.mkdtemp()
    >>> os.makedirs(os.path.join(directory, "photos", "Ada"))
    >>> Image.new("RGB", (250, 200), "grey").save(os.path.join(directory, "photos", "Ada", "1.png"))
    >>> points = ((100, 80), (150, 80), (125, 110), (105, 140), (145, 140))
    >>> def always_there(images):
    ...     return [[Face((90, 50, 160, 150), points, 1.0)] for _ in images]
    >>> photos, out = IdentityFolder(os.path.join(directory, "photos")), os.path.join(directory, "out")
    >>> align_images(photos, out, detect=always_there).aligned
    1
    >>> with Image.open(os.path.join(out, "Ada", "1.jpg")) as aligned:
    ...     aligned.size
    (112, 112)
    """
    _check(template, no_face, encoding, quality, batch, jobs)
    image_module = pillow()
    similarity_class()
    names = AlignedNames(reader, ENCODINGS[encoding])
    out = os.fspath(out)
    quality = quality if encoding == "jpeg" else None
    settings = settings_of(reader, template=template, no_face=no_face, encoding=encoding, quality=quality)
    log_path = os.path.join(out, LOG_NAME)
    with only_one_at_work(out):
        begin(out, settings)
        if os.path.exists(log_path):
            if progress is not None:
                progress(len(reader), len(reader))
            return report_of(log_path, resumed=len(reader))
        with PartLog(out, batch, _Names(reader)) as log, warnings.catch_warnings():
            # Odd files that Pillow reads all the same are no news; images somewhat too large are for the log.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            resumed = log.done
            AlignRun(reader, names, out, settings, detect, batch, jobs, progress or _no_progress).finish(log)
        return report_of(log_path, resumed)


class _Names:
    """The names of a reader's samples as a sequence."""

    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return len(self.reader)

    def __getitem__(self, index):
        return self.reader.name(index)


def _check(template, no_face, encoding, quality, batch, jobs):
    template_size(template)
    for argument, value, choices in (
        ("no_face", no_face, NO_FACE_CHOICES),
        ("encoding", encoding, tuple(ENCODINGS)),
    ):
        if value not in choices:
            raise ValueError(f"`{argument}` must be one of {list(choices)}. Received: {value!r}")
    for argument, value, most in (("quality", quality, 100), ("batch", batch, 2**16), ("jobs", jobs, 1024)):
        if isinstance(value, bool) or not 1 <= operator.index(value) <= most:
            raise ValueError(f"`{argument}` must be a whole number from 1 to {most}. Received: {value!r}")


def _no_progress(done, total):
    pass
