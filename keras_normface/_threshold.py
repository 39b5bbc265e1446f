"""A calibrated threshold on the cosine: made by `metrics`, stored by `inference`."""

from __future__ import annotations

import dataclasses

from keras_normface import _validation
from keras_normface._io import JsonFormat, json_text, parse_json

BY_SUBJECT = "subjects"
BY_PAIR = "pairs"


FORMAT = JsonFormat("keras_normface threshold", 1)


@dataclasses.dataclass(frozen=True)
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
        >>> threshold = CalibratedThreshold(0.5, 0.125, None, 0.5, 1.0, num_genuine=2, num_impostor=2, protocol="toy")
        >>> threshold.squared_distance
        1.75
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
            _validation.number(name, getattr(self, name), at_least=0, at_most=1)
        # The next float above the cosine 1, which accepts nothing, is a threshold too.
        _validation.number("cosine", self.cosine, at_least=-1, at_most=1.01)
        for name in ("num_genuine", "num_impostor"):
            object.__setattr__(self, name, _validation.integer(name, getattr(self, name), 1))
        if not isinstance(self.protocol, str) or not self.protocol:
            raise ValueError(f"`protocol` must say what the pairs were. Received: protocol={self.protocol!r}")
        if self.resampled not in (BY_SUBJECT, BY_PAIR):
            raise ValueError(f"`resampled` must be {BY_SUBJECT!r} or {BY_PAIR!r}. Received: {self.resampled!r}")
        if self.interval is not None:
            if not isinstance(self.interval, (tuple, list)) or len(self.interval) != 2:
                raise ValueError(f"`interval` must be (low, high) or None. Received: interval={self.interval!r}")
            for end in self.interval:
                _validation.number("interval", end, at_least=-1, at_most=1.01)
            if self.interval[0] > self.interval[1]:
                raise ValueError(f"`interval` must be (low, high), low <= high. Received: interval={self.interval!r}")
            object.__setattr__(self, "interval", tuple(self.interval))

    @property
    def squared_distance(self):
        """The same threshold on the squared distance of unit embeddings, 2 - 2 cosine: accept when at most this."""
        return 2.0 - 2.0 * self.cosine

    def __str__(self):
        sure = "" if self.interval is None else f" (95% interval {self.interval[0]:.4f} to {self.interval[1]:.4f})"
        return (
            f"{self.protocol}: accept when cosine >= {self.cosine:.4f}{sure}, that is squared distance <= "
            f"{self.squared_distance:.4f}; FAR {self.achieved_far:.3g} (wanted {self.far:g}) of {self.num_impostor} "
            f"impostor pairs, TAR {100 * self.tar:.2f} % of {self.num_genuine} genuine pairs"
        )

    def to_json(self):
        """The threshold as JSON text, with cosine and squared distance both named."""
        return json_text(self.to_dict())

    def to_dict(self):
        """The threshold as a dictionary that JSON can hold, with cosine and squared distance both named."""
        interval = None if self.interval is None else list(self.interval)
        return {
            **FORMAT.head,
            **dataclasses.asdict(self),
            "interval": interval,
            "squared_distance": self.squared_distance,
        }

    @classmethod
    def from_json(cls, text):
        """Read back what `to_json` wrote.

        Args:
            text: JSON.

        Returns:
            A `CalibratedThreshold`.

        Raises:
            ValueError: the text is damaged, of another format or version, or its cosine and distance disagree.
        """
        return cls.from_dict(parse_json(text))

    @classmethod
    def from_dict(cls, fields):
        """Make the threshold that `to_dict` described.

        Args:
            fields: dictionary, which may come from anywhere.

        Returns:
            A `CalibratedThreshold`.

        Raises:
            ValueError: it is of another format or version, lacks a key, or its cosine and distance disagree.
        """
        content = FORMAT.content(fields)
        distance = content.pop("squared_distance", None)
        if set(content) != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError(f"`fields` must hold the keys of a threshold. Received: {sorted(content)}")
        threshold = cls(**content)
        _validation.number("squared_distance", distance, at_least=-1e-5, at_most=4)
        if abs(distance - threshold.squared_distance) > 1e-9:
            raise ValueError(
                f"`squared_distance` must be 2 - 2 cosine, {threshold.squared_distance}. Received: {distance}"
            )
        return threshold
