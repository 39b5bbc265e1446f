"""An approximate index beside exact search: a graph of usearch, in memory, whose recall is measured before it is used.

The graph holds the templates in the order of enrolment, up to the subject `last`. What it proposes is scored exactly;
subjects who changed since they were added, or are not yet added, are searched exactly beside it. Where it proposes too
few, or so many equal ones that it cannot tell which come first, the probe is searched for exactly.
"""

import importlib.util
import time

import numpy as np

from keras_normface.gallery._results import IndexStatus
from keras_normface.gallery._search import ROUNDING, best_matches, scores_of

LEAST_SUBJECTS = 100_000  # below, exact search takes less than a hundredth of a second
TARGET_RECALL = 0.99
MEASURED_SUBJECTS, MEASURED_NEIGHBOURS = 256, 5
WIDTHS = (64, 128, 256, 512, 1024, 2048)
SUBJECTS_PER_WIDTH = 100  # a width that looks at more of them is hardly faster than exact search
LEAST_PROPOSED, PROPOSED_PER_CANDIDATE = 64, 4
CONNECTIVITY, BUILDING_WIDTH = 16, 128
STALE_SHARE, GROWTH = 1 / 16, 1.25
FIRST_ADDED, MOST_ADDED = 64, 1 << 16
INSTALL = 'usearch is not installed: pip install "keras-normface[index]"'


def is_installed():
    """Whether the extra `index` is there."""
    return importlib.util.find_spec("usearch") is not None


