"""Pairs out of one's own images: the rule's promises, and the command."""

import hashlib
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from keras_normface.cli._app import app
from keras_normface.data import IdentityFolder, Reader
from keras_normface.protocols import make_pairs, read_pair_list, write_pair_list
from keras_normface.protocols.pair_drawing import _two
from tests.support import faces


class Names(Reader):
    """A reader of `counts[i]` images of identity i, without images."""

    path = "memory"

    def __init__(self, counts):
        self.identities = [f"person {number}" for number in range(len(counts))]
        self.labels = np.repeat(np.arange(len(counts), dtype="int32"), counts)

    def name(self, index):
        return f"{self.identities[self.labels[index]]}/{index}.jpg"

    def _read(self, indices):
        raise NotImplementedError


def check(pairs, counts, folds, wanted):
    """Every promise that the rule makes, looked at pair by pair."""
    assert [fold for _, _, fold, _, _ in pairs] == [fold for fold in range(folds) for _ in range(2 * wanted)]
    for fold in range(folds):
        mine = pairs[2 * wanted * fold : 2 * wanted * (fold + 1)]
        assert [a == b for _, _, _, a, b in mine] == [True] * wanted + [False] * wanted
    fold_of = {}
    for left, right, fold, of_left, of_right in pairs:
        assert left != right
        for image, identity in ((left, of_left), (right, of_right)):
            assert image.split("/")[0] == identity
            assert fold_of.setdefault(identity, fold) == fold
    assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs)
    assert {pair[3] for pair in pairs} <= {f"person {number}" for number in range(len(counts))}


class Lists:
    """Draws out of lists that are written out: the drawn one's place is taken by the last."""

    def __init__(self, seed):
        self.seed, self.number = seed, 0

    def place(self, cards):
        digest = hashlib.sha256(f"{self.seed} {self.number}".encode()).hexdigest()
        self.number += 1
        return int(digest, 16) % len(cards)

    @staticmethod
    def take(cards, place):
        card, cards[place] = cards[place], cards[-1]
        cards.pop()
        return card

    def draw(self, groups, wanted):
        """`groups` is a list of lists."""
        found = []
        while len(found) < wanted:
            place = self.place(groups)
            if groups[place]:
                found.append(self.take(groups[place], self.place(groups[place])))
            if not groups[place]:
                self.take(groups, place)
        return found


def slow_pairs(counts, seed, folds, wanted):
    """The rule by lists of all pairs; `None` if there are too few."""
    numbers = iter(range(sum(counts)))
    people = [[(f"person {p}/{next(numbers)}.jpg", f"person {p}") for _ in range(c)] for p, c in enumerate(counts)]
    lists, cards, shuffled = Lists(seed), [person for person in people if person], []
    while cards:
        shuffled.append(lists.take(cards, lists.place(cards)))
    ordered = [p for p in shuffled if len(p) > 1] + [p for p in shuffled if len(p) == 1]
    kinds = []
    for fold in range(folds):
        mine = ordered[fold::folds]
        genuine = [[(p[i], p[j]) for j in range(len(p)) for i in range(j)] for p in mine]
        impostor = [[(a, b) for a in mine[i] for b in mine[j]] for j in range(len(mine)) for i in range(j)]
        kinds += [(fold, genuine), (fold, impostor)]
    if any(sum(map(len, groups)) < wanted for _, groups in kinds):
        return None
    drawn = [(fold, pair) for fold, groups in kinds for pair in lists.draw(groups, wanted)]
    return [(a, b, fold, of_a, of_b) for fold, ((a, of_a), (b, of_b)) in drawn]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=14), st.integers(2, 3), st.integers(1, 6), st.integers(0, 9))
def test_any_counts(counts, folds, wanted, seed):
    expected = slow_pairs(counts, seed, folds, wanted)
    if expected is None:
        with pytest.raises(ValueError, match=f"pairs_per_fold={wanted}"):
            make_pairs(Names(counts), seed, folds, wanted)
        return
    check(expected, counts, folds, wanted)
    assert make_pairs(Names(counts), seed, folds, wanted) == expected


def test_all_pairs_that_there_are():
    # Two folds of two identities with three images: 3 + 3 genuine and 3 * 3 impostor pairs in each.
    pairs = make_pairs(Names([3, 3, 3, 3]), 5, 2, 6)
    check(pairs, [3] * 4, 2, 6)
    for fold in range(2):
        genuine = {frozenset(pair[:2]) for pair in pairs if pair[2] == fold and pair[3] == pair[4]}
        people = {pair[3] for pair in pairs if pair[2] == fold}
        images = [f"{p}/{i}.jpg" for p in people for i in range(3 * int(p[7:]), 3 * int(p[7:]) + 3)]
        all_pairs = itertools.combinations(images, 2)
        assert genuine == {frozenset(two) for two in all_pairs if two[0].split("/")[0] == two[1].split("/")[0]}


