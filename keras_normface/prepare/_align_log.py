"""The log and the settings of an alignment, by which a killed run resumes."""

import dataclasses
import hashlib
import json
import os

from keras_normface._alignment import FORMAT, LOG_NAME, SETTINGS_NAME
from keras_normface._io import LOCK_NAME, UNFINISHED_PREFIX, appended_file, failed_writes_named
from keras_normface.prepare._output import OutputError, kind_of

PART_NAME = f"{LOG_NAME}.part"


class PartLog:
    """The growing log, a line of JSON an image in the reader's order; of a killed run, whole chunks are kept."""

    def __init__(self, out, chunk, names):
        self.out, self.path, self.done = out, os.path.join(out, PART_NAME), 0
        self._file = appended_file(self.path)
        try:
            self._keep_whole_lines(chunk, names)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with failed_writes_named(self.path):  # what a full disk did not take is tried again here
            self._file.close()

    def append(self, records):
        """Write records of images that are done."""
        with failed_writes_named(self.path):
            self._file.write(b"".join(line_of(record) for record in records))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.done += len(records)

    def finish(self, not_taken):
        """Add a line for each file that is not a photo by its name, and give the log its final name."""
        records = [{**_NOTHING_FOUND, "name": path, "reason": f"{NOT_TAKEN}: {kind_of(path)}"} for path in not_taken]
        done = self.done
        self.append(records)
        self.done = done
        os.replace(self.path, os.path.join(self.out, LOG_NAME))

    def _keep_whole_lines(self, chunk, names):
        self._file.seek(0)
        position, whole, kept = 0, 0, 0
        for line in self._file:
            if whole == len(names) or not self._is_done(line, names[whole]):
                break
            position, whole = position + len(line), whole + 1
            if whole % chunk == 0 or whole == len(names):
                kept, self.done = position, whole
        self._file.truncate(kept)

    def _is_done(self, line, name):
        record = parsed_line(line)
        if record is None or record.get("name") != name:
            return False
        output = record.get("output")
        return output is None or (isinstance(output, str) and os.path.isfile(os.path.join(self.out, output)))


def line_of(record):
    """Return a record as a line of the log, bytes."""
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def parsed_line(line):
    """Return the dictionary in a line of the log, or `None` if it is corrupt."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


NO_FACE, NOT_AN_IMAGE, NOT_TAKEN = "no face", "not an image", "not taken"
_FIELDS = ("name", "identity", "output", "size", "faces", "box", "points", "score", "reason")
_NOTHING_FOUND = {**dict.fromkeys(_FIELDS), "faces": 0}


@dataclasses.dataclass(frozen=True)
class AlignReport:
    """How many images were aligned, and why the others were not.

    Args:
        images: Number of images that were read.
        aligned: Images of which a face was aligned.
        no_face: Images without a face.
        several_faces: Images with several faces, of which one was aligned; they are counted in `aligned` too.
        not_an_image: Files that could not be read as an image.
        not_taken: Files that are not photos by their names; they do not count in `images`.
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
    not_taken: int = 0
    resumed: int = 0


def report_of(path, resumed=0):
    """Count what a log says."""
    images = aligned = no_face = several = not_an_image = not_taken = 0
    with open(path, "rb") as file:
        for line in file:
            record = parsed_line(line)
            if record is None or not isinstance(record.get("faces"), int) or "reason" not in record:
                raise ValueError(f"Line {images + not_taken + 1} of {path} is corrupt: {line[:80]!r}")
            if str(record["reason"]).startswith(NOT_TAKEN):
                not_taken += 1
                continue
            images += 1
            aligned += record["reason"] is None
            no_face += record["reason"] == NO_FACE
            several += record["faces"] > 1
            not_an_image += str(record["reason"]).startswith(NOT_AN_IMAGE)
    return AlignReport(images, aligned, no_face, several, not_an_image, not_taken, resumed)


def settings_of(reader, **settings):
    """Return what must be equal for a run to resume: settings, number and names of the photos, not their pixels."""
    digest = hashlib.sha256()
    for number in range(len(reader)):
        digest.update(os.fsencode(reader.name(number)) + b"\0")
    source = {"kind": type(reader).__name__, "samples": len(reader), "names_sha256": digest.hexdigest()}
    return {**settings, "source": source}


def begin(out, settings):
    """Make the directory and write the settings to it, or compare them with those that are there."""
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, SETTINGS_NAME)
    if os.path.lexists(path):
        _compare(path, settings)
        return
    found = [
        name for name in os.listdir(out) if not name.startswith((f"{UNFINISHED_PREFIX}{SETTINGS_NAME}", LOCK_NAME))
    ]
    if found:
        raise OutputError(
            f"`out` must be a new or empty directory, or one begun earlier. Received: {out} with {found[0]}"
        )
    FORMAT.write(path, settings)


def _compare(path, settings):
    found = FORMAT.read(path, error=OutputError)
    now = json.loads(json.dumps(settings))
    differing = [key for key in {**found, **now} if found.get(key) != now.get(key)]
    if differing:
        sentences = "; ".join(f"{key}: then {found.get(key)!r}, now {now.get(key)!r}" for key in differing)
        raise OutputError(f"`out` was begun with other settings. {sentences[:1000]}")
