"""Exact search of unit vectors by blocks of products; no matrix of all scores exists."""

import numpy as np

from keras_normface.metrics.score_matrix import TopScores

PROBES_AT_ONCE, TEMPLATES_AT_ONCE = 64, 4096


def best_matches(templates, probes, count):
    """(N, dim), (P, dim) float32 → scores and places (P, min(count, N)), falling; of equal ones the lower place."""
    count = min(count, len(templates))
    scores = np.empty((len(probes), count), "float32")
    places = np.empty((len(probes), count), "int64")
    for start in range(0, len(probes), PROBES_AT_ONCE):
        part = slice(start, start + PROBES_AT_ONCE)
        scores[part], places[part] = _best(templates, probes[part], count)
    return scores, places


def _best(templates, probes, count):
    scores = np.full((len(probes), count), -np.inf, "float32")
    places = np.zeros((len(probes), count), "int64")
    for start in range(0, len(templates), TEMPLATES_AT_ONCE):
        block = probes @ templates[start : start + TEMPLATES_AT_ONCE].T
        # Few rows have a better score in a later block.
        for row in np.flatnonzero(block.max(axis=1) > scores[:, -1]):
            found = np.flatnonzero(block[row] > scores[row, -1])
            if len(found) > 4 * count:
                found = _highest(block[row], found, count)
            both = np.concatenate([scores[row], block[row, found]])
            at = np.concatenate([places[row], start + found])
            order = np.argsort(-both, kind="stable")[:count]
            scores[row], places[row] = both[order], at[order]
    return scores, places


def _highest(row, found, count):
    """Places of the `count` highest of `row[found]`, and of those that equal the last of them, rising."""
    values = row[found]
    return found[values >= np.partition(values, len(values) - count)[len(values) - count]]


def highest_impostors(templates, numbers, probes, own, keep):
    """Each probe against all templates but its subject's: → its highest score (P,), `TopScores` of `keep` scores."""
    highest, top = np.empty(len(probes), "float32"), TopScores(keep)
    for start in range(0, len(probes), PROBES_AT_ONCE):
        part = slice(start, start + PROBES_AT_ONCE)
        best = np.full(len(probes[part]), -np.inf, "float32")
        for first in range(0, len(templates), TEMPLATES_AT_ONCE):
            block = probes[part] @ templates[first : first + TEMPLATES_AT_ONCE].T
            other = numbers[first : first + TEMPLATES_AT_ONCE] != own[part, None]
            np.maximum(best, np.where(other, block, -np.inf).max(axis=1), out=best)
            top.add(block[other])
        highest[part] = best
    return highest, top
