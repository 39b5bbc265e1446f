"""Feeds mutants to a parser: documented errors that name the file, in bounded time and memory, and nothing else."""

import dataclasses
import hashlib
import random
import re
import signal
import tracemalloc
from pathlib import Path

SECONDS = 2.0
MEMORY_MULTIPLE, MEMORY_ALWAYS = 64, 32 << 20
LEAST_PAST_HEADER = 1 / 3
CORPUS = Path(__file__).parent / "corpus"


@dataclasses.dataclass(frozen=True)
class Parser:
    """What is fuzzed.

    `write(root)` makes a valid file or directory, `read(root)` returns what was read of it, `known` is that value, and
    `mutants` maps each file to what makes a mutant of its bytes with a `random.Random`.
    """

    name: str
    write: object
    read: object
    known: object
    mutants: dict
    errors: tuple
    header: str
    names_file: bool = True
    share: float = 1.0  # of the mutants, less for parsers that are slow
    absent: str = ""  # why it cannot be run here


class TooSlow(BaseException):
    """An input took longer than `SECONDS` of the processor."""


class Failure(AssertionError):
    """An input met an undocumented error, or took too much time or memory."""


@dataclasses.dataclass
class Tally:
    """How many mutants were read, refused, and got past the header."""

    inputs: int = 0
    accepted: int = 0
    past_header: int = 0

    def __add__(self, other):
        return Tally(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __str__(self):
        return f"{self.inputs} mutants, {self.accepted} read, {self.past_header / self.inputs:.0%} past the header"


def fuzz(parser, root, count, seed):
    """Read `count` mutants; `Failure` for the first that is not as documented. Return a `Tally`."""
    parser.write(root)
    assert parser.read(root) == parser.known, f"{parser.name}: the seed is not read as what it is"
    pick, tally = random.Random(f"{parser.name} {seed}"), Tally()
    originals = {file: (root / file).read_bytes() for file in parser.mutants}
    tracemalloc.start(1)
    try:
        for _ in range(count):
            file = pick.choice(list(originals))
            mutant = parser.mutants[file](originals[file], pick)
            if mutant != originals[file]:
                _count(tally, *read_mutant(parser, root, file, mutant, originals[file]))
    finally:
        tracemalloc.stop()
    return tally


def _count(tally, accepted, past_header):
    tally.inputs += 1
    tally.accepted += accepted
    tally.past_header += past_header


def read_mutant(parser, root, file, mutant, original):
    """Read one mutant of a file, and put the original back. Return whether it was read, and got past the header."""
    (root / file).write_bytes(mutant)
    error, before = None, tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        with _limited_time():
            parser.read(root)
    except parser.errors as documented:
        error = documented
    except (Exception, TooSlow) as undocumented:
        raise _failure(parser, file, mutant, f"{type(undocumented).__name__}: {undocumented}") from undocumented
    finally:
        (root / file).write_bytes(original)
    peak, bound = tracemalloc.get_traced_memory()[1] - before, MEMORY_MULTIPLE * len(mutant) + MEMORY_ALWAYS
    if peak > bound:
        raise _failure(parser, file, mutant, f"{peak} bytes of memory, more than {bound}")
    message = str(error)
    names = (str(root), *(file.rsplit("/", 1)[-1] for file in parser.mutants))
    named = not parser.names_file or ("\n" not in message and any(name in message for name in names))
    if error is not None and not (message and named):
        raise _failure(parser, file, mutant, f"the error is not one line that names the file: {message}")
    return error is None, error is None or not re.search(parser.header, message)


class _limited_time:
    """Raises `TooSlow` inside what takes longer, counted by the processor, since others may use it too."""

    def __enter__(self):
        # The handler stays: a signal that comes after the end would end the process.
        self.running = True
        signal.signal(signal.SIGPROF, self.stop)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def __exit__(self, *_):
        self.running = False
        signal.setitimer(signal.ITIMER_PROF, 0)

    def stop(self, *_):
        if self.running:
            raise TooSlow(f"more than {SECONDS} s")


def _failure(parser, file, mutant, what):
    """Keep the mutant, and return the error that says where."""
    kept = CORPUS / parser.name / f"{file.replace('/', '__')}@{hashlib.sha256(mutant).hexdigest()[:12]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(mutant)
    return Failure(f"{parser.name}, {len(mutant)} bytes of {file}: {what}. Kept as {kept}")


def kept_mutants(parser):
    """Yield pairs of a file of the parser and a mutant that failed once."""
    for kept in sorted((CORPUS / parser.name).glob("*@*")):
        yield kept.name.rsplit("@", 1)[0].replace("__", "/"), kept.read_bytes()
