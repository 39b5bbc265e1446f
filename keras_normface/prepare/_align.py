"""Photos to aligned faces: names, decoding, detection, warping, and the resumable run."""

import json
import os
from collections import defaultdict

import numpy as np

from keras_normface import _validation
from keras_normface._io import ContainedFiles, atomic_write, is_below, remove_unfinished, threads
from keras_normface.data import PHOTO_EXTENSIONS, ImageList
from keras_normface.prepare._align_log import (
    LOG_NAME,
    NO_FACE,
    NOT_AN_IMAGE,
    PartLog,
    begin,
    report_of,
    settings_of,
)
from keras_normface.prepare._aligner import found_faces, placed_face, strict_pillow
from keras_normface.prepare._detector import Mtcnn
from keras_normface.prepare._faces import centred, similarity_class, template_size
from keras_normface.prepare._output import locked
from keras_normface.prepare._photos import ENCODINGS, NotAnImageError, decoded, encoded, pillow, warped


class AlignedNames:
    """`a.png` → `a.jpg`; `a.png.jpg` where two images would become one by this."""

    def __init__(self, reader, suffix):
        self.reader, self.suffix = reader, suffix
        # Hashes, eight bytes an image, find the few candidates; only those are compared as strings.
        stems = (hash(_checked_stem(reader.name(number))) for number in range(len(reader)))
        hashes = np.fromiter(stems, "int64", len(reader))
        self._shared = self._with_several_names(np.flatnonzero(_repeated(hashes)).tolist())
        self._refuse_clashes(hashes)

    def name(self, index):
        """Return the path of an aligned image below the directory."""
        name = self.reader.name(index)
        stem = _stem(name)
        return (name if stem in self._shared else stem) + self.suffix

    def _with_several_names(self, candidates):
        names = defaultdict(set)
        for number in candidates:
            name = self.reader.name(number)
            names[_stem(name)].add(name)
        return {stem: several for stem, several in names.items() if len(several) > 1}

    def _refuse_clashes(self, hashes):
        whole = {name: stem for stem, names in self._shared.items() for name in names if name != stem}
        suspects = np.isin(hashes, np.fromiter(map(hash, whole), "int64", len(whole)))
        for number in np.flatnonzero(suspects).tolist():
            name = self.reader.name(number)
            stem = _stem(name)
            if stem in whole and stem not in self._shared:
                raise ValueError(
                    f"The images must have names that differ without their suffixes. Received: {stem} and {name}, "
                    f"which would both become {stem}{self.suffix}"
                )


def _stem(name):
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in PHOTO_EXTENSIONS else name


def _checked_stem(name):
    path = name.replace(os.sep, "/")
    if os.path.splitdrive(name)[0] or not is_below(path) or path.rpartition("/")[2] in ("", "."):
        raise ValueError(f"The names of the images must be paths below the directory. Received: {name[:200]!r}")
    return _stem(name)


def _repeated(hashes):
    """Tell which numbers occur more than once."""
    order = np.sort(hashes)
    return np.isin(hashes, order[1:][order[1:] == order[:-1]])


LIST_NAME = "aligned.txt"


