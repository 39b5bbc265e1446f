"""The threshold for a wanted false accept rate, with how sure it is: what a product needs beside the model."""

from __future__ import annotations

import json
import numbers
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from keras_normface.evaluation._checks import checked_labels, checked_scores
from keras_normface.evaluation.bootstrap import REPEATS, count_blocks, pair_weights, percentile_interval
from keras_normface.evaluation.index_lists import UNKNOWN
from keras_normface.evaluation.resampled_pairs import BY_PAIR, BY_SUBJECT
from keras_normface.evaluation.verification import tar_at_far

FORMAT, VERSION = "keras_normface threshold", 1


@dataclass(frozen=True)
class CalibratedThreshold:
    """Accept a pair as one subject when its cosine is at least `cosine`.

    Attributes:
        far: the wanted false accept rate, in (0, 1].
        cosine: the threshold on the cosine.
        interval: (low, high), 95 % percentile interval of the cosine, or None.
        achieved_far: share of the impostor pairs accepted at `cosine`, at most `far`.
        tar: share of the genuine pairs accepted.
        num_genuine: number of genuine pairs behind `tar`.
        num_impostor: number of impostor pairs behind `achieved_far`.
        protocol: what the pairs were.
        resampled: "subjects" or "pairs": what was drawn for the interval.

    Raises:
        ValueError: an attribute is of the wrong type or out of range.

    Example:
        >>> threshold = calibrate_threshold([0.9, 0.6, 0.75, 0.125], [1, 1, 0, 0], 0.5, protocol="toy", repeats=20)
        >>> round(threshold.cosine, 4), round(threshold.squared_distance, 4), threshold.achieved_far, threshold.tar
        (0.125, 1.75, 0.5, 1.0)
        >>> CalibratedThreshold.from_json(threshold.to_json()) == threshold
        True
    """

    far: float
    cosine: float
    interval: tuple[float, float] | None
    achieved_far: float
    tar: float
    num_genuine: int
    num_impostor: int
    protocol: str
    resampled: str = BY_SUBJECT

    def __post_init__(self):
        for name in ("far", "achieved_far", "tar"):
            _check_number(name, getattr(self, name), 0.0, 1.0)
        # The next float above the cosine 1, which accepts nothing, is a threshold too.
        _check_number("cosine", self.cosine, -1.0, 1.01)
        for name in ("num_genuine", "num_impostor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1. Received: {name}={value!r}")
        if not isinstance(self.protocol, str) or not self.protocol:
            raise ValueError(f"protocol must say what the pairs were. Received: protocol={self.protocol!r}")
        if self.resampled not in (BY_SUBJECT, BY_PAIR):
            raise ValueError(f"resampled must be {BY_SUBJECT!r} or {BY_PAIR!r}. Received: {self.resampled!r}")
        if self.interval is not None:
            if not isinstance(self.interval, (tuple, list)) or len(self.interval) != 2:
                raise ValueError(f"interval must be (low, high) or None. Received: interval={self.interval!r}")
            for end in self.interval:
                _check_number("interval", end, -1.0, 1.01)
            if self.interval[0] > self.interval[1]:
                raise ValueError(f"interval must be (low, high), low <= high. Received: interval={self.interval!r}")
            object.__setattr__(self, "interval", tuple(self.interval))

    @property
    def squared_distance(self) -> float:
        """The same threshold on the squared distance of unit embeddings, 2 - 2 cosine: accept when at most this."""
        return 2.0 - 2.0 * self.cosine

    def __str__(self) -> str:
        sure = "" if self.interval is None else f" (95% interval {self.interval[0]:.4f} to {self.interval[1]:.4f})"
        return (
            f"{self.protocol}: accept when cosine >= {self.cosine:.4f}{sure}, that is squared distance <= "
            f"{self.squared_distance:.4f}; FAR {self.achieved_far:.3g} (wanted {self.far:g}) of {self.num_impostor} "
            f"impostor pairs, TAR {100 * self.tar:.2f} % of {self.num_genuine} genuine pairs"
        )

    def to_json(self) -> str:
        """The threshold as JSON text, with cosine and squared distance both named."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self), "squared_distance": self.squared_distance}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> CalibratedThreshold:
        """Read back what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            A `CalibratedThreshold`.

        Raises:
            ValueError: the text is damaged, of another format or version, or its cosine and distance disagree.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"text must be JSON. Received: {error}") from None
        if not isinstance(content, dict) or (content.pop("format", 0), content.pop("version", 0)) != (FORMAT, VERSION):
            raise ValueError(f"text must be a JSON object of format {FORMAT!r}, version {VERSION}")
        distance = content.pop("squared_distance", None)
        if set(content) != {field.name for field in fields(cls)}:
            raise ValueError(f"text must hold the keys of a threshold. Received: {sorted(content)}")
        threshold = cls(**content)
        _check_number("squared_distance", distance, -1e-5, 4.0)
        if abs(distance - threshold.squared_distance) > 1e-9:
            raise ValueError(
                f"squared_distance must be 2 - 2 cosine, {threshold.squared_distance}. Received: {distance}"
            )
        return threshold