class TemplateSearch:
    """Search among `Templates`, exact, or by the graph once it is complete and finds enough."""

    def __init__(self, templates, automatic):
        self._templates, self._automatic, self._wanted = templates, automatic, False
        self._changes, self._rate = None, 0.0
        self._refused_at = 0
        self._start_anew()

    def _start_anew(self):
        self._graph, self._last, self._width, self._measured_at, self._seconds = None, -1, None, 0, 0.0
        self._recall, self._probes = None, 0
        self._added, self._changes = [], None

    def best_matches(self, probes, count):
        """As `best_matches` of the current templates, which were refreshed."""
        start = time.perf_counter()
        self._follow()
        if self._width is None:
            found = best_matches(self._templates.vectors, probes, count)
        else:
            found = self._approximate(probes, count)
        # What was spent on searching is spent once more on building: never more than twice what was needed.
        if self._is_due():
            self._grow(time.perf_counter() - start)
        return found

    def build(self, seconds):
        """Work on the graph for about so long; whether that was the last of it."""
        self._wanted, self._refused_at = True, 0
        self._follow()
        return not self._is_due() or self._grow(seconds)

    def status(self):
        """`IndexStatus` for the current templates, which were refreshed."""
        self._follow()
        subjects, indexed = len(self._templates.numbers), int(np.sum(~self._is_stale))
        if self._width is not None:
            why = ""
        elif self._recall is not None:
            why = "it finds too few"
        elif not (self._automatic or self._wanted):
            why = "no index is wanted"
        elif not is_installed():
            why = INSTALL
        elif not self._wanted and subjects < LEAST_SUBJECTS:
            why = f"an index is for at least {LEAST_SUBJECTS:,} subjects"
        else:
            why = "the index is built while others search, or by build_index()"
        measured = self._recall, TARGET_RECALL, self._probes, self._width
        return IndexStatus(subjects, indexed, *measured, self._seconds, why, self._width is not None)

    def _is_due(self):
        """Whether there is something to build."""
        numbers = self._templates.numbers
        wanted = self._wanted or (self._automatic and len(numbers) >= LEAST_SUBJECTS and is_installed())
        is_refused = len(numbers) < GROWTH * self._refused_at
        return wanted and not is_refused and len(numbers) > 0 and (self._width is None or self._start < len(numbers))

    def _follow(self):
        """Find out what differs between the graph and the templates."""
        if self._changes == self._templates.changes:
            return
        numbers, versions = self._templates.numbers, self._templates.versions
        keys, were = (np.concatenate([part[place] for part in self._added] or [[]]).astype("int64") for place in (0, 1))
        self._added = [(keys, were)]
        places, known = places_of(keys, numbers)
        current = known.copy()
        current[known] = were[places[known]] == versions[known]
        if len(keys) - current.sum() > STALE_SHARE * len(keys):
            self._start_anew()
            current[:] = False
        self._start = int(np.searchsorted(numbers, self._last, side="right"))
        self._is_stale = ~current
        self._beside = np.flatnonzero(~current[: self._start])
        self._beside_rows = self._templates.vectors[self._beside]
        self._changes = self._templates.changes

    def _grow(self, seconds):
        """Add as many templates as take about so long; `True` if the graph is complete, and then measured."""
        templates = self._templates
        if self._graph is None:
            from usearch.index import Index

            self._graph = Index(
                ndim=templates.vectors.shape[1],
                metric="ip",
                dtype="i8",
                connectivity=CONNECTIVITY,
                expansion_add=BUILDING_WIDTH,
            )
        start = time.perf_counter()
        count = int(np.clip(self._rate * seconds, 1, MOST_ADDED)) if self._rate else FIRST_ADDED
        part = slice(self._start, self._start + count)
        keys = templates.numbers[part]
        if len(keys):
            self._graph.add(keys.astype("uint64"), templates.vectors[part])
            self._added.append((keys, templates.versions[part]))
            self._last, self._start = int(keys[-1]), self._start + len(keys)
            self._is_stale[part] = False
            spent = time.perf_counter() - start
            self._seconds, self._rate = self._seconds + spent, len(keys) / max(spent, 1e-6)
        if self._start < len(templates.numbers):
            return False
        if self._width is None or len(self._graph) >= GROWTH * self._measured_at:
            self._measure()
        return True

    def _measure(self):
        """Choose the least width that finds enough of the nearest others of some; free the graph if none does."""
        vectors, start = self._templates.vectors, time.perf_counter()
        own = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), MEASURED_SUBJECTS)).astype("int64"))
        probes, wanted = vectors[own], MEASURED_NEIGHBOURS + 1
        true = _others(*best_matches(vectors, probes, wanted), own)
        for self._width in (w for w in WIDTHS if w <= max(WIDTHS[0], len(vectors) // SUBJECTS_PER_WIDTH)):
            found = _others(*self._approximate(probes, wanted), own)
            # Scores are exact, so that any other subject that is as near counts as found.
            hits = [np.sum(ours >= theirs.min()) for ours, theirs in zip(found, true, strict=True) if len(theirs)]
            self._recall = float(np.sum(hits) / max(sum(map(len, true)), 1)) if hits else 1.0
            if self._recall >= TARGET_RECALL:
                break
        self._probes, self._measured_at = len(own), len(self._graph)
        seconds = self._seconds + time.perf_counter() - start
        if self._recall < TARGET_RECALL:
            recall, probes = self._recall, self._probes
            self._start_anew()
            self._recall, self._probes, self._refused_at = recall, probes, len(vectors)
            self._follow()
        self._seconds = seconds

    def _approximate(self, probes, count):
        """As `best_matches`, by what the graph proposes and, exactly, what is not in it as it is now."""
        vectors, numbers = self._templates.vectors, self._templates.numbers
        proposed, count = max(LEAST_PROPOSED, PROPOSED_PER_CANDIDATE * count), min(count, len(vectors))
        if proposed >= len(self._graph) or not len(probes):
            return best_matches(vectors, probes, count)
        self._graph.expansion_search = max(self._width, proposed)
        matches = self._graph.search(probes, proposed)
        keys = matches.keys.reshape(len(probes), -1).astype("int64")
        counts = np.reshape(getattr(matches, "counts", keys.shape[1]), -1)
        scores, places = np.empty((len(probes), count)), np.empty((len(probes), count), "int64")
        beside = [
            best_matches(self._beside_rows, probes, count)[1],
            best_matches(vectors[self._start :], probes, count)[1] + self._start,
        ]
        beside[0] = self._beside[beside[0]]
        doubtful = []
        for row, probe in enumerate(probes):
            those, known = places_of(numbers, keys[row, : counts[row]])
            those = those[known]
            those = those[~self._is_stale[those]]
            both = np.concatenate([those, beside[0][row], beside[1][row]])
            exact = scores_of(vectors[both], probe)
            order = np.lexsort((both, -exact))[:count]
            if len(those) < count or exact[: len(those)].min() >= exact[order[-1]] - ROUNDING:
                doubtful.append(row)
            else:
                scores[row], places[row] = exact[order], both[order]
        if doubtful:
            scores[doubtful], places[doubtful] = best_matches(vectors, probes[doubtful], count)
        return scores, places


def places_of(rising, values):
    """(N,) rising, (n,) → (n,) places of the values in it, and whether they are there."""
    places = np.minimum(np.searchsorted(rising, values), max(len(rising) - 1, 0))
    known = rising[places] == values if len(rising) else np.zeros(len(values), bool)
    return places, known


def _others(scores, places, own):
    """Scores and places (P, k) of which one may be `own` (P,) → for each the k - 1 best scores of others."""
    k = scores.shape[1] - 1
    return [row[those != self][:k] for row, those, self in zip(scores, places, own, strict=True)]
