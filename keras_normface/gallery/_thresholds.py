"""The cosine at which others are rejected, from the scores of a gallery's own subjects against each other."""

import dataclasses

import numpy as np

from keras_normface import _validation
from keras_normface.gallery._search import highest_impostors, top_impostors
from keras_normface.metrics.verification import accepted, checked_rate, threshold_at_rate

METHODS = ("measured", "independent")
MOST_PROBES = 10_000
MOST_KEPT = 20_000_000  # scores in memory at once


@dataclasses.dataclass(frozen=True)
class IdentificationThreshold:
    """The cosine from which on a probe is called by the name of a subject, for a wanted rate of false ones.

    Attributes:
        fpir: The wanted false positive identification rate: the share of searches by people who are not enrolled that
            return somebody, in (0, 1].
        cosine: The threshold: accept when the score is at least this.
        method: "measured" or "independent", see `Gallery.threshold_at_fpir`.
        num_subjects: Of how many subjects the gallery is that the rate holds for.
        num_probes: How many stored embeddings were searched for, each among the other subjects.
        achieved_fpir: Share of these probes that are accepted at `cosine`; their own subject excluded.

    Example:
    >>> print(IdentificationThreshold(0.01, 0.5, "measured", 100, 500, 0.008))
    cosine 0.5000 for FPIR 1 % among 100 subjects; measured: 0.8 % of 500 embeddings are accepted for somebody else
    """

    fpir: float
    cosine: float
    method: str
    num_subjects: int
    num_probes: int
    achieved_fpir: float

    def __str__(self):
        way = self.method if self.method == METHODS[0] else f"{self.method} comparisons assumed"
        return (
            f"cosine {self.cosine:.4f} for FPIR {100 * self.fpir:g} % among {self.num_subjects:,} subjects; {way}: "
            f"{100 * self.achieved_fpir:.3g} % of {self.num_probes:,} embeddings are accepted for somebody else"
        )


def threshold_at_fpir(subjects, blocks, probes, own, fpir, method, size):
    """Number of subjects, `blocks()` of (numbers, templates), (P, dim) probes of `own` → `IdentificationThreshold`."""
    if subjects < 2 or not len(probes):
        raise ValueError(f"A threshold needs embeddings of at least two subjects. Received: a gallery of {subjects}")
    if method == METHODS[0]:
        if size not in (None, subjects):
            raise ValueError(
                f"`size` must be None, or {subjects}, for method='measured'. {_validation.received('size', size)}"
            )
        checked_rate(fpir, len(probes), "fpir", "stored embeddings")
        highest = highest_impostors(blocks(), probes, own)
        cosine = threshold_at_rate(np.sort(highest)[::-1], fpir, len(probes), -1.0)
    else:
        size = subjects if size is None else size
        cosine = _independent(subjects, blocks, probes, own, fpir, size)
        highest = highest_impostors(blocks(), probes, own)
    achieved = float(np.mean(highest >= cosine))
    return IdentificationThreshold(fpir, float(cosine), method, size or subjects, len(probes), achieved)


def _independent(subjects, blocks, probes, own, fpir, size):
    """The cosine for the rate of one comparison at which `size` independent ones have the rate `fpir`."""
    if fpir == 1:
        return -1.0
    comparisons = len(probes) * (subjects - 1)
    rate = float(-np.expm1(np.log1p(-fpir) / size))
    allowed = accepted(rate, comparisons) if rate > 0 else 0
    if not 1 <= allowed <= MOST_KEPT:
        limit = "larger, for at least 1" if allowed < 1 else f"smaller, for at most {MOST_KEPT:,}"
        raise ValueError(
            f"`fpir` must be {limit} of the {comparisons:,} comparisons of enrolled people: among {size:,} subjects it "
            f"is a rate of {rate:.3g} a comparison. Received: fpir={fpir}"
        )
    top = top_impostors(blocks(), probes, own, allowed + 1)
    return threshold_at_rate(top.largest(), rate, comparisons, -1.0)
