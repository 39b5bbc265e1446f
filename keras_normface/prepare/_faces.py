"""Faces in a photo, and the transform that brings one to a template's points."""

import dataclasses

import numpy as np

from keras_normface.preprocessing import TEMPLATE_SIZES, TEMPLATES


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in an image; places are in pixels.

    Args:
        box: `(left, top, right, bottom)`.
        points: Five pairs `(x, y)`: left eye, right eye, nose, left and right corner of the mouth; left is
            left in the image.
        confidence: From 0 to 1.

    Example:
    >>> Face((10, 10, 30, 40), ((15, 20), (25, 20), (20, 25), (16, 32), (24, 32)), 0.99).area
    600
    """

    box: tuple
    points: tuple
    confidence: float

    @property
    def area(self):
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    @property
    def is_finite(self):
        """Whether all its numbers are."""
        return bool(np.isfinite([*self.box, *np.ravel(self.points), self.confidence]).all())

    def rounded(self):
        """Return the face as a log holds it, to a thousandth of a pixel."""
        box = tuple(round(float(value), 3) for value in self.box)
        points = tuple((round(float(x), 3), round(float(y), 3)) for x, y in self.points)
        return Face(box, points, round(float(self.confidence), 6))


def chosen_face(faces, size):
    """Choose the face that is large and in the middle.

    It is the one with the largest area of the box minus twice the squared distance of the box's middle from that
    of the image; the first if several have the same.

    Args:
        faces: Sequence of `Face`, not empty.
        size: `(height, width)` of the image in pixels.

    Source: ArcFace (arXiv 1801.07698), the authors' code InsightFace, which prepares its data by this rule.

    Example:
    >>> points = ((0, 0),) * 5
    >>> corner, middle = Face((0, 0, 30, 30), points, 0.9), Face((40, 40, 65, 65), points, 0.9)
    >>> chosen_face([corner, middle], (100, 100)).box
    (40, 40, 65, 65)
    """
    height, width = size

    def value(face):
        left, top, right, bottom = face.box
        return face.area - 2.0 * (((left + right - width) / 2) ** 2 + ((top + bottom - height) / 2) ** 2)

    return max(faces, key=value)


SPHEREFACE_POINTS = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
# Where `Mtcnn` finds the points of faces in the chips that dlib cuts out of ORL's photos, on average:
# python benchmarks/dlib_template.py
DLIB_POINTS = (
    (46.948, 45.818),
    (100.728, 45.549),
    (73.572, 74.685),
    (50.611, 100.274),
    (97.471, 100.342),
)
POINTS = {
    "sphereface_112x96": SPHEREFACE_POINTS,
    "arcface_112x112": tuple((x + 8.0, y) for x, y in SPHEREFACE_POINTS),
    "dlib_150x150": DLIB_POINTS,
}


def template_points(template):
    """Return the five points of a template.

    Args:
        template: "sphereface_112x96", "arcface_112x112", the same points 8 pixels further to the right, or
            "dlib_150x150", with which the points of `Mtcnn` give the part of a photo that dlib cuts out for its network
            ("face chip", padding 0.25).

    Returns:
        Float64 array `(5, 2)` of x and y in pixels, the centre of the first pixel being (0, 0). In this order:
        left eye, right eye, nose, left and right corner of the mouth; left is left in the image.

    Raises:
        ValueError: If there is no such template.

    Source: SphereFace (arXiv 1704.08063), the authors' code for aligning; ArcFace (arXiv 1801.07698), likewise; for
    dlib, fitted by us on the ORL faces (`benchmarks/dlib_template.py`).

    Example:
    >>> template_points("arcface_112x112")[0].tolist()
    [38.2946, 51.6963]
    """
    _check(template)
    return np.array(POINTS[template])


def template_size(template):
    """Return `(height, width)` in pixels of the images of a template.

    Args:
        template: "sphereface_112x96", "arcface_112x112" or "dlib_150x150".

    Raises:
        ValueError: If there is no such template.

    Example:
    >>> template_size("sphereface_112x96")
    (112, 96)
    """
    _check(template)
    return TEMPLATE_SIZES[template]


def similarity(points, target):
    """Estimate the similarity that takes points nearest to others, by least squares: scikit-image's.

    It turns, scales and shifts; it neither shears nor reflects.

    Args:
        points: Floats `(n, 2)`, x and y, not all the same.
        target: Floats `(n, 2)`.

    Returns:
        Float64 matrix `(2, 3)`, to be applied to columns (x, y, 1).

    Raises:
        ImportError: If scikit-image is not installed.
        ValueError: If the points do not determine it.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.

    Example:
    >>> similarity([[0, 0], [1, 0], [0, 1]], [[5, 5], [5, 7], [3, 5]]).round(9).tolist()
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    points, target = np.asarray(points, "float64"), np.asarray(target, "float64")
    if points.ndim != 2 or points.shape[1] != 2 or points.shape != target.shape:
        raise ValueError(f"`points` and `target` must be (n, 2). Received: shapes {points.shape} and {target.shape}")
    found = None
    if np.isfinite(points).all() and np.ptp(points, axis=0).any():
        found = _estimated(points, target)
    if found is None or not np.isfinite(found).all():
        raise ValueError(f"`points` do not determine a similarity. Received: {points.tolist()}")
    return found[:2] + 0.0  # no -0.0


def similarity_class():
    """Return `skimage.transform.SimilarityTransform`, or raise ImportError that says what to install."""
    try:
        from skimage.transform import SimilarityTransform
    except ImportError as error:
        raise ImportError("Aligning needs scikit-image: pip install 'keras-normface[align]'") from error
    return SimilarityTransform


def _estimated(points, target):
    """The matrix `(3, 3)`, or `None`."""
    transform = similarity_class()
    if hasattr(transform, "from_estimate"):  # since scikit-image 0.26
        found = transform.from_estimate(points, target)
        return found.params if found else None
    found = transform()
    return found.params if found.estimate(points, target) else None


def centred(size, template):
    """(height, width) in pixels → (2, 3) matrix of the largest centred part, scaled to the template's size."""
    height, width = template_size(template)
    scale = max(height / size[0], width / size[1])
    left, top = ((new - 1 - scale * (old - 1)) / 2 for new, old in ((width, size[1]), (height, size[0])))
    return np.array([[scale, 0.0, left], [0.0, scale, top]])


def _check(template):
    if template not in TEMPLATES:
        raise ValueError(f"`template` must be one of {list(TEMPLATES)}. Received: {template!r}")