def calibrate_threshold(
    scores: ArrayLike,
    same: ArrayLike,
    far: float,
    *,
    left_subjects: ArrayLike | None = None,
    right_subjects: ArrayLike | None = None,
    protocol: str,
    repeats: int = REPEATS,
    seed: int = 0,
) -> CalibratedThreshold:
    """The lowest threshold on the cosine whose false accept rate is at most `far`.

    Args:
        scores: (P,) cosines of pairs.
        same: (P,) bool or 0/1, true for genuine pairs; both kinds must occur.
        far: wanted false accept rate, in (0, 1] and at least 1 / number of impostor pairs.
        left_subjects: (P,) integers or strings, the subject of each pair's one image, -1 where it is not known.
            Without the two, or with an unknown one, the interval comes from drawing pairs and may be too narrow.
        right_subjects: (P,) the subject of its other image.
        protocol: what the pairs are, for whoever reads the threshold later.
        repeats: number of draws for the interval.
        seed: of the draws.

    Returns:
        A `CalibratedThreshold`; the threshold is chosen as in `tar_at_far`, on each draw too.

    Raises:
        ValueError: scores that are no finite cosines, `far` out of range or below what the impostor pairs resolve,
            subjects that do not fit or contradict `same`.

    Example:
        >>> threshold = calibrate_threshold([0.9, 0.7, 0.2, 0.1], [1, 1, 0, 0], 0.5, protocol="toy", repeats=20)
        >>> round(threshold.cosine, 4), threshold.achieved_far, threshold.resampled
        (0.1, 0.5, 'pairs')
    """
    point = tar_at_far(scores, same, far)
    given = np.asarray(scores).dtype
    scores, same = checked_scores(scores, same)
    largest = int(np.argmax(np.abs(scores)))
    if abs(scores[largest]) > 1.0 + 1e-6:
        raise ValueError(f"scores must be cosines, in [-1, 1]. Received: scores[{largest}]={scores[largest]}")
    drawn, units = _units(left_subjects, right_subjects, same)
    interval = percentile_interval(_resampled(scores, same, far, units, given, repeats, seed))
    return CalibratedThreshold(
        far=float(far),
        cosine=point.threshold,
        interval=interval,
        achieved_far=point.achieved_far,
        tar=point.tar,
        num_genuine=point.num_genuine,
        num_impostor=point.num_impostor,
        protocol=protocol,
        resampled=drawn,
    )


def _units(left, right, same) -> tuple[str, tuple]:
    pairs = np.arange(same.size)
    by_pair = BY_PAIR, (same.size, pairs, pairs)
    if left is None and right is None:
        return by_pair
    if left is None or right is None:
        raise ValueError("left_subjects and right_subjects must be given both or not at all. Received: one of them")
    left, right = checked_labels(left, "left_subjects", same.size), checked_labels(right, "right_subjects", same.size)
    if any(labels.dtype.kind == "i" and (labels == UNKNOWN).any() for labels in (left, right)):
        return by_pair
    names, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    wrong = np.flatnonzero((left == right) != same)
    if wrong.size:
        pair = wrong[0]
        raise ValueError(
            "left_subjects and right_subjects must be equal in genuine pairs and differ in impostor pairs. "
            f"Received: same[{pair}]={bool(same[pair])} for {left[pair].item()!r} and {right[pair].item()!r}"
        )
    return BY_SUBJECT, (names.size, codes[: same.size], codes[same.size :])


def _resampled(scores, same, far, units, given, repeats, seed) -> np.ndarray:
    """(R,) threshold on each draw, NaN where a draw has no impostor pair."""
    num_units, left, right = units
    impostor = np.flatnonzero(~same)
    impostor = impostor[np.argsort(-scores[impostor])]
    ranked = scores[impostor]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    step = given.type if given in (np.float16, np.float32) else np.float64
    above = np.nextafter(ranked[ends].astype(step), step(np.inf)).astype(np.float64)
    # Where all impostors may be accepted, so may every score.
    above = np.append(above, scores.min())
    thresholds = []
    for counts in count_blocks(num_units, repeats, seed, columns=impostor.size):
        accepted = np.cumsum(pair_weights(counts, left[impostor], right[impostor]), axis=1, dtype=np.int64)
        total = accepted[:, -1:]
        with np.errstate(invalid="ignore"):
            allowed = np.count_nonzero(accepted[:, ends] / total <= far, axis=1)
        thresholds.append(np.where(total[:, 0] > 0, above[allowed], np.nan))
    return np.concatenate(thresholds)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # NaN is not in the range, and an integer of any size can be compared.
    if not number or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}]. Received: {name}={value!r}")
