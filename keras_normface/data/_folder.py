"""A directory with a directory of images for each identity."""

import os

import numpy as np

from keras_normface._alignment import recorded_template
from keras_normface._io import ContainedFiles
from keras_normface.data._reader import PackedNames, Reader, kept_identities, read_only
from keras_normface.preprocessing import TEMPLATE_SIZES

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class IdentityFolder(Reader):
    """Images in one directory for each identity, as CASIA-WebFace and LFW are distributed: `0000045/001.jpg`.

    Identities are numbered by the sorted names of their directories; an identity's images are in the order of
    their sorted names. An image is a file that ends in .jpg, .jpeg, .png, .bmp or .gif, in small letters or
    capitals. Hidden files and directories are skipped.

    Args:
        path: The directory.
        exclude: Names of identities to exclude, or `CASIA_LFW_OVERLAP`.

    Attributes:
        ignored: Number of other things that were found, such as `Thumbs.db`; hidden ones are not counted.
        empty_identities: Names of the directories without an image. They get no label.
        template: Name of the landmark template, if `align` wrote the directory; `image_size` is then its size.

    Raises:
        FileNotFoundError: If there is no such directory.
        NotADirectoryError: If it is a file.
        ValueError: If there are no images, a symbolic link leads out of the directory, or `exclude` holds names
            that do not occur.

    Example:
    >>> import os, tempfile
    >>> root = tempfile.mkdtemp()
    >>> for name in ["0000099/001.jpg", "0000045/002.jpg", "0000045/001.jpg", "0000045/Thumbs.db"]:
    ...     os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
    ...     with open(os.path.join(root, name), "wb") as file:
    ...         _ = file.write(name.encode())
    >>> faces = IdentityFolder(root)
    >>> faces.labels.tolist(), list(faces.identities), faces.ignored
    ([0, 0, 1], ['0000045', '0000099'], 1)
    >>> faces.sample(2)
    (b'0000099/001.jpg', 1)
    """

    def __init__(self, path, exclude=()):
        self.path = os.fspath(path)
        self._files = ContainedFiles(path)
        self.template = recorded_template(self.path)
        self.image_size = TEMPLATE_SIZES.get(self.template)
        self.ignored, self.empty_identities = 0, []
        directories = self._listed(self.path, "", want_directories=True)
        kept = kept_identities(directories, exclude)
        identities, counts = [], []
        names = self._image_names([name for name, stays in zip(directories, kept, strict=True) if stays], counts)
        self._names = PackedNames(names)
        for name, count in counts:
            (identities if count else self.empty_identities).append(name)
        if not identities:
            raise ValueError(f"`path` must hold a directory of images for each identity. Received: {self.path}")
        self.identities = PackedNames(identities)
        sizes = [count for _, count in counts if count]
        self.labels = read_only(np.repeat(np.arange(len(sizes), dtype="int32"), sizes))

    def name(self, index):
        """Return a sample's path below that of the reader.

        Args:
            index: Number of the sample.
        """
        index = self.checked_index(index)
        return os.path.join(self.identities[self.labels[index]], self._names[index])

    def _read(self, indices):
        return [self._files.read(self.name(index)) for index in indices.tolist()]

    def _image_names(self, directories, counts):
        for directory in directories:
            names = self._listed(os.path.join(self.path, directory), directory, want_directories=False)
            counts.append((directory, len(names)))
            yield from names

    def _listed(self, path, below, want_directories):
        """Return the sorted names of the directories, or of the images, in `path`; count the rest as ignored."""
        names = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    self._files.checked_path(os.path.join(below, entry.name))
                if want_directories:
                    wanted = entry.is_dir()
                else:
                    wanted = entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
                if wanted:
                    names.append(entry.name)
                else:
                    self.ignored += 1
        return sorted(names)
