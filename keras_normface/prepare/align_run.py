"""One run of an alignment: photos decoded ahead, faces found, images written, records logged."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

from keras_normface.data import ImageList
from keras_normface.data.contained import ContainedFiles
from keras_normface.prepare.align_log import remove_unfinished
from keras_normface.prepare.align_report import NO_FACE, NOT_AN_IMAGE
from keras_normface.prepare.face_detection import Mtcnn, chosen_face
from keras_normface.prepare.pictures import NotAnImageError, decoded, encoded, warped
from keras_normface.prepare.templates import centred, similarity, template_points, template_size
from keras_normface.written_beside import written_beside

LIST_NAME = "aligned.txt"


class AlignRun:
    """The images that are left to do; the arguments are those of `align_images`, checked.

    Args:
        reader: A `Reader`.
        names: An `AlignedNames`.
        out: Directory, which exists.
        settings: Dictionary with `template`, `no_face`, `encoding`, `quality`.
        detect: See `align_images`.
        batch: See `align_images`.
        jobs: See `align_images`.
        progress: See `align_images`; no `None`.
    """

    def __init__(self, reader, names, out, settings, detect, batch, jobs, progress):
        self.reader, self.names, self.settings = reader, names, settings
        self.detect, self.batch, self.jobs, self.progress = detect, batch, jobs, progress
        self.tree = ImageTree(out)

    def finish(self, log):
        """Do them, and give the log its final name.

        Args:
            log: A `PartLog`.
        """
        total = len(self.reader)
        self.progress(log.done, total)
        remove_unfinished(self.tree.root)
        chunks = [range(start, min(start + self.batch, total)) for start in range(log.done, total, self.batch)]
        if chunks and self.detect is None:
            self.detect = Mtcnn()
        with ThreadPoolExecutor(self.jobs) as pool:
            ahead = [pool.submit(self._decoded, number) for number in chunks[0]] if chunks else []
            for place, chunk in enumerate(chunks):
                photos = [future.result() for future in ahead]
                following = chunks[place + 1] if place + 1 < len(chunks) else ()
                ahead = [pool.submit(self._decoded, number) for number in following]
                log.append(self._done(pool, chunk, photos))
                self.progress(log.done, total)
        if isinstance(self.reader, ImageList):
            self._write_list(log.path)
        log.finish()

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
        """Return the list of faces of each photo; photos of one size are looked at together."""
        by_size, faces = {}, [[] for _ in photos]
        for place, photo in enumerate(photos):
            if not isinstance(photo, str):
                by_size.setdefault(photo.shape, []).append(place)
        for places in by_size.values():
            found = self.detect([photos[place] for place in places])
            if len(found) != len(places):
                raise ValueError(f"`detect` must return {len(places)} lists for as many images. Received: {len(found)}")
            for place, some in zip(places, found, strict=True):
                faces[place] = [face.rounded() for face in some if face.is_finite]
        return faces

    def _drawn(self, photo, faces):
        """Return the face chosen, the reason why there is none, and the encoded image."""
        if isinstance(photo, str):
            return None, f"{NOT_AN_IMAGE}: {photo}", None
        template, face, reason, matrix = self.settings["template"], None, NO_FACE, None
        if faces:
            face = chosen_face(faces, photo.shape[:2])
            try:
                matrix, reason = similarity(face.points, template_points(template)), None
            except ValueError:  # the five points lie at one place: this is no face
                face = None
        if face is None:
            if self.settings["no_face"] == "skip":
                return None, reason, None
            matrix = centred(photo.shape[:2], template)
        pixels = warped(photo, matrix, template_size(template))
        return face, reason, encoded(pixels, self.settings["encoding"], self.settings["quality"])

    def _write_list(self, log_path):
        with (
            written_beside(os.path.join(self.tree.root, LIST_NAME)) as beside,
            open(beside, "wb") as file,
            open(log_path, "rb") as lines,
        ):
            for record in map(json.loads, lines):
                if record["output"] is not None:
                    # A line that began with # would be a comment.
                    start = "./" if record["output"][0] in "# \t" else ""
                    file.write(os.fsencode(f"{start}{record['output']} {record['identity']}\n"))


class ImageTree:
    """A directory in which images are written, and none outside of it.

    Args:
        root: The directory, which exists.

    Example:
    >>> import os, tempfile
    >>> root = tempfile.mkdtemp()
    >>> ImageTree(root).write("Ada/1.jpg", b"content")
    >>> os.listdir(os.path.join(root, "Ada"))
    ['1.jpg']
    """

    def __init__(self, root):
        self.root, self._files, self._known = os.fspath(root), ContainedFiles(root), set()

    def write(self, relative, content):
        """Write a file, so that it is either complete or not there.

        Args:
            relative: Its path below the directory.
            content: Bytes.

        Raises:
            ValueError: If it would lie outside of the directory.
            OSError: If it cannot be written.
        """
        directory = os.path.dirname(relative)
        if directory not in self._known:
            self._files.check(directory)
            path = os.path.join(self.root, directory)
            os.makedirs(path, exist_ok=True)
            remove_unfinished(path)
            self._known.add(directory)
        with written_beside(os.path.join(self.root, relative)) as beside, open(beside, "xb") as file:
            file.write(content)