class AlignRun:
    """The images that are left to do; the arguments are those of `align_images`, checked."""

    def __init__(self, reader, names, out, settings, detect, batch, jobs, progress):
        self.reader, self.names, self.settings = reader, names, settings
        self.detect, self.batch, self.jobs, self.progress = detect, batch, jobs, progress
        self.tree = ImageTree(out)

    def finish(self, log):
        """Align what is left, and give the log its final name."""
        total = len(self.reader)
        self.progress(log.done, total)
        remove_unfinished(self.tree.root)
        chunks = [range(start, min(start + self.batch, total)) for start in range(log.done, total, self.batch)]
        if chunks and self.detect is None:
            self.detect = Mtcnn()
        with threads(self.jobs) as pool:
            ahead = [pool.submit(self._decoded, number) for number in chunks[0]] if chunks else []
            for place, chunk in enumerate(chunks):
                photos = [future.result() for future in ahead]
                following = chunks[place + 1] if place + 1 < len(chunks) else ()
                ahead = [pool.submit(self._decoded, number) for number in following]
                log.append(self._done(pool, chunk, photos))
                self.progress(log.done, total)
        if isinstance(self.reader, ImageList):
            self._write_list(log.path)
        log.finish(self.reader.ignored)

    def _decoded(self, number):
        """Return pixels, or the reason why there are none."""
        try:
            content, _ = self.reader.sample(number)
            return decoded(content)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return "no such file"
        except ValueError as error:  # also NotAnImageError, and a link that leads out of the directory
            text = str(error) if isinstance(error, NotAnImageError) else f"not readable: {error}"
            return text.replace("\n", " ")

    def _done(self, pool, chunk, photos):
        """Detect, warp and write the images of a chunk, and return their records."""
        faces = self._detected(photos)
        drawn = list(pool.map(self._drawn, photos, faces))
        records = []
        for number, photo, found, (face, reason, content) in zip(chunk, photos, faces, drawn, strict=True):
            output = None if content is None else self.names.name(number)
            if content is not None:
                self.tree.write(output, content)
            readable = not isinstance(photo, str)
            records.append(
                {
                    "name": self.reader.name(number),
                    "identity": self.reader.identities[self.reader.labels[number]],
                    "output": output,
                    "size": list(photo.shape[:2]) if readable else None,
                    "faces": len(found),
                    "box": None if face is None else face.box,
                    "points": None if face is None else face.points,
                    "score": None if face is None else face.confidence,
                    "reason": reason,
                }
            )
        return records

    def _detected(self, photos):
        """Return the list of faces of each photo."""
        return found_faces(self.detect, photos)

    def _drawn(self, photo, faces):
        """Return the face chosen, the reason why there is none, and the encoded image."""
        if isinstance(photo, str):
            return None, f"{NOT_AN_IMAGE}: {photo}", None
        template = self.settings["template"]
        face, matrix = placed_face(faces, photo.shape[:2], template)
        reason = NO_FACE if face is None else None
        if face is None:
            if self.settings["no_face"] == "skip":
                return None, reason, None
            matrix = centred(photo.shape[:2], template)
        pixels = warped(photo, matrix, template_size(template))
        return face, reason, encoded(pixels, self.settings["encoding"], self.settings["quality"])

    def _write_list(self, log_path):
        with (
            atomic_write(os.path.join(self.tree.root, LIST_NAME)) as beside,
            open(beside, "wb") as file,
            open(log_path, "rb") as lines,
        ):
            for record in map(json.loads, lines):
                if record["output"] is not None:
                    # A line that began with # would be a comment.
                    start = "./" if record["output"][0] in "# \t" else ""
                    file.write(os.fsencode(f"{start}{record['output']} {record['identity']}\n"))


class ImageTree:
    """Writes images below a directory, and none outside of it."""

    def __init__(self, root):
        self.root, self._files, self._known = os.fspath(root), ContainedFiles(root), set()

    def write(self, relative, content):
        """Write a file atomically."""
        directory = os.path.dirname(relative)
        if directory not in self._known:
            path = self._files.checked_path(directory)
            os.makedirs(path, exist_ok=True)
            remove_unfinished(path)
            self._known.add(directory)
        with atomic_write(os.path.join(self.root, relative)) as beside, open(beside, "xb") as file:
            file.write(content)


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
    `identity/name.jpg`; where two photos differ by their suffix alone, each keeps it: `a.png.jpg`, `a.bmp.jpg`.

    `align.jsonl` says of each image, in the order of the reader: `name`, `identity`, `output` (path of the aligned
    image, or null), `size` (height and width of the photo), `faces` (number found), `box`, `points` and `score` (the
    detector's confidence) of the one chosen, and `reason`: null if it was aligned, else "no face" or "not an image:
    ...". Behind them it lists `reader.ignored`, with the reason "not taken: ...". For an `ImageList`,
    `aligned.txt` is a list of the aligned images with the same labels.

    A run that was killed is resumed by the same call; with the same `batch`, the files are then those of an
    undisturbed run, byte for byte. A call on a finished directory does nothing.

    Args:
        reader: A `Reader` of photos, such as `IdentityFolder(path, extensions=PHOTO_EXTENSIONS)`.
        out: Directory to write; new, empty, or of an earlier call with the same photos and settings.
        template: "sphereface_112x96", "arcface_112x112" or "dlib_150x150".
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
            holds its lock.
        ImportError: If Pillow, scikit-image, or the default detector is not installed.
        OSError: If something cannot be read or written, except that a file is not there: this is logged.

    Example:
    >>> import io, os, tempfile
    >>> import numpy as np
    >>> from keras_normface.data import IdentityFolder
    >>> from keras_normface.prepare import Face
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
    pillow()
    similarity_class()
    names = AlignedNames(reader, ENCODINGS[encoding])
    out = os.fspath(out)
    quality = quality if encoding == "jpeg" else None
    settings = settings_of(reader, template=template, no_face=no_face, encoding=encoding, quality=quality)
    log_path = os.path.join(out, LOG_NAME)
    with locked(out):
        begin(out, settings)
        if os.path.exists(log_path):
            if progress is not None:
                progress(len(reader), len(reader))
            return report_of(log_path, resumed=len(reader))
        with PartLog(out, batch, _Names(reader)) as log, strict_pillow():
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
        _validation.choice(argument, value, choices)
    for argument, value, most in (("quality", quality, 100), ("batch", batch, 2**16), ("jobs", jobs, 1024)):
        _validation.integer(argument, value, 1, most)


def _no_progress(done, total):
    pass
