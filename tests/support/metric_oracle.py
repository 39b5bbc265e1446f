"""The metric losses in float64 NumPy, with plain loops, written apart from the package."""

import numpy as np


def distance_matrix(x, metric="L2"):
    """Distances from the differences themselves, pair by pair."""
    x = np.asarray(x, dtype="float64")
    d = np.zeros((len(x), len(x)))
    for i, a in enumerate(x):
        for j, b in enumerate(x):
            if metric == "angular":
                norms = np.sqrt(a @ a + 1e-12) * np.sqrt(b @ b + 1e-12)
                d[i, j] = max(0.0, 1 - a @ b / norms)
            elif i != j:
                d[i, j] = np.sum((a - b) ** 2)
    return np.sqrt(d) if metric == "L2" else d


def positives_of(ids, a):
    """The other samples of the anchor's class."""
    return [p for p in range(len(ids)) if p != a and ids[p] == ids[a]]


def negatives_of(ids, a):
    """The samples of other classes."""
    return [n for n in range(len(ids)) if ids[n] != ids[a]]


def semi_hard_losses(x, ids, margin=1.0, metric="L2"):
    """FaceNet's semi-hard triplets, one sum an anchor, scaled so that the mean is that over pairs."""
    d = distance_matrix(x, metric)
    count = sum(len(positives_of(ids, a)) for a in range(len(ids)))
    losses = np.zeros(len(ids))
    for a in range(len(ids)):
        to_negatives = [d[a, n] for n in negatives_of(ids, a)]
        for p in positives_of(ids, a):
            farther = [v for v in to_negatives if v > d[a, p]]
            negative = min(farther, default=max(to_negatives, default=min(d[a])))
            losses[a] += max(0.0, margin + d[a, p] - negative)
    return losses * len(ids) / max(count, 1)


def hard_losses(x, ids, margin=1.0, metric="L2", soft=False):
    """Farthest positive against nearest negative."""
    d = distance_matrix(x, metric)
    losses = np.zeros(len(ids))
    for a in range(len(ids)):
        positive = max((d[a, p] for p in positives_of(ids, a)), default=min(d[a]))
        negative = min((d[a, n] for n in negatives_of(ids, a)), default=max(d[a]))
        excess = positive - negative
        losses[a] = np.logaddexp(0.0, excess) if soft else max(0.0, margin + excess)
    return losses


def lifted_losses(x, ids, margin=1.0):
    """Lifted structure, Eq. 4, one half of each pair to each of its ends."""
    d = distance_matrix(x)
    count = sum(len(positives_of(ids, a)) for a in range(len(ids)))
    losses = np.zeros(len(ids))
    for i in range(len(ids)):
        for j in positives_of(ids, i):
            terms = [np.exp(margin - d[i, k]) for k in negatives_of(ids, i)]
            terms += [np.exp(margin - d[j, k]) for k in negatives_of(ids, j)]
            if terms:
                losses[i] += 0.5 * max(0.0, np.log(sum(terms)) + d[i, j]) ** 2
    return losses * len(ids) / max(count, 1)


def matched_losses(similarities, matches):
    """Cross-entropy of the rows with their matches, shared out."""
    losses = []
    for row, match in zip(np.asarray(similarities, dtype="float64"), matches, strict=True):
        log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
        losses.append(-sum(m * lp for m, lp in zip(match, log_p, strict=True)) / max(sum(match), 1))
    return np.array(losses)


def npairs_losses(similarities, ids):
    """N-pairs with one label a sample."""
    return matched_losses(similarities, [[float(a == b) for b in ids] for a in ids])


def npairs_multilabel_losses(similarities, rows):
    """N-pairs with label sets."""
    sets = [{j for j, flag in enumerate(row) if flag} for row in rows]
    return matched_losses(similarities, [[float(len(a & b)) for b in sets] for a in sets])


def contrastive_losses(distances, is_pair, margin=1.0):
    """Hadsell, Chopra, LeCun without the half."""
    return np.array([d**2 if y else max(0.0, margin - d) ** 2 for d, y in zip(distances, is_pair, strict=True)])
