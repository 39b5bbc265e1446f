"""Photos in, aligned faces out: detection, choice and warp, for `align_images` and for those who keep the pixels."""

import contextlib
import warnings

from keras_normface import _validation
from keras_normface.prepare._detector import Mtcnn
from keras_normface.prepare._faces import (
    chosen_face,
    similarity,
    similarity_class,
    template_points,
    template_size,
)
from keras_normface.prepare._photos import decoded, pillow, warped


class FaceAligner:
    """Photos in, aligned faces out: what `align_images` does, in memory and without a file's compression.

    Of several faces in a photo, `chosen_face` chooses one.

    Args:
        template: Name of a template, such as "arcface_112x112".
        detect: Function from a list of uint8 RGB arrays `(height, width, 3)` of one size to a list with a list of
            `Face` for each. `None`: `Mtcnn()`. Its attribute `name`, if it has one, a text, must change whenever what
            it finds may change: results are stored under it.

    Attributes:
        template: Name of the template.
        size: `(height, width)` in pixels of the aligned faces.
        detector: `detect.name`, by which stored results are told apart, or `None`.

    Raises:
        ValueError: If there is no such template, or `detect` is not a function, or its name not a text.
        ImportError: If Pillow, scikit-image, or the default detector is not installed.

    Example:
    >>> import numpy as np
    >>> from keras_normface.prepare import Face
    >>> points = ((100, 80), (150, 80), (125, 110), (105, 140), (145, 140))
    >>> def always_there(images):
    ...     return [[Face((90, 50, 160, 150), points, 1.0)] for _ in images]
    >>> aligner = FaceAligner("arcface_112x112", detect=always_there)
    >>> (face,) = aligner([np.full((200, 250, 3), 127, "uint8")])
    >>> face.shape
    (112, 112, 3)
    """

    def __init__(self, template, *, detect=None):
        self.template, self.size = template, template_size(template)
        pillow()
        similarity_class()
        self._detect = Mtcnn() if detect is None else detect
        if not callable(self._detect):
            raise ValueError(f"`detect` must be a function of images. {_validation.received('detect', detect)}")
        self.detector = getattr(self._detect, "name", None)
        if not isinstance(self.detector, str | None):
            raise ValueError(f"`detect.name` must be a text. {_validation.received('detect.name', self.detector)}")

    @staticmethod
    def decoding():
        """Return a context in which `decode` may be called, in any thread, without warnings about odd files."""
        return strict_pillow()

    def decode(self, content):
        """Decode a photo.

        Args:
            content: Bytes of a BMP, GIF, JPEG, PNG, PPM, TIFF or WebP.

        Returns:
            uint8 RGB array `(height, width, 3)`, upright by EXIF.

        Raises:
            ValueError: If it is not an image, is corrupt, or has more pixels than Pillow's limit. The message is the
                reason.
        """
        return decoded(content)

    def __call__(self, photos):
        """Find and align the face in each photo.

        Args:
            photos: List of uint8 RGB arrays `(height, width, 3)` of any sizes.

        Returns:
            List of uint8 RGB arrays `(*size, 3)`, `None` for a photo without a face.
        """
        faces = []
        for photo, found in zip(photos, found_faces(self._detect, photos), strict=True):
            _, matrix = placed_face(found, photo.shape[:2], self.template)
            faces.append(None if matrix is None else warped(photo, matrix, self.size))
        return faces

    def every_face(self, photo):
        """Find and align all faces in one photo.

        Args:
            photo: uint8 RGB array `(height, width, 3)`.

        Returns:
            List of pairs of a `Face` and its aligned pixels, uint8 RGB `(*size, 3)`, from left to right; empty if no
            face is found.
        """
        (faces,) = found_faces(self._detect, [photo])
        faces = sorted(faces, key=lambda face: face.box[:2])
        placed = [placed_face([face], photo.shape[:2], self.template) for face in faces]
        return [(face, warped(photo, matrix, self.size)) for face, matrix in placed if matrix is not None]


def found_faces(detect, photos):
    """List of (h, w, 3) uint8, or of what has no shape → the faces of each; those of one size are detected together."""
    by_size, faces = {}, [[] for _ in photos]
    for place, photo in enumerate(photos):
        if hasattr(photo, "shape"):
            by_size.setdefault(photo.shape, []).append(place)
    for places in by_size.values():
        found = detect([photos[place] for place in places])
        if len(found) != len(places):
            raise ValueError(f"`detect` must return {len(places)} lists for as many images. Received: {len(found)}")
        for place, some in zip(places, found, strict=True):
            faces[place] = [face.rounded() for face in some if face.is_finite]
    return faces


def placed_face(faces, size, template):
    """Faces of a photo of (height, width) → the chosen one and its (2, 3) matrix, or `None` and `None`."""
    if not faces:
        return None, None
    face = chosen_face(faces, size)
    try:
        return face, similarity(face.points, template_points(template))
    except ValueError:  # the five points lie at one place: this is not a face
        return None, None


@contextlib.contextmanager
def strict_pillow():
    """Inside, Pillow's warnings about odd files are not shown, and images somewhat too large are errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", pillow().DecompressionBombWarning)
        yield
