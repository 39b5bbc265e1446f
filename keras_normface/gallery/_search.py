"""The array that is searched, kept up with the database, and exact search in it by blocks of products."""

import numpy as np

from keras_normface.metrics.score_matrix import TopScores

PROBES_AT_ONCE, TEMPLATES_AT_ONCE = 64, 4096
# Products of blocks differ by so much from the sums that decide; the order of a float32 sum depends on the block.
ROUNDING = np.float32(2e-5)


class Templates:
    """`numbers` (N,) of the subjects, rising, their `vectors` (N, dim), and the `versions` (N,) of these, a counter."""

    def __init__(self, database):
        self._database, self.changes = database, -1
        self.numbers, self.vectors = np.empty(0, "int64"), np.empty((0, 0), "float32")
        self.versions = np.empty(0, "int64")

    def refresh(self):
        """Read what has changed since; to be called within a transaction, of which they are valid."""
        _, _, dimension, changes = self._database.head()
        if changes == self.changes:
            return
        numbers, parts = self._database.numbers(), list(self._database.changed_templates(max(self.changes, 0)))
        kept = np.isin(self.numbers, numbers)
        parts = [(self.numbers[kept], self.vectors[kept], self.versions[kept]), *((*part, changes) for part in parts)]
        vectors, known = np.empty((len(numbers), dimension or 0), "float32"), np.zeros(len(numbers), bool)
        versions = np.empty(len(numbers), "int64")
        for those, rows, version in parts if len(numbers) else ():
            places = np.minimum(np.searchsorted(numbers, those), len(numbers) - 1)
            if not np.array_equal(numbers[places], those):
                raise self._database.corrupt("its tables and indexes differ")
            if len(those):
                vectors[places], versions[places], known[places] = rows, version, True
        if not known.all():
            raise self._database.corrupt("its tables and indexes differ")
        self.numbers, self.vectors, self.versions, self.changes = numbers, vectors, versions, changes

    def of(self, number):
        """Number of a subject → (1, dim) its template."""
        place = np.flatnonzero(self.numbers == number)
        if len(place) != 1:
            raise self._database.corrupt("a subject has no template")
        return self.vectors[place]


def evenly_spread(total, most):
    """Places, rising, of at most `most` of `total`."""
    return np.unique(np.linspace(0, max(total - 1, 0), min(total, most)).astype("int64"))


def spread_embeddings(database, most):
    """Subjects (P,) and rows (P, dim) of the stored embeddings; of more than `most` so many, evenly spread."""
    total = sum(count for _, count in database.subjects())
    chosen = evenly_spread(total, most)
    own, rows, start = [np.empty(0, "int64")], [np.empty((0, database.head()[2] or 0), "float32")], 0
    for numbers, *_, vectors in database.embeddings():
        here = chosen[(chosen >= start) & (chosen < start + len(numbers))] - start
        own.append(np.array(numbers, "int64")[here])
        rows.append(vectors[here])
        start += len(numbers)
    return np.concatenate(own), np.concatenate(rows)


def scores_of(rows, probe):
    """(n, dim) and (dim,) float32 → (n,) float64 cosines in [-1, 1], which do not depend on a row's neighbours."""
    return np.clip((rows.astype("float64") * probe.astype("float64")).sum(axis=1), -1, 1)


def best_matches(templates, probes, count):
    """(N, dim), (P, dim) float32 → scores and places (P, min(count, N)), falling; of equal ones the lower place."""
    count = min(count, len(templates))
    scores, places = np.empty((len(probes), count)), np.empty((len(probes), count), "int64")
    for start in range(0, len(probes), PROBES_AT_ONCE) if count else ():
        part = probes[start : start + PROBES_AT_ONCE]
        for row, candidates in enumerate(_candidates(templates, part, count)):
            exact = scores_of(templates[candidates], part[row])
            order = np.argsort(-exact, kind="stable")[:count]
            scores[start + row], places[start + row] = exact[order], candidates[order]
    return scores, places


def _candidates(templates, probes, count):
    """For each probe the places, rising, of all templates that may be among its `count` best."""
    best = np.full((len(probes), count), -np.inf, "float32")
    found = [[] for _ in probes]
    for start in range(0, len(templates), TEMPLATES_AT_ONCE):
        block = probes @ templates[start : start + TEMPLATES_AT_ONCE].T
        # Few rows have one as good in a later block.
        for row in np.flatnonzero(block.max(axis=1) >= best[:, 0] - ROUNDING):
            here = np.flatnonzero(block[row] >= best[row, 0] - ROUNDING)
            values = block[row, here]
            both = np.concatenate([best[row], values])
            best[row] = np.partition(both, len(values))[len(values) :]
            best[row] = np.sort(best[row])
            near = values >= best[row, 0] - ROUNDING
            found[row].append((start + here[near], values[near]))
    for row, parts in enumerate(found):
        places, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        yield places[values >= best[row, 0] - ROUNDING]


def highest_impostors(blocks, probes, own):
    """(P,) float64: of each probe its highest score with the templates of subjects other than `own`."""
    highest = np.full(len(probes), -np.inf)
    for numbers, templates in blocks:
        scores, places = best_matches(templates, probes, 2)
        others = np.where(numbers[places] == own[:, None], -np.inf, scores)
        highest = np.maximum(highest, others.max(axis=1))
    return highest


def top_impostors(blocks, probes, own, keep):
    """`TopScores` of the `keep` highest scores of probes with templates of others, to the rounding of float32."""
    top = TopScores(keep)
    for numbers, templates in blocks:
        for start in range(0, len(probes), PROBES_AT_ONCE):
            part = slice(start, start + PROBES_AT_ONCE)
            for first in range(0, len(templates), TEMPLATES_AT_ONCE):
                block = probes[part] @ templates[first : first + TEMPLATES_AT_ONCE].T
                top.add(block[numbers[first : first + TEMPLATES_AT_ONCE] != own[part, None]])
    return top
