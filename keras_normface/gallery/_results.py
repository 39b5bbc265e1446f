"""What a gallery answers: candidates, what became of images that were to be enrolled, and how it is searched."""

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


@dataclasses.dataclass(frozen=True)
class IndexStatus:
    """Whether a gallery is searched by an index, and what that is worth.

    Attributes:
        num_subjects: How many subjects the gallery has.
        num_indexed: Of how many the index has a template; the others are searched exactly beside it.
        recall: Measured when the index was built: which share of the five nearest other subjects of `num_probes` of
            the gallery's own templates a search by the index finds. `None` before that.
        target_recall: The least recall of an index that is used.
        num_probes: How many templates were searched for.
        width: How many templates the index looks at on its way to a probe; `None` if it is not used.
        seconds: How long building and measuring took so far.
        reason: Why the search is exact; an empty text if the index is used.
        in_use: Whether searches go by the index.

    Example:
    >>> print(IndexStatus(100_000, 100_000, 0.9945, 0.99, 256, 256, 31.4, "", True))
    index of 100,000 of 100,000 subjects; recall 99.45 % of the five nearest others of 256 of them; built in 31.4 s
    >>> print(IndexStatus(90, 0, None, 0.99, 0, None, 0.0, "it is small", False))
    exact search among 90 subjects: it is small
    """

    num_subjects: int
    num_indexed: int
    recall: float | None
    target_recall: float
    num_probes: int
    width: int | None
    seconds: float
    reason: str
    in_use: bool

    def __str__(self):
        found = "not measured"
        if self.recall is not None:
            found = f"{100 * self.recall:.2f} % of the five nearest others of {self.num_probes:,} of them"
        if self.in_use:
            return (
                f"index of {self.num_indexed:,} of {self.num_subjects:,} subjects; recall {found}; "
                f"built in {self.seconds:.1f} s"
            )
        found = "" if self.recall is None else f", {found}, {100 * self.target_recall:g} % are wanted"
        return f"exact search among {self.num_subjects:,} subjects: {self.reason}{found}"
