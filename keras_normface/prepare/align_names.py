"""What the aligned images are called."""

import os
from collections import defaultdict

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class AlignedNames:
    """Names of aligned images, from those of the samples of a reader.

    The suffix of an image file is replaced: `a.png` becomes `a.jpg`. Where two images would become one by this,
    each of them keeps its suffix: `a.png.jpg` and `a.bmp.jpg`.

    Args:
        reader: A `Reader`.
        suffix: ".jpg" or ".png".

    Raises:
        ValueError: If a name leads out of the directory, or two images would have one name in spite of the above.

    Example:
    >>> class Names(list):
    ...     name = list.__getitem__
    >>> names = AlignedNames(Names(["p/a.png", "p/b.png", "p/b.bmp", "p/c"]), ".jpg")
    >>> [names.name(number) for number in range(4)]
    ['p/a.jpg', 'p/b.png.jpg', 'p/b.bmp.jpg', 'p/c.jpg']
    """

    def __init__(self, reader, suffix):
        self.reader, self.suffix = reader, suffix
        # Hashes, eight bytes an image, find the few candidates; only those are compared as strings.
        stems = (hash(_checked_stem(reader.name(number))) for number in range(len(reader)))
        hashes = np.fromiter(stems, "int64", len(reader))
        self._shared = self._with_several_names(np.flatnonzero(_repeated(hashes)).tolist())
        self._refuse_clashes(hashes)

    def name(self, index):
        """Return the path of an aligned image below the directory.

        Args:
            index: Number of the sample.
        """
        name = self.reader.name(index)
        stem = _stem(name)
        return (name if stem in self._shared else stem) + self.suffix

    def _with_several_names(self, candidates):
        names = defaultdict(set)
        for number in candidates:
            name = self.reader.name(number)
            names[_stem(name)].add(name)
        return {stem: several for stem, several in names.items() if len(several) > 1}

    def _refuse_clashes(self, hashes):
        whole = {name: stem for stem, names in self._shared.items() for name in names if name != stem}
        suspects = np.isin(hashes, np.fromiter(map(hash, whole), "int64", len(whole)))
        for number in np.flatnonzero(suspects).tolist():
            name = self.reader.name(number)
            stem = _stem(name)
            if stem in whole and stem not in self._shared:
                raise ValueError(
                    f"The images must have names that differ without their suffixes. Received: {stem} and {name}, "
                    f"which would both become {stem}{self.suffix}"
                )


def _stem(name):
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _checked_stem(name):
    parts = name.replace(os.sep, "/").split("/")
    if os.path.isabs(name) or os.path.splitdrive(name)[0] or "\0" in name or ".." in parts or parts[-1] in ("", "."):
        raise ValueError(f"The names of the images must be paths below the directory. Received: {name[:200]!r}")
    return _stem(name)


def _repeated(hashes):
    """Tell which numbers occur more than once."""
    order = np.sort(hashes)
    return np.isin(hashes, order[1:][order[1:] == order[:-1]])
