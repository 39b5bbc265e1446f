"""A gallery: enrol people by their photos, and say whose face another photo shows."""

import os
from collections.abc import Mapping

import numpy as np

from keras_normface import _validation
from keras_normface._io import printable
from keras_normface.gallery._enrol import alone, checked_images, checked_text, enrol_part, entries_of, parts, unit_where
from keras_normface.gallery._export import export
from keras_normface.gallery._results import Candidate, Enrolment, Identification
from keras_normface.gallery._storage import copy_storage, open_for_model
from keras_normface.gallery._thresholds import METHODS, MOST_PROBES, threshold_at_fpir

LARGEST_SIZE = 10**12


class Gallery:
    """People by their embeddings, in one file or in a PostgreSQL server.

    Args:
        path: The file, an SQLite database, which is made if there is none and an embedder or a fingerprint is given.
            While it is open there are two more files beside it, with `-wal` and `-shm` after its name: copy a gallery
            by `copy`, or when nobody has it open. It must be on a local disk. Or a URL for SQLAlchemy,
            `"postgresql://user@host/database"`, of a server with pgvector, which then holds the same and searches it.
            The gallery is in the schema `keras_normface`, or that of `?schema=`. It needs the extra `postgres`.
        embedder: An `inference.Embedder`, which turns images into embeddings. `None`: embeddings are given as numbers.
            One whose card says that it is compatible with the older model of this gallery searches it, and enrols
            nobody; `identify` then needs a threshold, since neither model's own holds between the two.
        fingerprint: Instead of an embedder: a text that names the model that makes the embeddings. Embeddings of
            different models must not be compared, so a gallery takes those of one only.
        index: "auto": from 100 000 subjects on, if the extra `index` is installed, searches go by an approximate index,
            which is built in memory meanwhile, see `build_index`; a server uses its own. `None`: they are exact.

    Attributes:
        path: The absolute path of the file, or the URL without its password.
        embedder: As given.

    Raises:
        FileNotFoundError: If there is no such file, or no such directory, or no gallery in a server, and it cannot be
            made.
        ValueError: If the file is not a gallery, is corrupt, or is that of another model; likewise of a schema.
        OSError: If it cannot be read. As `ConnectionError`: if a server cannot be reached, or no longer.
        ImportError: If what a server needs is not installed.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "people.gallery")
    >>> with Gallery(path, fingerprint="toy model") as gallery:
    ...     _ = gallery.enrol_embeddings(["Ada", "Ada", "Bob"], [[1, 0.1], [1, -0.1], [0, 1]])
    ...     print(gallery.identify([0.9, 0.1], threshold=0.5))
    ...     print(gallery.identify([-1.0, 0.1], threshold=0.5))
    Ada (cosine 0.9939, threshold 0.5000)
    unknown (best: Bob, cosine 0.0995 below 0.5000)
    """

    def __init__(self, path, embedder=None, *, fingerprint=None, index="auto"):
        if embedder is not None and fingerprint is not None:
            raise ValueError("`fingerprint` must be None where there is an `embedder`. Received: both")
        if fingerprint is not None:
            checked_text("fingerprint", fingerprint, least=1)
        if embedder is not None and not isinstance(getattr(embedder, "fingerprint", None), str):
            raise ValueError(f"`embedder` must be an Embedder. {_validation.received('embedder', embedder)}")
        self.embedder = embedder
        expected = fingerprint if embedder is None else embedder.fingerprint
        model = fingerprint if embedder is None else printable(embedder.name)
        older = getattr(embedder, "compatible_with", ())
        self._database, self._is_older = open_for_model(path, expected, model, older, index)
        self.path = self._database.path

    def close(self):
        """Close the file."""
        self._database.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def fingerprint(self):
        """The fingerprint of the model whose embeddings are stored, a text."""
        return self._database.head()[0]

    @property
    def model(self):
        """The name of that model, for people."""
        return self._database.head()[1]

    @property
    def dimension(self):
        """The dimension of the embeddings; `None` before the first."""
        return self._database.head()[2]

    def __len__(self):
        return self._database.count()

    def __contains__(self, name):
        return isinstance(name, str) and self._database.number_of(name) is not None

    def subjects(self):
        """List those who are enrolled.

        Returns:
            List of pairs (name, number of embeddings), by name.

        Raises:
            ValueError: If the file is corrupt.
            OSError: If it cannot be read.
        """
        return self._database.subjects()

    def enrol(self, name, images):
        """Add images of one subject, who may be enrolled already.

        Args:
            name: Of the subject, a text that is not empty; names are compared letter by letter.
            images: One image or a list of them: the bytes, or the path of a file, of a photo or an aligned face, as
                the embedder takes them. One that is enrolled for this subject already, by its content, is not embedded
                again.

        Returns:
            An `Enrolment`. When it is returned, what is new is on the disk.

        Raises:
            ValueError: If there is no embedder, no image, an image cannot be used (it is named) or its embeddings
                cancel the others, or the name is empty. Nothing is stored then.
            OSError: If a file cannot be read, or the gallery not be written.
        """
        return self.enrol_many({checked_text("name", name, least=1): checked_images(name, images)})

    def enrol_many(self, subjects, *, progress=None):
        """Add images of many subjects, in parts of at most 256 images, each of which is a transaction.

        Args:
            subjects: Dictionary from names to lists of images, see `enrol`.
            progress: `None`, or a function that is called with the number of images done and that of all.

        Returns:
            An `Enrolment`. A call that fails or is killed has enrolled the parts before; the same call again adds the
            rest.

        Raises:
            ValueError: See `enrol`; what was stored before stays.
            OSError: See `enrol`.
        """
        self._check_embedder()
        if self._is_older:
            raise ValueError(
                "`embedder` must be the model of this gallery to enrol images: that of a newer one, which may be "
                "compared with it, only searches"
            )
        if not isinstance(subjects, Mapping) or not subjects:
            raise ValueError(
                f"`subjects` must be a dictionary from names to images. {_validation.received('subjects', subjects)}"
            )
        subjects = {
            checked_text("name", name, least=1): checked_images(name, those) for name, those in subjects.items()
        }
        total, done = sum(map(len, subjects.values())), 0
        new, known, without = 0, 0, []
        for part in parts(subjects):
            found = enrol_part(self._database, self.embedder, part)
            new, known, without = new + found.new, known + found.known, without + list(found.without_face)
            done += sum(map(len, part.values()))
            if progress is not None:
                progress(done, total)
        return Enrolment(new, known, tuple(without))

    def enrol_embeddings(self, names, embeddings, images=None):
        """Add embeddings that were made elsewhere, by the model of this gallery, in one transaction.

        Args:
            names: List of N names of subjects, each as often as it has embeddings.
            embeddings: Numbers `(N, dim)`; they are stored as float32, at unit length.
            images: List of N names of images, or `None`.

        Returns:
            How many were new: the same numbers for the same subject are kept once.

        Raises:
            ValueError: If a name is empty, the numbers of names and rows differ, a row is zero or not finite, the
                dimension is another, or the embeddings of a subject cancel each other. Nothing is stored then.
            OSError: If the gallery cannot be written.
        """
        return self._database.add(entries_of(names, embeddings, images))

    def identify(self, probe, *, threshold=None, count=5):
        """Say who is shown.

        Args:
            probe: One image, as for `enrol`, or an embedding, numbers `(dim,)`.
            threshold: The cosine from which on a probe is taken for a subject, a number or an
                `IdentificationThreshold`. `None`: that of the embedder's model, which was calibrated for pairs: its
                false accept rate is that of one comparison, and grows with the number of subjects. See
                `threshold_at_fpir`.
            count: How many candidates are wanted at most.

        Returns:
            An `Identification`.

        Raises:
            ValueError: If the image cannot be used, or holds no face; if there is no threshold, or it is not in
                [-1, 1]; or the embedding is not one of `dim` finite numbers, not all zero.
            OSError: If a file cannot be read.
        """
        (found,) = self.identify_many(alone(probe), threshold=threshold, count=count)
        if found is None:
            raise ValueError("`probe` holds no face that is found")
        return found

    def identify_many(self, probes, *, threshold=None, count=5):
        """Say who is shown on many images; see `identify`.

        Args:
            probes: List of images, or embeddings `(P, dim)`, of which rows of NaN stand for photos without a face.
            threshold: See `identify`.
            count: See `identify`.

        Returns:
            List of `Identification`; `None` for a row of NaN, or a photo without a face if the embedder has
            `no_face="nan"`.

        Raises:
            ValueError: See `identify`.
            OSError: See `identify`.
        """
        count, threshold = _validation.integer("count", count, 1), self._threshold(threshold)
        rows = self._rows(probes)
        there = ~np.isnan(rows).all(axis=1)
        unit = unit_where(rows, there)[there]
        with self._database.reading():
            self._check_dimension(rows)
            found = iter(self._database.search(unit, count))
        return [
            Identification(tuple(Candidate(*pair) for pair in next(found)), threshold) if known else None
            for known in there
        ]

    def verify(self, name, probe, *, threshold=None):
        """Compare an image with one subject.

        Args:
            name: Of the subject.
            probe: See `identify`.
            threshold: See `identify`.

        Returns:
            An `Identification` with this subject as its only candidate: its `name` is that of the subject, or `None`.

        Raises:
            ValueError: If nobody of that name is enrolled; see `identify`.
            OSError: See `identify`.
        """
        self._number("name", name)
        threshold, rows = self._threshold(threshold), self._rows(alone(probe))
        if np.isnan(rows).all():
            raise ValueError("`probe` holds no face that is found")
        (unit,) = unit_where(rows, np.array([True]))
        with self._database.reading():
            number = self._number("name", name)  # who may have been removed meanwhile
            self._check_dimension(rows)
            score = self._database.score_of(number, unit)
        return Identification((Candidate(name, score),), threshold)

    def threshold_at_fpir(self, fpir, *, method="measured", size=None):
        """Find the threshold that rejects who is not enrolled, but for a wanted share, from those who are.

        Each stored embedding, or 10 000 of them at equal distances, is searched for among the templates of the OTHER
        subjects, where it must not be found.

        Args:
            fpir: The wanted false positive identification rate, in (0, 1]: the share of searches by people who are not
                enrolled that return somebody.
            method: "measured": the highest score of each search decides, so nothing is assumed but that others are like
                those who are enrolled. "independent": all scores together decide, for a rate of
                1 - (1 - fpir)^(1 / size) a comparison, which holds if the comparisons of one search are independent:
                they are not quite, but so a rate can be had for a larger gallery than this one.
            size: For "independent": the number of subjects that the rate is to hold for. `None`: of this gallery.

        Returns:
            An `IdentificationThreshold`, which `identify` takes.

        Raises:
            ValueError: If `fpir` is not in (0, 1], or there are too few embeddings to resolve it; if there are fewer
                than two subjects, or another argument is not what it must be.
        """
        _validation.choice("method", method, METHODS)
        fpir = _validation.number("fpir", fpir, above=0, at_most=1)
        size = None if size is None else _validation.integer("size", size, 1, LARGEST_SIZE)
        with self._database.comparing(MOST_PROBES) as compared:
            return threshold_at_fpir(*compared, fpir, method, size)

    def build_index(self, *, progress=None):
        """Build the index in memory now, and measure it, however many subjects there are.

        Without this call, a gallery with `index="auto"` and enough subjects builds it bit by bit: each exact search is
        followed by as much time of building. Each process builds its own.

        What the index proposes is scored exactly, and who was added or changed since is searched exactly beside it:
        scores are right and nobody who was removed is found, but a candidate may be missed. How many are found is
        measured, at rising widths of the search; if none finds enough, searches stay exact. It is built anew when a
        sixteenth of it has changed.

        Args:
            progress: `None`, or a function that is called with the number of subjects done and that of all.

        Returns:
            The `IndexStatus` afterwards.

        Raises:
            ImportError: If the extra `index` is not installed.
            ValueError: If a server searches, or the file is corrupt.
            OSError: If it cannot be read.
        """
        return self._database.build_index(progress)

    def index_status(self):
        """Say whether searches go by an index now, and what that is worth.

        Returns:
            An `IndexStatus`.
        """
        return self._database.index_status()

    def remove(self, names):
        """Delete subjects with all their embeddings, and overwrite what is deleted in the file, which is written anew.

        Args:
            names: Of one subject, or a list of several: all are deleted, or none.

        Returns:
            Whether they are overwritten. `False`: they are deleted, but another process that reads, or writes, or a
            full disk keeps the file from being cleaned; it is at the next change that nothing hinders. PostgreSQL does
            not overwrite what is deleted: always `False`.

        Raises:
            ValueError: If nobody of one of the names is enrolled.
            OSError: If the gallery cannot be written.
        """
        names = [names] if isinstance(names, str) else list(names)
        return self._database.remove(lambda: [self._number("names", name) for name in names])

    def merge(self, name, into):
        """Make two subjects one.

        Args:
            name: Of the subject who is no more afterwards.
            into: Of the subject who gets the embeddings; an image that both have is kept once.

        Raises:
            ValueError: If one of the two is not enrolled, both are the same, or their embeddings cancel each other.
            OSError: If the gallery cannot be written.
        """
        if name == into:
            raise ValueError(f"`into` must be another subject than `name`. {_validation.received('into', into)}")
        self._database.merge(lambda: (self._number("name", name), self._number("into", into)), into)

    def export(self, path):
        """Write what is enrolled into a file that others read.

        Args:
            path: Ending in `.npz`: arrays `names`, of the subjects, `images`, and `embeddings`, float32 `(N, dim)`, a
                row for each embedding. Ending in `.csv`: columns name, image, sha256 of the image, in UTF-8.

        Raises:
            ValueError: If it ends otherwise, is the gallery itself, or the names are so long that an array of them,
                in which each has the room of the longest, takes more than a gigabyte.
            OSError: If it cannot be written; what was there before stays then.
        """
        export(self._database, path)

    def copy(self, path, *, progress=None):
        """Copy all that is enrolled into another gallery, all at once: it is there as a whole, or not at all.

        Args:
            path: Of a gallery with nobody in it, which is made if there is none; see `Gallery`. It belongs to the same
                model then, and finds the same subjects with the same scores.
            progress: `None`, or a function that is called with the number of embeddings done and that of all.

        Returns:
            Numbers of subjects and of embeddings, which were counted in the copy, subject by subject, too.

        Raises:
            ValueError: If somebody is enrolled there, it is the gallery of another model, or one of the two is corrupt.
            OSError: If it cannot be written.
        """
        return copy_storage(self._database, path, progress)

    def check(self):
        """Look through the whole file for damage.

        Returns:
            List of what is wrong, in words; empty if nothing is.

        Raises:
            ValueError: If the file cannot be read as a database any more.
            OSError: If it cannot be read.
        """
        return self._database.faults()

    def _rows(self, probes):
        """Images or numbers (P, dim) → (P, dim), in which a row without a face is NaN."""
        images = isinstance(probes, (list, tuple)) and all(isinstance(one, (bytes, str, os.PathLike)) for one in probes)
        if images and probes:
            self._check_embedder()
            return self.embedder.embed(list(probes))
        try:
            rows = np.asarray(probes)
        except ValueError as error:  # rows of several lengths
            raise ValueError(f"`probes` must be images, or embeddings (P, dim): {error}") from error
        if rows.ndim != 2 or rows.dtype.kind not in "biuf" or 0 in rows.shape:
            shape = f"{rows.dtype} of shape {rows.shape}"
            raise ValueError(f"`probes` must be images, or embeddings (P, dim). Received: {shape}")
        return rows

    def _check_dimension(self, rows):
        if self.dimension not in (None, rows.shape[1]):
            raise ValueError(
                f"`probes` must have {self.dimension} columns, as the gallery has. Received: shape {rows.shape}"
            )

    def _check_embedder(self):
        if self.embedder is None:
            raise ValueError(
                "Images need an embedder: open the gallery with one, Gallery(path, embedder), or give embeddings"
            )

    def _threshold(self, given):
        if given is None:
            stored = None if self._is_older else getattr(self.embedder, "threshold", None)
            if stored is None:
                raise ValueError(
                    "`threshold` must be given where no model with a calibrated threshold is: a cosine, or what "
                    "`threshold_at_fpir` returns. Received: threshold=None"
                )
            return stored.cosine
        # The next float above 1, at which everybody is rejected, is what a rate may come to.
        return _validation.number("threshold", getattr(given, "cosine", given), at_least=-1, at_most=1 + 1e-6)

    def _number(self, argument, name):
        number = self._database.number_of(name) if isinstance(name, str) else None
        if number is None:
            raise ValueError(
                f"`{argument}` must be a subject of {printable(self.path)}. {_validation.received(argument, name)}"
            )
        return number
