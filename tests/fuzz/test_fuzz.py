"""Mutants of every file that we parse: a few in the ordinary tests, a hundred thousand in `make test-fuzz`."""

import tracemalloc

import pytest

from tests.fuzz.lane import LEAST_PAST_HEADER, Failure, Parser, Tally, fuzz, kept_mutants, read_mutant
from tests.fuzz.mutants import mutate, words
from tests.fuzz.parsers import PARSERS

WHOLE, SHORT = 100_000, 60
SHARES = sum(parser.share for parser in PARSERS if not parser.absent)
ROWS = [
    pytest.param(parser, id=parser.name, marks=pytest.mark.skipif(bool(parser.absent), reason=parser.absent))
    for parser in PARSERS
]
EACH = pytest.mark.parametrize("parser", ROWS)


@EACH
def test_a_few_mutants(tmp_path, parser):
    tally = fuzz(parser, tmp_path, SHORT, seed=0)
    assert tally.past_header >= LEAST_PAST_HEADER * tally.inputs, tally


@pytest.mark.fuzz
@EACH
def test_its_share_of_a_hundred_thousand(tmp_path, parser, capsys):
    tally, seed, share = Tally(), 1, -(-WHOLE * parser.share // SHARES)
    while tally.inputs < share:  # a mutant that is the original does not count
        tally += fuzz(parser, tmp_path, int(share - tally.inputs), seed)
        seed += 1
    with capsys.disabled():
        print(f"\n{parser.name}: {tally}", end="")
    assert tally.past_header >= LEAST_PAST_HEADER * tally.inputs, tally


@EACH
def test_what_failed_once(tmp_path, parser):
    parser.write(tmp_path)
    tracemalloc.start(1)
    try:
        for file, mutant in kept_mutants(parser):
            read_mutant(parser, tmp_path, file, mutant, (tmp_path / file).read_bytes())
    finally:
        tracemalloc.stop()
    assert parser.read(tmp_path) == parser.known


def planted(parse):
    """A parser of a length, a number of rounds and that many bytes, with a fault."""

    def write(root):
        (root / "a.bin").write_bytes((4).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"data")

    def read(root):
        content = (root / "a.bin").read_bytes()
        if len(content) < 8:
            raise ValueError(f"{root / 'a.bin'} is truncated")
        length, rounds = (int.from_bytes(content[at : at + 4], "little") for at in (0, 4))
        return parse(root / "a.bin", content[8:], length, rounds)

    mutants = {"a.bin": lambda content, pick: mutate(content, words(content), pick)}
    return Parser("planted", write, read, b"data", mutants, (ValueError,), "truncated")


def sound(path, data, length, _):
    if length > len(data):
        raise ValueError(f"{path} is too short for {length} bytes")
    return data[:length]


def unchecked_length(path, data, length, rounds):
    bytearray(min(length, 1 << 28))
    return sound(path, data, length, rounds)


def unchecked_loop(path, data, length, rounds):
    for _ in range(rounds):
        pass
    return sound(path, data, length, rounds)


def quadratic_loop(path, data, length, rounds):
    steps = 100_000 if len(data) > 64 else 10  # so that none takes about as long as is allowed
    for _ in data:
        for _ in data:
            sum(range(steps))
    return sound(path, data, length, rounds)


def undocumented_error(path, data, length, rounds):
    return bytes([data[place] for place in range(min(length, 9))])


def unnamed_file(path, data, length, rounds):
    return sound("a file", data, length, rounds)


def test_the_lane_passes_a_sound_parser(tmp_path):
    tally = fuzz(planted(sound), tmp_path, 300, seed=0)
    assert tally.inputs > 250
    assert 0 < tally.accepted < tally.past_header < tally.inputs


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (unchecked_length, "bytes of memory"),
        (unchecked_loop, "TooSlow"),
        (quadratic_loop, "TooSlow"),
        (undocumented_error, "IndexError"),
        (unnamed_file, "one line that names the file"),
    ],
)
def test_the_lane_fails_on_planted_faults(tmp_path, monkeypatch, parse, message):
    monkeypatch.setattr("tests.fuzz.lane.CORPUS", tmp_path / "corpus")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(Failure, match=message) as caught:
        fuzz(planted(parse), root, 2000, seed=0)
    (kept,) = (tmp_path / "corpus" / "planted").iterdir()
    assert kept.name in str(caught.value)
    ((file, mutant),) = kept_mutants(planted(sound))
    with pytest.raises(Failure, match=message):
        replay(planted(parse), root, file, mutant)
    assert replay(planted(sound), root, file, mutant) is not None


def replay(parser, root, file, mutant):
    parser.write(root)
    tracemalloc.start(1)
    try:
        return read_mutant(parser, root, file, mutant, (root / file).read_bytes())
    finally:
        tracemalloc.stop()
