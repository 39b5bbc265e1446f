"""A directory with a directory of images for each identity."""

import os

import numpy as np

from keras_normface._alignment import RECORDS, recorded_template
from keras_normface._io import ContainedFiles
from keras_normface.data._reader import PackedNames, Reader, kept_identities, read_only
from keras_normface.preprocessing import TEMPLATE_SIZES

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif")
PHOTO_EXTENSIONS = (*EXTENSIONS, ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")


class IdentityFolder(Reader):
    """Images in one directory for each identity, as CASIA-WebFace and LFW are distributed: `0000045/001.jpg`.

    Identities are numbered by the sorted names of their directories; an identity's images are in the order of
    their sorted names. An image is a file that ends in one of `extensions`, in small letters or capitals. Hidden files
    and directories are skipped, and so are the files that `align` leaves beside the faces.

    Args:
        path: The directory.
        exclude: Names of identities to exclude, or `CASIA_LFW_OVERLAP`.
        extensions: Endings of images, with their dots, in small letters. `EXTENSIONS` (.jpg .jpeg .jpe .jfif .png .bmp
            .gif) are those that training decodes, `PHOTO_EXTENSIONS` those that `align_images` reads: also .webp .tif
            .tiff .ppm .pgm .pbm .pnm.

    Attributes:
        ignored: Paths of the other files and directories that were found, such as `Ada/Thumbs.db` or `Ada/1.webp`.
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
    >>> faces.labels.tolist(), list(faces.identities), list(faces.ignored)
    ([0, 0, 1], ['0000045', '0000099'], ['0000045/Thumbs.db'])
    >>> faces.sample(2)
    (b'0000099/001.jpg', 1)
    """

    def __init__(self, path, exclude=(), extensions=EXTENSIONS):
        self.path, self._extensions = os.fspath(path), tuple(extensions)
        self._files = ContainedFiles(path)
        self.template = recorded_template(self.path)
        self.image_size = TEMPLATE_SIZES.get(self.template)
        self.empty_identities, ignored = [], []
        directories = self._listed(self.path, "", ignored, want_directories=True)
        kept = kept_identities(directories, exclude)
        identities, counts = [], []
        directories = [name for name, stays in zip(directories, kept, strict=True) if stays]
        self._names = PackedNames(self._image_names(directories, counts, ignored))
        self.ignored = PackedNames(ignored)
        for name, count in counts:
            (identities if count else self.empty_identities).append(name)
        if not identities:
            others = f", with {len(ignored)} other files such as {ignored[-1]}" if ignored else ""
            raise ValueError(f"`path` must hold a directory of images for each identity. Received: {self.path}{others}")
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

    def _image_names(self, directories, counts, ignored):
        for directory in directories:
            names = self._listed(os.path.join(self.path, directory), directory, ignored)
            counts.append((directory, len(names)))
            yield from names

    def _listed(self, path, below, ignored, want_directories=False):
        """Return the sorted names of the directories, or of the images, in `path`; add the rest to `ignored`."""
        names, others = [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink():
                    self._files.checked_path(os.path.join(below, entry.name))
                if want_directories:
                    wanted = entry.is_dir()
                else:
                    wanted = entry.name.lower().endswith(self._extensions) and entry.is_file()
                if wanted:
                    names.append(entry.name)
                elif below or entry.name not in RECORDS:
                    others.append(os.path.join(below, entry.name))
        ignored += sorted(others)
        return sorted(names)
