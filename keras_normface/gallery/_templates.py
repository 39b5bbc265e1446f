"""The array that is searched: the templates of all subjects, kept up with the database."""

import numpy as np


class Templates:
    """`numbers` (N,) int64 of the subjects, rising, and their `vectors` (N, dim) float32, as of `changes`."""

    def __init__(self, database):
        self._database, self._changes = database, -1
        self.numbers, self.vectors = np.empty(0, "int64"), np.empty((0, 0), "float32")

    def refresh(self):
        """Read what has changed since; to be called within a transaction, of which they are valid."""
        _, _, dimension, changes = self._database.head()
        if changes == self._changes:
            return
        numbers, parts = self._database.numbers(), list(self._database.changed_templates(max(self._changes, 0)))
        kept = np.isin(self.numbers, numbers)
        parts.insert(0, (self.numbers[kept], self.vectors[kept]))
        vectors, known = np.empty((len(numbers), dimension or 0), "float32"), np.zeros(len(numbers), bool)
        for those, rows in parts if len(numbers) else ():
            places = np.minimum(np.searchsorted(numbers, those), len(numbers) - 1)
            if not np.array_equal(numbers[places], those):
                raise self._database.corrupt("its tables and indexes differ")
            if len(those):
                vectors[places], known[places] = rows, True
        if not known.all():
            raise self._database.corrupt("its tables and indexes differ")
        self.numbers, self.vectors, self._changes = numbers, vectors, changes

    def place(self, number):
        """Number of a subject → its row."""
        return int(np.searchsorted(self.numbers, number))


def spread_embeddings(database, most):
    """Subjects (P,) and rows (P, dim) of the stored embeddings; of more than `most` so many, evenly spread."""
    total = sum(count for _, count in database.subjects())
    chosen = np.unique(np.linspace(0, max(total - 1, 0), min(total, most)).astype("int64"))
    own, rows, start = [np.empty(0, "int64")], [np.empty((0, database.head()[2] or 0), "float32")], 0
    for numbers, *_, vectors in database.embeddings():
        here = chosen[(chosen >= start) & (chosen < start + len(numbers))] - start
        own.append(np.array(numbers, "int64")[here])
        rows.append(vectors[here])
        start += len(numbers)
    return np.concatenate(own), np.concatenate(rows)
