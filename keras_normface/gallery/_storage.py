"""Where a gallery is stored, and how it is searched there.

All that `Gallery` asks of a storage: what `Records` and `Database` have, but `numbers`, `names_of` and
`changed_templates`, and `search`, `score_of`, `comparing`, `build_index` and `index_status`.
"""

import contextlib
import re

from keras_normface import _validation
from keras_normface.gallery._database import Database
from keras_normface.gallery._index import INSTALL, TemplateSearch, is_installed
from keras_normface.gallery._search import Templates, scores_of, spread_embeddings

SECONDS_AT_ONCE = 0.5  # others may search in between


def open_storage(path, fingerprint, model, index="auto"):
    """The storage at `path`, made if there is none and `fingerprint` is not `None`; `index` is `None` or "auto"."""
    storage = (_server_storage() if is_url(path) else FileStorage)(path, fingerprint, model, index)
    try:
        storage.claim(fingerprint, model)
    except BaseException:
        storage.close()
        raise
    return storage


def open_for_model(path, fingerprint, model, older, index):
    """The storage at `path`, and whether it is of an `older` model, whose embeddings this one's are comparable with."""
    if index is not None:
        _validation.choice("index", index, ("auto",))
    try:
        return open_storage(path, fingerprint, model, index), False
    except ValueError:
        stored = _stored_fingerprint(path) if older else None
        if stored not in older:
            raise
        return open_storage(path, stored, model, index), True


def _stored_fingerprint(path):
    """The fingerprint of the model whose embeddings are at `path`, or `None` where there is no gallery."""
    try:
        with contextlib.closing(open_storage(path, None, None)) as storage:
            return storage.head()[0]
    except FileNotFoundError:
        return None


def is_url(path):
    """Whether a path is the URL of a server."""
    return isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def _server_storage():
    try:
        from keras_normface.gallery._postgres import PostgresStorage
    except ImportError as error:
        raise ImportError('A gallery in PostgreSQL needs: pip install "keras-normface[postgres]"') from error
    return PostgresStorage


def copy_storage(source, path, progress):
    """Copy a storage to a new one at `path`, or one with nobody in it → numbers of subjects and embeddings."""
    fingerprint, model, *_ = source.head()
    with contextlib.closing(open_storage(path, fingerprint, model)) as storage:
        return storage.fill(source, progress)


class FileStorage(Database):
    """One file; what is searched is an array in memory, read again where it has changed."""

    def __init__(self, path, fingerprint, model, index):
        super().__init__(path, fingerprint, model)
        self._templates = Templates(self)
        self._matches = TemplateSearch(self._templates, automatic=index is not None)

    def search(self, probes, count):
        """(P, dim) unit float32 → for each a list of at most `count` (name, score), in the order of candidates."""
        with self.reading():
            self._templates.refresh()
            scores, places = self._matches.best_matches(probes, count)
            names = [self.names_of(numbers) for numbers in self._templates.numbers[places].tolist()]
        return [list(zip(*row, strict=True)) for row in zip(names, scores.tolist(), strict=True)]

    def score_of(self, number, probe):
        """Number of a subject, (dim,) unit float32 → the score of its template."""
        with self.reading():
            self._templates.refresh()
            (score,) = scores_of(self._templates.of(number), probe)
        return float(score)

    def build_index(self, progress):
        """Make the index complete, and measure it."""
        if not is_installed():
            raise ImportError(INSTALL)
        done = False
        while not done:
            with self.reading():
                self._templates.refresh()
                done = self._matches.build(SECONDS_AT_ONCE)
                status = self._matches.status()
            if progress is not None:
                progress(status.num_subjects if done else status.num_indexed, status.num_subjects)
        return status

    def index_status(self):
        """What the index is worth now."""
        with self.reading():
            self._templates.refresh()
            return self._matches.status()

    @contextlib.contextmanager
    def comparing(self, most):
        """Context that gives what `threshold_at_fpir` compares: at most `most` embeddings with all templates."""
        with self.reading():
            self._templates.refresh()
            own, rows = spread_embeddings(self, most)
            block = self._templates.numbers, self._templates.vectors
        # No transaction is open while they are compared: it would be in the way of `remove`.
        yield len(block[0]), lambda: [block], rows, own