def test_the_rule_stays_as_it_is():
    pairs = make_pairs(Names([3, 1, 2, 4, 2]), 0, 2, 1)
    assert pairs == [
        ("person 2/4.jpg", "person 2/5.jpg", 0, "person 2", "person 2"),
        ("person 4/11.jpg", "person 1/3.jpg", 0, "person 4", "person 1"),
        ("person 3/8.jpg", "person 3/9.jpg", 1, "person 3", "person 3"),
        ("person 0/0.jpg", "person 3/9.jpg", 1, "person 0", "person 3"),
    ]


def test_too_few_say_how_many():
    with pytest.raises(ValueError, match="make 6 genuine and 9 impostor pairs") as caught:
        make_pairs(Names([3, 3, 3, 3]), 0, 2, 7)
    assert "for 12 images; fold 0 has 2 identities and 6 images" in str(caught.value)
    with pytest.raises(ValueError, match="folds=10 for 3 images; fold 0 has 1 identities and 3 images"):
        make_pairs(Names([3]), 0)
    with pytest.raises(ValueError, match="folds=1"):
        make_pairs(Names([3]), 0, folds=1)
    with pytest.raises(ValueError, match="pairs_per_fold=0"):
        make_pairs(Names([3]), 0, pairs_per_fold=0)


def test_draws_have_equal_chances():
    # One fold's genuine pair out of identities with 2 and 4 images: the identity by halves, each of six pairs alike.
    counts = {}
    for seed in range(1500):
        first = make_pairs(Names([2, 4, 2, 4]), seed, 2, 1)[0]
        counts[first[:2]] = counts.get(first[:2], 0) + 1
    big = [count for (left, _), count in counts.items() if left.split("/")[0] in ("person 1", "person 3")]
    small = [count for (left, _), count in counts.items() if left.split("/")[0] in ("person 0", "person 2")]
    assert (len(big), len(small)) == (12, 2)
    # Binomial(1500, 1/2) and (1500, 1/24): five standard deviations.
    assert abs(sum(small) - 750) < 97
    assert max(abs(count - 62.5) for count in big) < 39


def test_numbers_of_pairs():
    expected = sorted(itertools.combinations(range(40), 2), key=lambda pair: (pair[1], pair[0]))
    assert [_two(number) for number in range(len(expected))] == expected
    assert _two(10**30) == (10**30 - _two(10**30)[1] * (_two(10**30)[1] - 1) // 2, _two(10**30)[1])


def test_many_identities_take_little_time():
    pairs = make_pairs(Names([20] * 20_000), 1)
    check(pairs, [20] * 20_000, 10, 300)


def call(*arguments):
    return CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])


def test_the_command(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 6, 4)
    out = tmp_path / "pairs.tsv"
    result = call("pairs", photos, out, "--folds", "2", "--pairs-per-fold", "5", "--seed", "3")
    assert result.exit_code == 0, result.output
    cells = [line.strip("│ ").split("│") for line in result.stdout.splitlines() if "│" in line]
    table = {name.strip(): value.strip() for name, value in cells}
    protocol = read_pair_list(out)
    assert (table["pairs"], table["folds"], table["identities"]) == ("20", "2", "6")
    assert table["images"] == str(len(protocol.images))
    assert protocol.name == "pairs, 20 pairs, 2 folds"
    assert all((photos / image).is_file() for image in protocol.images)
    text = out.read_text()
    assert "# Seed 3, 2 folds of 5 genuine and 5 impostor pairs, from 24 images of 6 identities." in text
    assert "# Rule: identities shuffled" in text
    write_pair_list(tmp_path / "again.tsv", make_pairs(IdentityFolder(photos), 3, 2, 5))
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        line for line in (tmp_path / "again.tsv").read_text().splitlines() if line[0] != "#"
    ]


def test_the_command_on_a_list_and_with_an_exclusion(tmp_path):
    (tmp_path / "listed").mkdir()
    path = faces.write_list(tmp_path / "listed" / "list.txt", 5, 4)
    out = tmp_path / "pairs.tsv"
    result = call("pairs", path, out, "--folds", "2", "--pairs-per-fold", "2", "--exclude", "1")
    assert result.exit_code == 0, result.output
    images = read_pair_list(out).images
    assert images
    assert not any(image.startswith("0000001/") for image in images)


def test_failures_of_the_command(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 2, 2)
    out = tmp_path / "pairs.tsv"
    result = call("pairs", photos, out)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: `pairs_per_fold` must be")
    assert not out.exists()
    out.write_text("before")
    result = call("pairs", photos, out, "--folds", "2", "--pairs-per-fold", "1")
    assert result.exit_code == 2
    assert "must not exist" in result.stderr
    assert out.read_text() == "before"
    faces.write_record_io(tmp_path / "train")
    assert "have paths" in " ".join(call("pairs", tmp_path / "train.rec", tmp_path / "x").stderr.split())
    assert call("pairs", photos, tmp_path / "x", "--root", photos).exit_code == 2
    assert call("pairs", faces.ORL / "s1" / "1.pgm", tmp_path / "x").exit_code == 2
