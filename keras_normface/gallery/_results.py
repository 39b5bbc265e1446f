"""What a gallery answers: candidates, and what became of images that were to be enrolled."""

import dataclasses

from keras_normface._io import printable


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A subject and the score of a probe.

    Attributes:
        name: Of the subject.
        score: Cosine between the probe and the subject's template, in [-1, 1].
    """

    name: str
    score: float


@dataclasses.dataclass(frozen=True)
class Identification:
    """What was found for one probe.

    Attributes:
        candidates: `Candidate`s, the highest score first; of equal ones who was enrolled first.
        threshold: The cosine from which on a probe is taken for a subject.

    Example:
    >>> found = Identification((Candidate("Ada", 0.8), Candidate("Bob", 0.2)), 0.5)
    >>> found.name, str(found)
    ('Ada', 'Ada (cosine 0.8000, threshold 0.5000)')
    >>> dataclasses.replace(found, threshold=0.9).name is None
    True
    """

    candidates: tuple[Candidate, ...]
    threshold: float

    @property
    def name(self):
        """The subject, or `None`: unknown."""
        best = self.candidates[0] if self.candidates else None
        return None if best is None or best.score < self.threshold else best.name

    def __str__(self):
        if not self.candidates:
            return "unknown (nobody is enrolled)"
        best = self.candidates[0]
        if self.name is not None:
            return f"{printable(best.name)} (cosine {best.score:.4f}, threshold {self.threshold:.4f})"
        return f"unknown (best: {printable(best.name)}, cosine {best.score:.4f} below {self.threshold:.4f})"


@dataclasses.dataclass(frozen=True)
class Enrolment:
    """What became of the images that were to be enrolled.

    Attributes:
        new: How many embeddings were stored.
        known: How many images were enrolled for their subject before.
        without_face: Names of the photos in which no face was found; only if the embedder has `no_face="nan"`.

    Example:
    >>> print(Enrolment(5, 2, ("a.jpg",)))
    5 enrolled, 2 known before, 1 without a face
    """

    new: int
    known: int
    without_face: tuple[str, ...] = ()

    def __str__(self):
        counts = (("enrolled", self.new), ("known before", self.known), ("without a face", len(self.without_face)))
        return ", ".join(f"{count:,} {what}" for what, count in counts if count or what == "enrolled")
