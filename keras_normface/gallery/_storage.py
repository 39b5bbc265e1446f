"""Where a gallery is stored, and how it is searched there.

All that `Gallery` asks of a storage: what `Records` and `Database` have, but `numbers`, `names_of` and
`changed_templates`, and `search`, `score_of` and `comparing`.
"""

import contextlib
import re

from keras_normface.gallery._database import Database
from keras_normface.gallery._search import Templates, best_matches, scores_of, spread_embeddings


def open_storage(path, fingerprint, model):
    """The storage at `path`, made if there is none and `fingerprint` is not `None`."""
    storage = (_server_storage() if is_url(path) else FileStorage)(path, fingerprint, model)
    try:
        storage.claim(fingerprint, model)
    except BaseException:
        storage.close()
        raise
    return storage


def stored_fingerprint(path):
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

    def __init__(self, path, fingerprint, model):
        super().__init__(path, fingerprint, model)
        self._templates = Templates(self)

    def search(self, probes, count):
        """(P, dim) unit float32 → for each a list of at most `count` (name, score), in the order of candidates."""
        with self.reading():
            self._templates.refresh()
            scores, places = best_matches(self._templates.vectors, probes, count)
            names = [self.names_of(numbers) for numbers in self._templates.numbers[places].tolist()]
        return [list(zip(*row, strict=True)) for row in zip(names, scores.tolist(), strict=True)]

    def score_of(self, number, probe):
        """Number of a subject, (dim,) unit float32 → the score of its template."""
        with self.reading():
            self._templates.refresh()
            (score,) = scores_of(self._templates.of(number), probe)
        return float(score)

    @contextlib.contextmanager
    def comparing(self, most):
        """Context that gives what `threshold_at_fpir` compares: at most `most` embeddings with all templates."""
        with self.reading():
            self._templates.refresh()
            own, rows = spread_embeddings(self, most)
            block = self._templates.numbers, self._templates.vectors
        # No transaction is open while they are compared: it would be in the way of `remove`.
        yield len(block[0]), lambda: [block], rows, own
