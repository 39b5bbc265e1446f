"""The log of an alignment, by which a run that was killed goes on."""

import contextlib
import json
import os

from keras_normface.written_beside import UNFINISHED_PREFIX

LOG_NAME = "align.jsonl"
PART_NAME = f"{LOG_NAME}.part"


class PartLog:
    """The log while it grows: one line of JSON for each image, in the order of the reader.

    What a killed run left is kept as far as it is whole and its images are there.

    Args:
        out: The directory.
        chunk: The number of lines that are kept is a multiple of this, or that of all images.
        names: Names of the images, a sequence.

    Example:
    >>> import tempfile
    >>> with PartLog(tempfile.mkdtemp(), chunk=1, names=["a.jpg"]) as log:
    ...     log.append([{"name": "a.jpg", "output": None}])
    ...     log.done
    1
    """

    def __init__(self, out, chunk, names):
        self.out, self.path, self.done = out, os.path.join(out, PART_NAME), 0
        self._file = open(self.path, "a+b")  # noqa: SIM115  closed by __exit__
        try:
            self._keep_whole_lines(chunk, names)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def append(self, records):
        """Write records of images that are done.

        Args:
            records: List of dictionaries.
        """
        self._file.write(b"".join(line_of(record) for record in records))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done += len(records)

    def finish(self):
        """Give the log its final name."""
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
    r"""Return a record as a line of the log, bytes.

    Args:
        record: A dictionary.

    Example:
    >>> line_of({"name": "a.jpg"})
    b'{"name": "a.jpg"}\n'
    """
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def parsed_line(line):
    r"""Return the dictionary in a line of the log, or `None` if it is torn or damaged.

    Args:
        line: Bytes.

    Example:
    >>> parsed_line(b'{"name": "a.jpg"}\n'), parsed_line(b'{"na')
    ({'name': 'a.jpg'}, None)
    """
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def remove_unfinished(directory):
    """Remove the files that a killed run was writing in a directory.

    Args:
        directory: Path of the directory.

    Example:
    >>> import tempfile
    >>> remove_unfinished(tempfile.mkdtemp())
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(UNFINISHED_PREFIX):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(entry.path)
