"""Pairs for verification out of one's own images, drawn by a stated rule."""

import hashlib
import math
import os
from collections import defaultdict

RULE = (
    "identities shuffled and dealt to the folds, first those with two images or more; in each fold genuine pairs: an "
    "identity at random, then two of its images, and impostor pairs: two identities at random, then an image of each; "
    "no pair twice"
)


def make_pairs(reader, seed=0, folds=10, pairs_per_fold=300):
    """Draw genuine and impostor pairs from images of identities, in folds that share no identity.

    The rule: identities are shuffled and dealt to the folds in turns, first those with at least two images, then the
    others. In each fold, a genuine pair is an identity drawn from those that have undrawn pairs, then one of these; an
    impostor pair is two identities drawn from the twos that have undrawn pairs, then one of these. All draws have equal
    chances and follow from SHA-256 of the seed and the number of the draw: the same images and the same seed give the
    same pairs on every machine.

    Args:
        reader: A `Reader`, such as an `IdentityFolder`.
        seed: Integer.
        folds: Number of folds, at least 2.
        pairs_per_fold: Number of genuine pairs in each fold, and of impostor pairs.

    Returns:
        List of (left image, right image, fold, left identity, right identity), by fold, genuine pairs first, for
        `write_pair_list`. Images are called as `reader.name` calls them.

    Raises:
        ValueError: If a number is too small, or there are too few identities or images; it says how many there are.

    Example:
    >>> import os, tempfile
    >>> from keras_normface.data import IdentityFolder
    >>> root = tempfile.mkdtemp()
    >>> for name in ["Ada", "Bob", "Eve", "Joe"]:
    ...     os.mkdir(os.path.join(root, name))
    ...     for number in range(3):
    ...         open(os.path.join(root, name, f"{number}.jpg"), "wb").close()
    >>> pairs = make_pairs(IdentityFolder(root), seed=0, folds=2, pairs_per_fold=2)
    >>> [fold for _, _, fold, _, _ in pairs], [a == b for _, _, _, a, b in pairs]
    ([0, 0, 0, 0, 1, 1, 1, 1], [True, True, False, False, True, True, False, False])
    """
    for name, value, least in (("folds", folds, 2), ("pairs_per_fold", pairs_per_fold, 1)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
    images = defaultdict(list)
    for number, label in enumerate(reader.labels.tolist()):
        images[label].append(number)
    draws = _Draws(seed)
    dealt = _deal(images, folds, draws)
    for fold, labels in enumerate(dealt):
        _check_enough(fold, [len(images[label]) for label in labels], pairs_per_fold, folds, len(reader))
    found = []
    for fold, labels in enumerate(dealt):
        for draw in (_genuine, _impostor):
            for (left, of_left), (right, of_right) in draw(labels, images, pairs_per_fold, draws):
                named = (reader.name(image).replace(os.sep, "/") for image in (left, right))
                found.append((*named, fold, str(reader.identities[of_left]), str(reader.identities[of_right])))
    return found


def _deal(images, folds, draws):
    shuffled = sorted(images)
    deck = _Deck(len(shuffled))
    shuffled = [shuffled[deck.draw(draws)] for _ in range(len(shuffled))]
    ordered = sorted(shuffled, key=lambda label: len(images[label]) < 2)
    return [ordered[fold::folds] for fold in range(folds)]


def _check_enough(fold, counts, wanted, folds, total):
    genuine = sum(count * (count - 1) // 2 for count in counts)
    impostor = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    if min(genuine, impostor) < wanted:
        raise ValueError(
            f"`pairs_per_fold` must be at most the number of pairs of each kind in each fold. Received: "
            f"pairs_per_fold={wanted}, folds={folds} for {total} images; fold {fold} has {len(counts)} identities and "
            f"{sum(counts)} images, which make {genuine} genuine and {impostor} impostor pairs"
        )


def _genuine(labels, images, wanted, draws):
    """Yield pairs of (image, identity), of one identity each."""
    sizes = [len(images[label]) for label in labels]
    for group, pair in _drawn(len(labels), lambda g: math.comb(sizes[g], 2), wanted, draws):
        label = labels[group]
        yield tuple((images[label][place], label) for place in _two(pair))


def _impostor(labels, images, wanted, draws):
    """Yield pairs of (image, identity), of two identities each."""

    def size(group):
        first, second = _two(group)
        return len(images[labels[first]]) * len(images[labels[second]])

    for group, pair in _drawn(math.comb(len(labels), 2), size, wanted, draws):
        first, second = (labels[place] for place in _two(group))
        left, right = divmod(pair, len(images[second]))
        yield (images[first][left], first), (images[second][right], second)


def _drawn(groups, size, wanted, draws):
    """Yield `wanted` times a group that is not used up, and one of its numbers below `size(group)`, none twice."""
    left, decks = _Deck(groups), {}
    while wanted:
        place = draws.below(left.size)
        group = left.card(place)
        deck = decks.setdefault(group, _Deck(size(group)))
        if deck.size:
            yield group, deck.draw(draws)
            wanted -= 1
        if not deck.size:
            left.take(place)


def _two(number):
    """Return the two numbers i < j of pair `number` in the order (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    larger = (1 + math.isqrt(1 + 8 * number)) // 2
    return number - larger * (larger - 1) // 2, larger


class _Deck:
    """The numbers from 0 to size - 1, of which each is drawn once; takes memory for what was drawn only."""

    def __init__(self, size):
        self.size, self._moved = size, {}

    def card(self, place):
        return self._moved.get(place, place)

    def take(self, place):
        self.size -= 1
        card, last = self.card(place), self._moved.pop(self.size, self.size)
        if place != self.size:
            self._moved[place] = last
        return card

    def draw(self, draws):
        return self.take(draws.below(self.size))


class _Draws:
    """Random integers that follow from a seed, on every machine and in every version of every library."""

    def __init__(self, seed):
        self._seed, self._number = seed, 0

    def below(self, count):
        digest = hashlib.sha256(f"{self._seed} {self._number}".encode()).digest()
        self._number += 1
        return int.from_bytes(digest, "big") % count
