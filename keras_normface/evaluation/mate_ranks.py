"""At which rank each mate comes among millions of distractors, counting only what can matter."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.score_tails import TIE

_ROW_GAP = 4.0
"""Keys are score + 4 * row: cosines differ by 2 at most, so rows never mix."""


class MateRanks:
    """Counts, for each genuine score, the distractors of its probe that score at least as high.

    A genuine score that has met `deepest` of them is no longer counted: its rank is known to lie beyond. So a few
    bad images do not make every distractor count.

    Args:
        probes: (K,) the probe of each genuine score, 0..num_probes-1.
        scores: (K,) float32 genuine scores.
        num_probes: how many probes there are.
        deepest: the largest rank that must be exact.

    Example:
        >>> import numpy as np
        >>> ranks = MateRanks(np.array([0, 0, 1]), np.float32([0.9, 0.1, 0.5]), 2, deepest=3)
        >>> ranks.add(np.array([0, 0, 1]), np.float32([0.2, 0.95, 0.5]))
        >>> ranks.ranks().tolist()
        [2, 3, 2]
    """

    def __init__(self, probes: np.ndarray, scores: np.ndarray, num_probes: int, deepest: int):
        scores = np.float32(scores) - TIE
        # Each probe's row begins with a sentinel, for distractors that are below all its genuine scores.
        rows = np.concatenate([np.arange(num_probes), probes])
        values = np.concatenate([np.full(num_probes, -np.inf, np.float32), scores])
        order = np.lexsort((values, rows))
        self._slot = np.empty(order.size, np.int64)
        self._slot[order] = np.arange(order.size)
        self._rows, self._values = rows[order], values[order]
        self._keys = np.maximum(self._values, -2.0) + _ROW_GAP * self._rows
        self._last = np.searchsorted(self._rows, np.arange(num_probes), side="right") - 1
        self._counts = np.zeros(order.size, np.int64)
        self._deepest = deepest
        self.floor = np.empty(num_probes, np.float32)
        """(num_probes,): scores of a probe below it change no rank of at most `deepest`."""
        self.raise_floor()

    def add(self, probes: np.ndarray, scores: np.ndarray) -> None:
        """Count distractors.

        Args:
            probes: (C,) probe of each score.
            scores: (C,) float32; those below the probe's `floor` may be left out.
        """
        keys = scores + _ROW_GAP * probes
        slots = np.searchsorted(self._keys, keys, side="right") - 1
        self._counts += np.bincount(slots, minlength=self._counts.size)

    def raise_floor(self) -> None:
        """Let `floor` follow what has been counted."""
        done = (self._beaten() >= self._deepest) | np.isneginf(self._values)
        values = np.where(done, np.float32(np.inf), self._values)
        self.floor = np.minimum.reduceat(values, np.append(0, self._last[:-1] + 1))

    def ranks(self) -> np.ndarray:
        """(K,) int64 ranks in the order in which the genuine scores came; exact up to `deepest`, else larger."""
        return 1 + self._beaten()[self._slot[self._last.size :]]

    def _beaten(self) -> np.ndarray:
        below = np.cumsum(self._counts)
        return below[self._last][self._rows] - below + self._counts
